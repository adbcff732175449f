"""utils.data: data sets, samplers, collation, the loader with and without worker processes."""

import gc
import itertools
import os
from collections import Counter, namedtuple

import numpy as np
import pytest

import braze
from braze.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
    random_split,
)

pytestmark = pytest.mark.usefixtures("interpret")


class Squares(Dataset):
    """Item i is (i * i as an array, i, "i")."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return {"square": np.array([i * i], np.float32), "index": i, "name": str(i)}


class Stream(IterableDataset):
    """0 .. n-1, shared out among the workers."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        step, first = (1, 0) if info is None else (info.num_workers, info.id)
        return iter(range(first, self.n, step))


class Broken(Squares):
    def __getitem__(self, i):
        if i == 5:
            raise ValueError("item five is bad")
        return super().__getitem__(i)


class Deadly(Squares):
    def __getitem__(self, i):
        os._exit(3)


class Noise(Squares):
    def __getitem__(self, i):
        return braze.rand(1).item(), get_worker_info().seed


def tensors(n=10):
    return TensorDataset(braze.arange(n * 4).float().reshape(n, 2, 2), braze.arange(n))


# Data sets ----------------------------------------------------------------------------------------


def test_tensor_dataset_items_and_whole_batches():
    data = tensors()
    x, y = data[3]
    assert x.tolist() == [[12.0, 13.0], [14.0, 15.0]] and y.item() == 3 and len(data) == 10
    x.add_(100)
    assert data[3][0].tolist() == [[12.0, 13.0], [14.0, 15.0]]
    captured = braze.stats.captured_ops
    x, y = data.take_batch([7, 0, -1])
    assert y.tolist() == [7, 0, 9] and x.shape == (3, 2, 2)
    assert braze.stats.captured_ops == captured
    with pytest.raises(IndexError, match="index 10 is out of bounds"):
        data.take_batch([0, 10])
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(braze.zeros(2), braze.zeros(3))


def test_rows_that_need_gradients_stay_on_the_tape():
    w = braze.arange(6).float().requires_grad_()
    loader = DataLoader(TensorDataset(w), batch_size=3)
    for (rows,) in loader:
        (rows * rows).sum().backward()
    assert w.grad.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_subset_concat_chain_and_split():
    part = Subset(tensors(), [4, 2])
    assert [item[1].item() for item in part] == [4, 2] and part.take_batch([1])[1].tolist() == [2]
    joined = Squares(3) + Squares(2)
    assert isinstance(joined, ConcatDataset) and len(joined) == 5
    assert [joined[i]["index"] for i in range(5)] == [0, 1, 2, 0, 1] and joined[-1]["index"] == 1
    with pytest.raises(IndexError):
        joined[5]
    assert list(Stream(2) + Stream(3)) == [0, 1, 0, 1, 2] and isinstance(
        Stream(1) + Stream(1), ChainDataset
    )
    generator = braze.Generator().manual_seed(3)
    first, second = random_split(Squares(10), [7, 3], generator=generator)
    assert sorted(first.indices + second.indices) == list(range(10)) and len(first) == 7
    again = random_split(Squares(10), [7, 3], generator=generator.manual_seed(3))
    assert again[0].indices == first.indices
    assert [len(p) for p in random_split(Squares(11), [0.5, 0.25, 0.25])] == [6, 3, 2]
    with pytest.raises(ValueError, match="does not equal"):
        random_split(Squares(10), [5, 4])


# Samplers -----------------------------------------------------------------------------------------


def test_samplers():
    assert list(SequentialSampler(Squares(3))) == [0, 1, 2]
    order = list(RandomSampler(Squares(20)))
    assert sorted(order) == list(range(20)) and order != list(range(20))
    assert len(list(RandomSampler(Squares(5), num_samples=12))) == 12
    drawn = list(RandomSampler(Squares(3), replacement=True, num_samples=50))
    assert set(drawn) == {0, 1, 2} and len(drawn) == 50
    assert sorted(SubsetRandomSampler([5, 7, 9])) == [5, 7, 9]
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, False)) == 3 and len(BatchSampler(range(5), 2, True)) == 2


def test_random_order_follows_the_generators():
    braze.manual_seed(4)
    first = list(RandomSampler(Squares(50)))
    assert list(RandomSampler(Squares(50))) != first
    braze.manual_seed(4)
    assert list(RandomSampler(Squares(50))) == first
    generator = braze.Generator().manual_seed(4)
    assert list(RandomSampler(Squares(50), generator=generator)) == first


def test_weighted_sampler():
    braze.manual_seed(0)
    counts = Counter(WeightedRandomSampler([1.0, 0.0, 3.0], 4000))
    assert counts[1] == 0 and 2.5 < counts[2] / counts[0] < 3.5
    assert sorted(WeightedRandomSampler(braze.tensor([1.0, 0.0, 3.0]), 2, replacement=False)) == [
        0,
        2,
    ]
    firsts = Counter(next(iter(WeightedRandomSampler([1, 3], 1, False))) for _ in range(400))
    assert 0.65 < firsts[1] / 400 < 0.85
    with pytest.raises(RuntimeError, match="cannot sample n_sample"):
        list(WeightedRandomSampler([1, 0, 1], 4, replacement=False))
    with pytest.raises(RuntimeError, match="element < 0"):
        list(WeightedRandomSampler([1, -1], 1))
    with pytest.raises(ValueError, match="should be a 1d sequence"):
        WeightedRandomSampler([[1, 1]], 1)
    with pytest.raises(ValueError, match="replacement should be a boolean"):
        WeightedRandomSampler([1, 1], 1, replacement=1)


def test_sampler_errors():
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        RandomSampler(Squares(0))
    with pytest.raises(TypeError, match="replacement should be a boolean"):
        RandomSampler(Squares(1), replacement=1)
    with pytest.raises(ValueError, match="batch_size should be a positive integer"):
        BatchSampler(range(3), 0, False)
    with pytest.raises(ValueError, match="drop_last should be a boolean"):
        BatchSampler(range(3), 1, 1)


# Collation ----------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "left right")


def test_default_collate():
    batch = default_collate([{"a": np.ones(2, np.float32), "b": (1, 2.0, "x")}] * 3)
    assert batch["a"].shape == (3, 2) and batch["a"].dtype is braze.float32
    ints, floats, texts = batch["b"]
    assert ints.dtype is braze.int64 and floats.dtype is braze.float64 and list(texts) == ["x"] * 3
    pair = default_collate([Pair(braze.ones(2), True), Pair(braze.zeros(2), False)])
    assert isinstance(pair, Pair) and pair.left.tolist() == [[1, 1], [0, 0]]
    assert pair.right.dtype is braze.bool
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        default_collate([braze.ones(2), braze.ones(3)])
    with pytest.raises(RuntimeError, match="each element in list of batch should be of equal size"):
        default_collate([(1, 2), (1,)])
    with pytest.raises(TypeError, match="default_collate: batch must contain"):
        default_collate([object()])


# The loader ---------------------------------------------------------------------------------------


def test_batches_in_order_shuffled_and_dropped():
    loader = DataLoader(tensors(), batch_size=4)
    batches = list(loader)
    assert len(loader) == 3 and [len(y) for _, y in batches] == [4, 4, 2]
    assert isinstance(batches[0], list) and batches[1][1].tolist() == [4, 5, 6, 7]
    assert len(list(DataLoader(tensors(), batch_size=4, drop_last=True))) == 2
    shuffled = DataLoader(tensors(50), batch_size=50, shuffle=True)
    (_, first), (_, second) = next(iter(shuffled)), next(iter(shuffled))
    assert sorted(first.tolist()) == list(range(50)) and first.tolist() != second.tolist()
    braze.manual_seed(1)
    (_, third) = next(iter(shuffled))
    braze.manual_seed(1)
    assert next(iter(shuffled))[1].tolist() == third.tolist()


def test_single_examples_samplers_and_own_collation():
    singles = list(DataLoader(tensors(3), batch_size=None))
    assert singles[2][1].item() == 2 and singles[2][0].shape == (2, 2)
    loader = DataLoader(
        Squares(6), batch_size=2, sampler=[5, 1, 3], collate_fn=lambda b: [i["index"] for i in b]
    )
    assert list(loader) == [[5, 1], [3]] and len(loader) == 2
    loader = DataLoader(Squares(6), batch_sampler=[[0, 2], [1]])
    assert [b["index"].tolist() for b in loader] == [[0, 2], [1]] and loader.batch_size is None
    stream = DataLoader(Stream(5), batch_size=2)
    assert [b.tolist() for b in stream] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2, drop_last=True)] == [
        [0, 1],
        [2, 3],
    ]
    assert list(DataLoader(Stream(2), batch_size=None)) == [0, 1]
    with pytest.raises(TypeError):
        len(stream)


def test_getitems_is_used():
    class Many(Squares):
        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert [b.tolist() for b in DataLoader(Many(4), batch_size=2)] == [[0, 10], [20, 30]]


def test_the_next_batch_ends_the_iteration():
    total = braze.zeros(2, 2)
    handles = []
    for x, _ in DataLoader(tensors(6), batch_size=2):
        assert total._handle.storage is not None
        total = total + x.sum(0)
        assert total._handle.storage is None
        handles.append(total)
    assert handles[-1].tolist() == [[60.0, 66.0], [72.0, 78.0]]


def test_loader_errors():
    data = tensors()
    cases = [
        ({"num_workers": -1}, "num_workers option should be non-negative"),
        ({"timeout": -1}, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, "prefetch_factor option could only"),
        (
            {"num_workers": 1, "prefetch_factor": -1},
            "prefetch_factor option should be non-negative",
        ),
        ({"persistent_workers": True}, "persistent_workers option needs"),
        ({"shuffle": True, "sampler": [0]}, "mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
        ({"batch_size": None, "drop_last": True}, "disables auto-batching"),
        ({"batch_size": 0}, "batch_size should be a positive"),
    ]
    for settings, text in cases:
        with pytest.raises(ValueError, match=text):
            DataLoader(data, **settings)
    with pytest.raises(ValueError, match="expected unspecified shuffle"):
        DataLoader(Stream(3), shuffle=True)


# Worker processes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_give_the_same_batches_in_the_same_order(workers):
    for data in (tensors(11), Squares(11)):
        alone = list(DataLoader(data, batch_size=2))
        together = list(DataLoader(data, batch_size=2, num_workers=workers))
        assert len(alone) == len(together) == 6
        for a, b in zip(alone, together, strict=True):
            left, right = (a["square"], b["square"]) if isinstance(a, dict) else (a[0], b[0])
            assert braze.equal(left, right)
            assert not isinstance(a, dict) or a["name"] == b["name"]


def test_iterable_data_is_shared_out():
    batches = list(DataLoader(Stream(10), batch_size=2, num_workers=2))
    assert sorted(itertools.chain.from_iterable(b.tolist() for b in batches)) == list(range(10))
    assert batches[0].tolist() == [0, 2] and batches[1].tolist() == [1, 3]


def test_workers_draw_different_but_reproducible_numbers():
    def draw():
        braze.manual_seed(7)
        loader = DataLoader(Noise(4), batch_size=1, num_workers=2)
        return [(value.item(), seed.item()) for value, seed in loader]

    first = draw()
    assert len(set(first)) == 4 and len({seed for _, seed in first}) == 2
    assert draw() == first


def test_errors_in_workers_come_out_here():
    loader = DataLoader(Broken(8), batch_size=2, num_workers=2)
    batches = iter(loader)
    assert next(batches)["index"].tolist() == [0, 1] and next(batches)["index"].tolist() == [2, 3]
    with pytest.raises(
        ValueError, match="Caught ValueError in DataLoader worker process 0"
    ) as error:
        next(batches)
    assert "item five is bad" in str(error.value)
    assert next(batches)["index"].tolist() == [6, 7]
    with pytest.raises(RuntimeError, match=r"worker \(pid\(s\) \d+\) exited unexpectedly") as death:
        list(DataLoader(Deadly(4), num_workers=1))
    assert "exited with exit code 3" in str(death.value.__cause__)

    def fail(number):
        raise KeyError("no start")

    with pytest.raises(KeyError, match="no start"):
        list(DataLoader(Squares(4), num_workers=1, worker_init_fn=fail))


def test_persistent_workers_serve_several_rounds():
    loader = DataLoader(Squares(6), batch_size=2, num_workers=2, persistent_workers=True)
    first = iter(loader)
    next(first)
    processes = first._pool.processes
    assert [b["index"].tolist() for b in loader] == [[0, 1], [2, 3], [4, 5]]
    assert iter(loader) is first and all(p.is_alive() for p in processes)
    assert first._pool.processes is processes and next(first)["index"].tolist() == [0, 1]
    del loader, first
    gc.collect()
    assert not any(p.is_alive() for p in processes)


def test_workers_end_with_the_iterator():
    batches = iter(DataLoader(Squares(100), batch_size=2, num_workers=2))
    next(batches)
    processes = batches._pool.processes
    del batches
    assert not any(p.is_alive() for p in processes)


def test_timeout():
    class Slow(Squares):
        def __getitem__(self, i):
            import time

            time.sleep(1.5)
            return i

    with pytest.raises(RuntimeError, match="timed out after 0.2 seconds"):
        list(DataLoader(Slow(2), num_workers=1, timeout=0.2))
