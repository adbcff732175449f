// The source at the left, what was chosen at the right.

// Source -------------------------------------------------------------------------------------------

function showSource() {
  const { files, lines } = state.data;
  const most = Math.max(1e-12, ...[...lines.values()].map((line) => line.seconds));
  const panes = files.map((file) => {
    let last = 0;
    const rows = [];
    for (const [number, text] of file.lines) {
      if (last && number > last + 1) rows.push(el("div", { class: "gap" }));
      last = number;
      const key = lineKey(file.path, number);
      const line = lines.get(key);
      rows.push(el("div", {
        class: line ? "row has" : "row", "data-line": key, tabindex: line ? 0 : null,
        click: line ? () => choose("line", key) : null,
      },
      el("i", {}, number),
      el("span", { class: "time", style: line ? `--w: ${(line.seconds / most).toFixed(3)}` : null }, line && line.seconds ? time(line.seconds).replace(" ", "") : ""),
      el("span", { class: "text", tip: text.length > 40 ? text.trim() : null }, text || " ")));
    }
    return el("div", { class: "file" }, el("div", { class: "bar" }, el("h2", {}, file.name), el("span", { class: "soft", tip: file.path }, `${rows.filter((r) => r.classList.contains("has")).length} lines with operations`)), rows);
  });
  $("source").replaceChildren(...(panes.length ? panes : [el("div", { class: "empty" }, "The operations of this graph have no source lines.")]));
}

function revealHottest() {
  const { lines } = state.data;
  const [key] = [...lines].reduce((a, b) => (b[1].seconds > a[1].seconds ? b : a), ["", { seconds: 0 }]);
  const row = $("source").querySelector(`[data-line="${CSS.escape(key)}"]`);
  if (row) $("source").scrollTop = row.offsetTop - $("source").offsetTop - $("source").clientHeight / 3;
}

function markSource(reveal) {
  const { lines } = related(state.chosen);
  let first = null;
  for (const row of $("source").querySelectorAll(".row.has")) {
    const on = lines.has(row.dataset.line);
    row.classList.toggle("on", on);
    if (on) first ||= row;
  }
  if (!reveal || !first || state.chosen.kind === "line" && [...lines].length === 0) return;
  const pane = $("source");
  const spot = first.getBoundingClientRect(), frame = pane.getBoundingClientRect();
  if (spot.top < frame.top + 40 || spot.bottom > frame.bottom) pane.scrollBy({ top: spot.top - frame.top - frame.height / 3 });
}

// Details ------------------------------------------------------------------------------------------

const shownParts = { loops: true, cuda: true };
const LANGUAGES = { llvm: "LLVM IR", assembly: "Assembly", cuda: "CUDA C", launches: "Launches" };

function showDetails() {
  const pane = $("details");
  if (!state.chosen) {
    pane.replaceChildren(el("div", { class: "empty" },
      el("p", {}, "Choose a line, an operation or a kernel: everything that belongs to it is marked in every pane, down to its loops and machine code."),
      el("p", {}, el("kbd", {}, "/"), " searches, ", el("kbd", {}, "Esc"), " clears, ", el("kbd", {}, "←"), " goes back with Alt.")));
    return;
  }
  const found = related(state.chosen);
  const kernels = [...found.kernels].sort((a, b) => (state.data.kernels[b].seconds || 0) - (state.data.kernels[a].seconds || 0));
  const focus = state.chosen.kind === "kernel" ? state.chosen.id : kernels[0];
  pane.replaceChildren(...[
    heading(found),
    linesPart(found), operationsPart(found), primitivesPart(found), kernelsPart(kernels),
    ...(focus === undefined ? [] : codeParts(state.data.kernels[focus], kernels.length > 1)),
  ].filter(Boolean));
  pane.scrollTop = 0;
}

function heading(found) {
  const { kind, id } = state.chosen;
  const { operations, primitives, kernels } = state.data;
  if (kind === "kernel") return kernelHeading(kernels[id]);
  const seconds = [...found.ops].reduce((total, o) => total + operations[o].seconds, 0);
  const name = kind === "line" ? `${baseName(id.slice(0, id.lastIndexOf(":")))}${id.slice(id.lastIndexOf(":"))}` : kind === "op" ? operations[id].op : primitives[id].op;
  const figures = kind === "prim" ? [["type", primitives[id].type]]
    : [["time, shared out", seconds ? time(seconds) : "–"], ["kernels", found.kernels.size], ["primitives", found.prims.size]];
  if (kind === "op" && layer(operations[id])) figures.push(["layer", layer(operations[id])]);
  return el("div", { class: "title" }, el("h3", {}, { line: "Line", op: "Operation", prim: "Primitive" }[kind]), el("h2", {}, name), figuresOf(figures));
}

function kernelHeading(kernel) {
  const moved = kernel.read + kernel.written;
  const figures = [["time", time(kernel.seconds)], ["bytes", bytes(moved)], ["flops", count(kernel.flops)]];
  if (kernel.seconds) {
    figures.push(["of the limit", percent(kernel.least / kernel.seconds)], ["GFLOP/s", (kernel.flops / kernel.seconds / 1e9).toFixed(1)], ["GB/s", (moved / kernel.seconds / 1e9).toFixed(1)]);
  }
  figures.push(["chunks", kernel.chunks || "–"], ["wave", kernel.wave], ["kind", kernel.kind]);
  return el("div", { class: "title" }, el("h3", {}, "Kernel"), el("h2", {}, kernel.name), figuresOf(figures));
}

const figuresOf = (pairs) => el("div", { class: "figures" }, pairs.map(([label, value]) => el("div", {}, el("span", {}, label), el("b", {}, value))));

function part(title, note, items) {
  if (!items.length) return null;
  return el("div", { class: "part" }, el("h3", {}, title, el("span", { class: "soft" }, note)), el("div", { class: "list" }, items));
}

function item(kind, id, text, end, dot) {
  const on = state.chosen.kind === kind && state.chosen.id === id;
  const attribute = { line: "data-to-line", op: "data-to-op", prim: "data-to-prim", kernel: "data-to-kernel" }[kind];
  return el("button", { class: on ? "item on" : "item", [attribute]: id, title: text, click: () => choose(kind, id) },
    dot ? el("span", { class: `dot ${dot}` }) : null, el("span", { class: "mono" }, text), el("span", { class: "end" }, end));
}

function linesPart(found) {
  const texts = new Map(state.data.files.flatMap((f) => f.lines.map(([n, text]) => [lineKey(f.path, n), text])));
  const items = [...found.lines].map((key) => item("line", key, (texts.get(key) || "").trim() || key, `${baseName(key.slice(0, key.lastIndexOf(":")))}${key.slice(key.lastIndexOf(":"))}`));
  return part("Source", items.length, items);
}

function operationsPart(found) {
  const items = [...found.ops].map((o) => {
    const op = state.data.operations[o];
    return item("op", o, op.text, op.gone ? `gone after ${op.gone}` : layer(op).split(".").slice(-2).join("."), operationClass(op));
  });
  return part("Operations, as written", items.length, items);
}

function primitivesPart(found) {
  const items = [...found.prims].sort((a, b) => a - b).map((p) => item("prim", p, state.data.primitives[p].text, ""));
  return part("Primitives", items.length, items);
}

function kernelsPart(ids) {
  const items = ids.map((k) => {
    const kernel = state.data.kernels[k];
    return item("kernel", k, kernel.name, time(kernel.seconds), kernelClass(kernel));
  });
  if (state.chosen.kind !== "kernel") return part("Kernels", items.length, items);
  const kernel = state.data.kernels[state.chosen.id];
  const others = [["reads from", kernel.reads], ["read by", kernel.readers]].flatMap(([label, list]) => list.map((k) => item("kernel", k, state.data.kernels[k].name, label, kernelClass(state.data.kernels[k]))));
  return part("Neighbours", others.length, others);
}

function codeParts(kernel, several) {
  const name = several ? kernel.name : "";
  const sharers = state.data.kernels.filter((k) => k.function === kernel.function).length;
  const shared = sharers > 1 ? `one function for ${sharers} kernels` : name;
  return [codePart("loops", "Loop IR", name, async () => kernel.loops),
    ...state.data.languages.map((key) => codePart(key, LANGUAGES[key], shared, async () => (await codeOf())[kernel.function][key]))];
}

function codePart(key, title, note, text) {
  const pre = el("pre", {});
  const made = el("details", { class: "part", "data-code": key }, el("summary", {}, el("h3", {}, title), el("span", {}, note)), pre);
  const show = async () => { if (!pre.firstChild) pre.append(highlighted((await text()) || "(inlined where it is called)", key === "cuda" ? CUDA_TOKENS : TOKENS)); };
  made.addEventListener("toggle", () => { shownParts[key] = made.open; if (made.open) show(); });
  made.open = Boolean(shownParts[key]);
  return made;
}
