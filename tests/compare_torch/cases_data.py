"""Cases of torch.utils.data but for the loader.

Random orders are compared as sets and by statistics.
"""

import collections
import types
import warnings

import numpy as np
from compare_cases import case

Pair = collections.namedtuple("Pair", "left right")


class Plain:
    """A data set that is none of the library's classes."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return {"i": i, "square": np.full(2, i * i, np.float32), "pair": (i + 0.5, str(i))}


def stream(m, n, length=None):
    """An iterable data set of 0 .. n - 1, shared out among workers."""

    class Stream(m.utils.data.IterableDataset):
        def __iter__(self):
            info = m.utils.data.get_worker_info()
            first, step = (0, 1) if info is None else (info.id, info.num_workers)
            return iter(range(first, n, step))

    if length is not None:
        Stream.__len__ = lambda self: length
    return Stream()


def drawn(m, sampler):
    """What a sampler gives, as numbers whose statistics can be compared."""
    return m.tensor([float(i) for i in sampler])


def order(sampler):
    """What a random sampler gives, without the order; whether there is any."""
    found = list(sampler)
    return sorted(found), found != sorted(found), len(sampler)


# Data sets ----------------------------------------------------------------------------------------


@case("torch.utils.data.Dataset")
def dataset(c):
    c.error(lambda m: m.utils.data.Dataset()[0])
    c.error(lambda m: len(m.utils.data.Dataset()))

    def joined(m):
        class Two(m.utils.data.Dataset):
            def __len__(self):
                return 2

            def __getitem__(self, i):
                return [10, 11][i]

        both = Two() + Two()
        return type(both).__name__, len(both), [both[i] for i in (-1, 0, 2)]

    c(joined)
    c(lambda m: m.utils.data.Dataset[int] is not None)


@case("torch.utils.data.IterableDataset")
def iterable(c):
    c(lambda m: list(stream(m, 3)))
    c(lambda m: type(stream(m, 3) + stream(m, 2)).__name__)
    c.error(lambda m: stream(m, 3)[0])
    c.error(lambda m: len(stream(m, 3)))
    c(lambda m: len(stream(m, 3, length=7)))


@case("torch.utils.data.TensorDataset")
def tensor_dataset(c):
    x, y = c.f32(5, 2), c.i64(5)
    c(lambda m, x, y: m.utils.data.TensorDataset(x, y)[3], x, y)
    c(lambda m, x, y: m.utils.data.TensorDataset(x, y)[-1], x, y)
    c(lambda m, x, y: m.utils.data.TensorDataset(x, y)[1:3], x, y)
    c(lambda m, x, y: m.utils.data.TensorDataset(x, y)[[4, 0]], x, y)
    c(lambda m, x, y: len(m.utils.data.TensorDataset(x, y)), x, y)
    c(lambda m, x: m.utils.data.TensorDataset(x)[2], c.f64(5, 2))
    c.error(lambda m, x, y: m.utils.data.TensorDataset(x, y), x, c.i64(4))
    c.error(lambda m, x: m.utils.data.TensorDataset(x)[5], x)


@case("torch.utils.data.StackDataset")
def stack_dataset(c):
    x, y = c.f32(4, 2), c.i64(4)
    c(lambda m, x, y: m.utils.data.StackDataset(x, y)[1], x, y)
    c(lambda m, x, y: m.utils.data.StackDataset(a=x, b=y)[1], x, y)
    c(lambda m, x, y: m.utils.data.StackDataset(x, y).__getitems__([2, 0]), x, y)
    c(lambda m, x, y: m.utils.data.StackDataset(a=x, b=y).__getitems__([2, 0]), x, y)
    c(lambda m, x, y: len(m.utils.data.StackDataset(x, y)), x, y)
    c.error(lambda m, x: m.utils.data.StackDataset(x, a=x), x)
    c.error(lambda m: m.utils.data.StackDataset())
    c.error(lambda m, x, y: m.utils.data.StackDataset(x, y), x, c.i64(3))

    class Short(Plain):
        def __getitems__(self, indices):
            return [0]

    c.error(lambda m: m.utils.data.StackDataset(Short(4)).__getitems__([0, 1]))


@case("torch.utils.data.ConcatDataset")
def concat_dataset(c):
    def ends(m):
        joined = m.utils.data.ConcatDataset([range(3), [10, 11], range(5, 6)])
        return [joined[i] for i in range(-6, 6)], len(joined), joined.cumulative_sizes

    c(ends)
    c(lambda m: m.utils.data.ConcatDataset.cumsum([range(3), range(2)]))
    c.error(lambda m: m.utils.data.ConcatDataset([]))
    c.error(lambda m: m.utils.data.ConcatDataset([range(3)])[3])
    c.error(lambda m: m.utils.data.ConcatDataset([range(3)])[-4])
    c.error(lambda m: m.utils.data.ConcatDataset([stream(m, 3)]))


@case("torch.utils.data.ChainDataset")
def chain_dataset(c):
    c(lambda m: list(m.utils.data.ChainDataset([stream(m, 3), stream(m, 2)])))
    c(lambda m: len(m.utils.data.ChainDataset([stream(m, 3, 3), stream(m, 2, 2)])))
    c.error(lambda m: len(m.utils.data.ChainDataset([stream(m, 3)])))
    c.error(lambda m: list(m.utils.data.ChainDataset([range(3)])))


@case("torch.utils.data.Subset")
def subset(c):
    def parts(m):
        part = m.utils.data.Subset(range(10, 20), [4, 0, 9])
        again = m.utils.data.Subset(part, [2, 1])
        return list(part), len(part), part[-1], list(again), again.__getitems__([1, 0])

    c(parts)
    c(lambda m, x: m.utils.data.Subset(x, [4, 0, 3])[[0, 2]], c.f32(5, 2))
    c.error(lambda m: m.utils.data.Subset(range(3), [0])[1])
    c.error(lambda m: m.utils.data.Subset(range(3), [5])[0])

    def overriding(m):
        class Own(m.utils.data.Subset):
            def __getitem__(self, i):
                return i

        return Own(range(3), [0])

    c.error(overriding)


@case("torch.utils.data.random_split")
def random_split(c):
    def sizes(m, total, lengths):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            parts = m.utils.data.random_split(range(total), lengths)
        indices = sorted(i for part in parts for i in part.indices)
        return [len(part) for part in parts], indices == list(range(total)), len(seen)

    for total, lengths in (
        (10, [7, 3]),
        (10, [0.3, 0.3, 0.4]),
        (11, [0.5, 0.25, 0.25]),
        (5, [0.9, 0.1]),
        (3, [0.1] * 10),
        (7, [1.0]),
        (1, [1]),
    ):
        c(lambda m, t=total, s=lengths: sizes(m, t, s))
    c.error(lambda m: m.utils.data.random_split(range(10), [5, 4]))
    c.error(lambda m: m.utils.data.random_split(range(10), [1.5, -0.5]))
    c.error(lambda m: m.utils.data.random_split(range(10), [0.5, 0.4]))

    def repeated(m):
        def split():
            generator = m.Generator().manual_seed(3)
            return m.utils.data.random_split(range(20), [12, 8], generator=generator)[0].indices

        return split() == split()

    c(repeated)


# Samplers -----------------------------------------------------------------------------------------


@case("torch.utils.data.Sampler")
def sampler(c):
    c.error(lambda m: list(m.utils.data.Sampler()))
    c.error(lambda m: len(m.utils.data.Sampler()))


@case("torch.utils.data.SequentialSampler")
def sequential(c):
    c(lambda m: list(m.utils.data.SequentialSampler(range(5, 9))))
    c(lambda m: len(m.utils.data.SequentialSampler(range(5, 9))))
    c(lambda m: list(m.utils.data.SequentialSampler([])))


@case("torch.utils.data.RandomSampler")
def random_sampler(c):
    def of(m, n, **options):
        return m.utils.data.RandomSampler(range(n), **options)

    c(lambda m: order(of(m, 20)))
    c(lambda m: [len(of(m, 5, num_samples=n)) for n in (1, 5, 12)])
    c(lambda m: sorted(list(of(m, 5, num_samples=12))[:10]))
    c(lambda m: len(list(of(m, 3, replacement=True, num_samples=70))))
    c.random(lambda m: drawn(m, of(m, 100, replacement=True, num_samples=20_000)))
    c.error(lambda m: of(m, 0))
    c.error(lambda m: of(m, 3, num_samples=0))
    c.error(lambda m: of(m, 3, num_samples=2.0))
    c.error(lambda m: of(m, 3, replacement=1))

    def seeded(m):
        orders = [list(of(m, 30, generator=m.Generator().manual_seed(s))) for s in (1, 1, 2)]
        return orders[0] == orders[1], orders[0] == orders[2]

    c(seeded)


@case("torch.utils.data.SubsetRandomSampler")
def subset_random(c):
    c(lambda m: order(m.utils.data.SubsetRandomSampler(list(range(100, 130)))))
    c(lambda m: list(m.utils.data.SubsetRandomSampler([])))
    c(lambda m: list(m.utils.data.SubsetRandomSampler("x")))


@case("torch.utils.data.WeightedRandomSampler")
def weighted(c):
    def of(m, *args, **options):
        return m.utils.data.WeightedRandomSampler(*args, **options)

    c.random(lambda m: drawn(m, of(m, [1.0, 0.0, 3.0, 6.0], 20_000)))
    c.random(lambda m, w: drawn(m, of(m, w, 20_000)), c.f32(6, low=0.1))
    c(lambda m: sorted(of(m, [0.1, 0.9, 0.4], 3, replacement=False)))
    c(lambda m: sorted(of(m, [1, 0, 4], 2, False)))
    c(lambda m: len(of(m, [1, 2], 7)))
    c(lambda m: of(m, [1, 2], 7).weights)
    c.error(lambda m: of(m, [1, 2], 0))
    c.error(lambda m: of(m, [1, 2], True))
    c.error(lambda m: of(m, [1, 2], 1, replacement=1))
    c.error(lambda m: of(m, [[1, 2]], 1))
    c.error(lambda m: list(of(m, [1, 2], 3, replacement=False)))
    c.error(lambda m: list(of(m, [1.0, -2.0], 1)))
    c.error(lambda m: list(of(m, [0.0, 0.0], 1)))


@case("torch.utils.data.BatchSampler")
def batch_sampler(c):
    def of(m, n, *options):
        batches = m.utils.data.BatchSampler(range(n), *options)
        return list(batches), len(batches)

    for n in (0, 1, 5, 6):
        for drop in (False, True):
            c(lambda m, n=n, drop=drop: of(m, n, 2, drop))
    c(lambda m: list(m.utils.data.BatchSampler(iter("abc"), 2, False)))
    c.error(lambda m: of(m, 3, 0, False))
    c.error(lambda m: of(m, 3, True, False))
    c.error(lambda m: of(m, 3, 1, 1))
    c.error(lambda m: len(m.utils.data.BatchSampler(iter("abc"), 2, False)))


@case("torch.utils.data.distributed.DistributedSampler")
def distributed(c):
    def of(m, n, *args, **options):
        return m.utils.data.distributed.DistributedSampler(range(n), *args, **options)

    for n in (1, 7, 8):
        for drop in (False, True):
            for rank in (0, 2):
                c(
                    lambda m, n=n, d=drop, r=rank: (
                        list(of(m, n, 3, r, shuffle=False, drop_last=d))
                        + [len(of(m, n, 3, r, drop_last=d))]
                    )
                )

    def shuffled(m):
        parts = [of(m, 12, 3, rank) for rank in range(3)]
        first = [list(part) for part in parts]
        for part in parts:
            part.set_epoch(1)
        second = [list(part) for part in parts]
        return sorted(sum(first, [])), sorted(sum(second, [])), first != second

    c(shuffled)
    c.error(lambda m: of(m, 5, 3, 3))
    c.error(lambda m: of(m, 5, 3, -1))
    c.error(lambda m: of(m, 5))


# Collation ----------------------------------------------------------------------------------------


class Labelled(dict):
    """A mapping that has more than its items."""

    label = None


def labelled(**items):
    found = Labelled(items)
    found.label = "more"
    return found


@case("torch.utils.data.default_collate")
def default_collate(c):
    def of(m, *examples):
        return m.utils.data.default_collate(list(examples))

    c(lambda m: of(m, 0, 1, 2))
    c(lambda m: of(m, 0.5, 1.0))
    c(lambda m: of(m, True, False))
    c(lambda m: of(m, "a", "b"))
    c(lambda m: of(m, b"a", b"b"))
    c(lambda m: of(m, np.float32(1), np.float32(2)))
    c(lambda m: of(m, np.int16(1), np.int16(2)))
    c(lambda m: of(m, np.bool_(True), np.bool_(False)))
    c(lambda m: of(m, np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)))
    c(lambda m: of(m, np.array(3), np.array(4)))
    c(lambda m: of(m, {"a": 0, "b": "x"}, {"a": 100, "b": "y"}))
    c(lambda m: of(m, (0, 1.0), (2, 3.0)))
    c(lambda m: of(m, [0, "a"], [2, "b"]))
    c(lambda m: of(m, [(0, {"a": 1}), "x"], [(2, {"a": 5}), "y"]))
    c(lambda m: of(m, range(2), range(2, 4)))
    c(lambda m: of(m, Pair(0, "a"), Pair(1, "b")))
    c(lambda m: (x := of(m, labelled(a=1), labelled(a=2)), type(x).__name__, x.label))
    c(lambda m: dict(of(m, types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": 2}))))
    c(lambda m: list(of(m, collections.OrderedDict(b=1, a=2)).items()))
    c(lambda m: type(of(m, collections.defaultdict(int, a=2))).__name__)
    c(lambda m, x, y: of(m, x, y), c.f64(2, 3), c.f64(2, 3))
    c(lambda m, x, y: of(m, x, y), c.i64(3), c.i64(3))
    c(lambda m: m.utils.data.default_collate((1, 2)))
    c.error(lambda m, x, y: of(m, x, y), c.f32(2), c.f32(3))
    c.error(lambda m: of(m, np.zeros(2), np.zeros(3)))
    c.error(lambda m: of(m, (1, 2), (1,)))
    c.error(lambda m: of(m, {"a": 1}, {"b": 1}))
    c.error(lambda m: of(m, object(), object()))
    c.error(lambda m: of(m, None, None))
    c.error(lambda m: of(m, np.array(["a"]), np.array(["b"])))
    c.error(lambda m: of(m))
    c.error(lambda m, x: of(m, x.to_sparse(), x.to_sparse()), c.f32(2, 2).constant())

    def own_type(m):
        collate, known = m.utils.data._utils.collate.collate, {complex: lambda b, **_: len(b)}
        return collate([1j, 2j], collate_fn_map=known)

    def ours(m):
        from braze.utils.data import collate

        return collate([1j, 2j], collate_fn_map={complex: lambda b, **_: len(b)})

    c(ours, reference=own_type)


@case("torch.utils.data.default_convert")
def default_convert(c):
    def of(m, data):
        return m.utils.data.default_convert(data)

    for value in (0, 1.5, "a", b"a", None, True):
        c(lambda m, v=value: of(m, v))
    c(lambda m: of(m, np.array([0, 1])))
    c(lambda m: of(m, np.float32(2)))
    c(lambda m: of(m, np.array(["a", "b"])).tolist())
    c(lambda m: of(m, Pair(np.array(0), "a")))
    c(lambda m: of(m, (np.array(0), "a")))
    c(lambda m: of(m, [np.array([0, 1]), {"a": np.array(2.0)}]))
    c(lambda m: (x := of(m, labelled(a=np.array(1))), type(x).__name__, x.label))
    c(lambda m: of(m, range(3)))
    c(lambda m, x: of(m, {"x": x}), c.f64(2))

    def shares(m):
        array = np.zeros(3)
        found = of(m, array)
        array[0] = 5
        return found

    c(shares)
