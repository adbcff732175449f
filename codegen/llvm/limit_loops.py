"""The loops that find a machine's limits, as LLVM IR: arithmetic from registers, and memory.

In: vector lengths.  Out: the text of a module with one function.
"""

from __future__ import annotations

UNROLL = 8  # vectors in one turn of a memory loop


def fma_text(element: str, lanes: int, chains: int) -> str:
    """``fma(pointer, turns)``: `chains` accumulators of `lanes` lanes, one FMA each a turn."""
    vector = f"<{lanes} x {element}>"
    suffix = f"v{lanes}f{32 if element == 'float' else 64}"
    acc = [f"  %a{i} = phi {vector} [ %x, %entry ], [ %b{i}, %loop ]" for i in range(chains)]
    step = [
        f"  %b{i} = call {vector} @llvm.fma.{suffix}({vector} %a{i}, {vector} %x, {vector} %x)"
        for i in range(chains)
    ]
    total = [
        f"  %s{i + 1} = fadd {vector} %s{i}, %b{i + 1}" if i else f"  %s1 = fadd {vector} %b0, %b1"
        for i in range(chains - 1)
    ]
    return "\n".join(
        [
            f"declare {vector} @llvm.fma.{suffix}({vector}, {vector}, {vector})",
            "define void @fma(ptr %p, i64 %n) {",
            "entry:",
            f"  %x = load {vector}, ptr %p, align 64",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *acc,
            *step,
            "  %next = add i64 %i, 1",
            "  %more = icmp ult i64 %next, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *total,
            f"  store {vector} %s{chains - 1}, ptr %p, align 64",
            "  ret void",
            "}",
        ]
    )


def memory_text(what: str, lanes: int) -> str:
    """``copy``, ``copy_streaming`` or ``read``: f(to, from, bytes) over whole turns of vectors.

    Reading adds the vectors up, in as many sums as a turn has vectors.
    """
    vector, width = f"<{lanes} x float>", 4 * lanes
    reads = what == "read"
    sums, body, total = [], [], []
    for k in range(UNROLL):
        body.append(f"  %o{k} = add i64 %i, {k * width}")
        body.append(f"  %p{k} = getelementptr i8, ptr %from, i64 %o{k}")
        body.append(f"  %v{k} = load {vector}, ptr %p{k}, align {width}")
        if reads:
            sums.append(f"  %a{k} = phi {vector} [ zeroinitializer, %entry ], [ %b{k}, %loop ]")
            body.append(f"  %b{k} = fadd {vector} %a{k}, %v{k}")
            if k:
                before = "%b0" if k == 1 else f"%s{k - 1}"
                total.append(f"  %s{k} = fadd {vector} {before}, %b{k}")
        else:
            hint = ", !nontemporal !0" if what == "copy_streaming" else ""
            body.append(f"  %q{k} = getelementptr i8, ptr %to, i64 %o{k}")
            body.append(f"  store {vector} %v{k}, ptr %q{k}, align {width}{hint}")
    if reads:
        total.append(f"  store {vector} %s{UNROLL - 1}, ptr %to, align {width}")
    return "\n".join(
        [
            f"define void @{what}(ptr noalias %to, ptr noalias %from, i64 %n) {{",
            "entry:",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
            *sums,
            *body,
            f"  %next = add i64 %i, {UNROLL * width}",
            "  %more = icmp ult i64 %next, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *total,
            "  ret void",
            "}",
            "!0 = !{i32 1}",
        ]
    )
