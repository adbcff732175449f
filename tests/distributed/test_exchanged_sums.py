"""Sums of ranks that share no memory, as those of several hosts."""

import pytest
from ranks import run_ranks

from braze.runtime.distributed.exchanged import meetings_of

pytestmark = pytest.mark.xdist_group("ranks")


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 8, 12, 30, 31])
@pytest.mark.parametrize("elements", [0, 5, 1000])
def test_who_meets_whom(size, elements):
    """In each round what one keeps is sent by the others, and all that they share is kept by one
    of them; in the end each rank has its own part, in the order of ranks."""
    everybody = [meetings_of(rank, size, elements) for rank in range(size)]
    has = [range(elements)] * size
    for round_ in zip(*everybody, strict=True):
        for rank, meeting in enumerate(round_):
            whole = has[rank]
            for other, span in meeting.others.items():
                assert round_[other].own == span
                assert round_[other].others[rank] == meeting.own
                assert has[other] == whole
            spans = sorted([meeting.own, *meeting.others.values()], key=lambda s: (s.start, s.stop))
            assert [i for span in spans for i in range(span.start, span.stop)] == list(whole)
        has = [range(m.own.start, m.own.stop) for m in round_]
    assert has == [range(elements * r // size, elements * (r + 1) // size) for r in range(size)]


def test_sums_and_parts(tmp_path):
    """Of 2 to 6 ranks; sizes that do not divide, several pieces, and two sums at a time."""
    outcome = run_ranks(
        """
from braze.runtime.distributed import exchanged
begun = []
real = exchanged.ExchangedSum._run
def run(self, part):
    begun.append(part is None)
    return real(self, part)
exchanged.ExchangedSum._run = run
exchanged.PIECE_BYTES = 1 << 16

def data(r, n, dtype):
    return ((braze.arange(n) + 37 * r) % 64 - 20).to(dtype)

for p in (2, 3, 4, 5, 6):
    group = dist.new_group(range(p))
    if rank >= p:
        continue
    group._communicator.local = None  # as if all were on hosts of their own
    for dtype in (braze.float32, braze.float64, braze.float16, braze.bfloat16):
        n = 70_001
        x, y = data(rank, n, dtype), data(rank + 1, n, dtype)
        kept = x.clone()
        works = [dist.all_reduce(x, group=group, async_op=True),
                 dist.all_reduce(y, dist.ReduceOp.AVG, group=group, async_op=True)]
        [work.wait() for work in works]
        # Sums of small integers have no rounding, in any order.
        total = sum(data(r, n, braze.float64) for r in range(p))
        assert braze.equal(x.double(), total), (p, dtype)
        mean = sum(data(r + 1, n, braze.float64) for r in range(p)) / p
        assert braze.allclose(y.double(), mean, rtol=braze.finfo(dtype).eps * 2), (p, dtype)
        same = [None] * p
        dist.all_gather_object(same, y.double().numpy().tobytes(), group=group)
        assert all(s == same[0] for s in same)
        whole, part = data(rank, p * n, dtype), braze.zeros(n, dtype=dtype)
        before = whole.clone()
        dist.reduce_scatter_tensor(part, whole, group=group)
        total = sum(data(r, p * n, braze.float64) for r in range(p))[rank * n : (rank + 1) * n]
        assert braze.equal(part.double(), total) and braze.equal(whole, before)
assert begun.count(True) == 2 * begun.count(False) == 8 * sum(rank < p for p in range(2, 7)), begun
say("fine")
""",
        tmp_path,
        ranks=6,
    )
    for rank in range(6):
        assert outcome.lines(rank) == ["fine"]
