"""Collectives and messages between real ranks, held against NumPy."""

import pytest
from ranks import run_ranks

pytestmark = pytest.mark.xdist_group("ranks")


def test_collectives_of_every_dtype(tmp_path):
    """One program checks them all: to start four ranks takes longer than anything they do here."""
    run_ranks(
        """
        from braze.ir import dtypes
        R = dist.ReduceOp

        def data(of, dtype, shape=(3, 2)):
            values = np.random.default_rng(of).integers(1, 4, shape)
            if dtype.kind == "bool":
                values = values > 2
            return braze.tensor(values.tolist()).to(dtype)

        def same(tensor, array, what):
            got = tensor.detach().to(braze.complex128).numpy()
            wanted = np.asarray(array).astype(np.complex128).reshape(got.shape)
            assert np.array_equal(got, wanted), (what, got, wanted)

        def wide(of, dtype):
            return data(of, dtype).to(braze.complex128).numpy()

        for dtype in dtypes.ALL:
            all = np.stack([wide(r, dtype) for r in range(size)])
            if dtype.kind == "bool":
                folded = {R.SUM: all.any(0), R.PRODUCT: all.all(0), R.MIN: all.all(0),
                          R.MAX: all.any(0), R.BXOR: all.sum(0).real.astype(int) % 2}
            else:
                folded = {R.SUM: all.sum(0), R.PRODUCT: all.prod(0)}
                if not dtype.is_complex:
                    folded |= {R.MIN: all.real.min(0), R.MAX: all.real.max(0)}
                if dtype.is_floating_point or dtype.is_complex:
                    folded[R.AVG] = all.sum(0) / size
                else:
                    whole = all.real.astype(np.int64)
                    folded |= {R.BAND: np.bitwise_and.reduce(whole),
                               R.BOR: np.bitwise_or.reduce(whole),
                               R.BXOR: np.bitwise_xor.reduce(whole)}
            for op, wanted in folded.items():
                x = data(rank, dtype)
                assert dist.all_reduce(x, op) is None
                same(x, wanted, (dtype, op))
                x = data(rank, dtype)
                dist.reduce(x, dst=2, op=op)
                same(x, wanted if rank == 2 else all[rank], (dtype, op, "reduce"))
            for op in set(R) - set(folded) - {R.PREMUL_SUM}:
                if (op, dtype.kind) != (R.BAND, "bool") and (op, dtype.kind) != (R.BOR, "bool"):
                    try:
                        dist.all_reduce(data(rank, dtype), op)
                    except TypeError as error:
                        assert "cannot use ReduceOp" in str(error)
                    else:
                        raise AssertionError((dtype, op))
            x = data(rank, dtype)
            dist.broadcast(x, src=1)
            same(x, all[1], dtype)
            parts = [data(9, dtype) for _ in range(size)]
            dist.all_gather(parts, data(rank, dtype))
            same(braze.stack(parts), all, dtype)
            whole = data(9, dtype, (size * 3, 2))
            dist.all_gather_into_tensor(whole, data(rank, dtype))
            same(whole, all, dtype)
            dist.gather(data(rank, dtype), parts if rank == 3 else None, dst=3)
            x = data(9, dtype)
            dist.scatter(x, [data(10 + r, dtype) for r in range(size)] if rank == 0 else None)
            same(x, wide(10 + rank, dtype), dtype)
        say("fine")
        """,
        tmp_path,
    )


def test_the_other_collectives(tmp_path):
    outcome = run_ranks(
        """
        base = np.arange(8, dtype=np.float32)
        x, out = braze.from_numpy(base + 100 * rank), braze.zeros(2)
        dist.reduce_scatter_tensor(out, x)
        assert out.tolist() == (4 * base + 600)[2 * rank : 2 * rank + 2].tolist()
        dist.reduce_scatter(out, list(x.chunk(4)), dist.ReduceOp.AVG)
        assert out.tolist() == (base + 150)[2 * rank : 2 * rank + 2].tolist()

        out = braze.zeros(8)
        dist.all_to_all_single(out, x)
        wanted = np.concatenate([base[2 * rank : 2 * rank + 2] + 100 * r for r in range(4)])
        assert out.tolist() == wanted.tolist()
        # Rank r sends i + 1 rows to rank i.
        x = braze.full((10, 3), float(rank))
        out = braze.zeros(4 * (rank + 1), 3)
        dist.all_to_all_single(out, x, [rank + 1] * 4, [1, 2, 3, 4])
        assert out[:, 1].tolist() == [float(r) for r in range(4) for _ in range(rank + 1)]
        outs = [braze.zeros(r + 1, rank + 1) for r in range(4)]
        dist.all_to_all(outs, [braze.full((rank + 1, r + 1), 10.0 * rank + r) for r in range(4)])
        assert [o.unique().tolist() for o in outs] == [[10.0 * r + rank] for r in range(4)]

        # Into parts of tensors, in order in memory or not, and what others see of the memory.
        x = braze.zeros(4, 4)
        array = x.numpy()
        dist.all_reduce(x[1].fill_(1))
        dist.all_reduce(x[:, 3].fill_(rank))
        wanted = np.zeros((4, 4)); wanted[1] = 4; wanted[:, 3] = 6
        assert np.array_equal(array, wanted) and x.tolist() == wanted.tolist()
        y = x * 1 + 1
        dist.all_reduce(y)  # of what is still to be computed
        assert np.array_equal(y.numpy(), 4 * (wanted + 1))

        # What the tape has kept of it is no longer there.
        w = braze.ones(2, requires_grad=True)
        kept = w * 2
        loss = (kept * kept).sum()
        dist.all_reduce(kept)
        try:
            loss.backward()
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)
        else:
            raise AssertionError

        works = [dist.all_reduce(braze.full((1000,), float(i)), async_op=True) for i in range(5)]
        assert all(work.wait() and work.is_completed() and work.is_success() for work in works)
        assert [work.result()[0][0].item() for work in works] == [0.0, 4.0, 8.0, 12.0, 16.0]
        assert works[0].exception() is None

        objects = [None] * 4
        dist.all_gather_object(objects, {"rank": rank, "text": "x" * rank})
        assert [o["text"] for o in objects] == ["", "x", "xx", "xxx"]
        objects = [rank, "a"]
        dist.broadcast_object_list(objects, src=2)
        assert objects == [2, "a"]
        objects = [None] * 4 if rank == 1 else None
        dist.gather_object(rank * rank, objects, dst=1)
        assert objects == ([0, 1, 4, 9] if rank == 1 else None)
        mine = [None]
        dist.scatter_object_list(mine, list("abcd") if rank == 3 else None, src=3)
        assert mine == ["abcd"[rank]]
        dist.barrier()
        dist.monitored_barrier(timeout=timedelta(seconds=5))
        say("fine")
        dist.destroy_process_group()
        assert not dist.is_initialized()
        """,
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))


def test_messages(tmp_path):
    outcome = run_ranks(
        """
        right, left = (rank + 1) % size, (rank - 1) % size
        # Far too large to be sent before the other side is ready: all go round at once.
        mine, other = braze.full((1 << 20,), float(rank)), braze.zeros(1 << 20)
        for work in dist.batch_isend_irecv(
            [dist.P2POp(dist.isend, mine, right), dist.P2POp(dist.irecv, other, left)]
        ):
            work.wait()
        assert other.unique().tolist() == [float(left)]
        if rank == 0:
            got, from_ = set(), set()
            for _ in range(3):
                x = braze.zeros(2, dtype=braze.int64)
                from_.add(dist.recv(x))
                got.add(tuple(x.tolist()))
            assert from_ == {1, 2, 3} and got == {(1, 1), (2, 4), (3, 9)}
            x, y = braze.zeros(1), braze.zeros(1)
            dist.recv(y, src=1, tag=8)
            dist.recv(x, src=1, tag=7)
            assert (x.item(), y.item()) == (7, 8)
        else:
            dist.send(braze.tensor([rank, rank * rank]), 0)
        if rank == 1:
            first = dist.isend(braze.tensor([7.0]), 0, tag=7)
            dist.send(braze.tensor([8.0]), 0, tag=8)
            first.wait()
        for wrong in (rank, 4, -1):
            try:
                dist.send(mine, wrong)
            except ValueError:
                pass
            else:
                raise AssertionError(wrong)
        say("fine")
        """,
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))


def test_groups(tmp_path):
    outcome = run_ranks(
        """
        odd, even = dist.new_group([1, 3]), dist.new_group([2, 0])
        mine, other = (odd, even) if rank % 2 else (even, odd)
        assert other is dist.GroupMember.NON_GROUP_MEMBER
        assert dist.get_process_group_ranks(mine) == [rank % 2, rank % 2 + 2]
        assert (dist.get_rank(mine), dist.get_world_size(mine)) == (rank // 2, 2)
        assert (dist.get_rank(other), dist.get_world_size(other)) == (-1, -1)
        assert dist.get_backend(mine) == "mpi" and dist.group.WORLD.size() == 4
        x = braze.tensor([float(rank)])
        dist.all_reduce(x, group=mine)
        dist.all_reduce(x, group=other)
        assert x.item() == (4 if rank % 2 else 2)
        dist.broadcast(x.fill_(rank), src=rank % 2 + 2, group=mine)
        assert x.item() == rank % 2 + 2
        dist.broadcast(x.fill_(rank), group=mine, group_src=0)
        assert x.item() == rank % 2
        if rank % 2:
            if rank == 1:
                dist.send(braze.tensor([5.0]), 3, group=odd)
            else:
                dist.recv(x, group_src=0, group=odd)
                assert x.item() == 5
        for wrong in ([0, 0], [4]):
            try:
                dist.new_group(wrong)
            except ValueError:
                pass
            else:
                raise AssertionError(wrong)
        try:
            dist.broadcast(x, src=(rank + 1) % 4, group=mine)
        except ValueError as error:
            assert "is not part of group" in str(error)
        say("fine")
        """,
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))
