"""Cases of torch.utils.data's loader, with and without worker processes."""

import random

import numpy as np
from cases_data import Plain, stream
from compare_cases import case


@case("torch.utils.data.DataLoader")
def data_loader(c):
    def all_of(m, data, **options):
        return list(m.utils.data.DataLoader(data, **options))

    c(lambda m: all_of(m, Plain(5), batch_size=2))
    c(lambda m: all_of(m, Plain(5), batch_size=2, drop_last=True))
    c(lambda m: all_of(m, Plain(2)))
    c(lambda m: all_of(m, Plain(3), batch_size=None))
    c(lambda m: all_of(m, Plain(6), batch_size=2, sampler=[5, 1, 3]))
    c(lambda m: all_of(m, Plain(6), batch_sampler=[[0, 2], [1]]))
    c(lambda m: all_of(m, range(6), batch_size=4, collate_fn=sum))
    c(lambda m: all_of(m, stream(m, 5), batch_size=2))
    c(lambda m: all_of(m, stream(m, 5), batch_size=2, drop_last=True))
    c(lambda m: all_of(m, stream(m, 3), batch_size=None))
    c(lambda m: all_of(m, stream(m, 3), shuffle=False))
    c(
        lambda m, x, y: all_of(m, m.utils.data.TensorDataset(x, y), batch_size=2),
        c.f32(5, 3),
        c.i64(5),
    )
    c(lambda m, x: all_of(m, m.utils.data.TensorDataset(x), batch_size=2), c.f64(3, 2))
    c(lambda m: all_of(m, Plain(5), batch_size=2, num_workers=1), compiled=False)
    c(lambda m: all_of(m, stream(m, 7), batch_size=2, num_workers=2), compiled=False)
    _attributes(c)
    _wrong_settings(c, all_of)


def _attributes(c):
    def attributes(m, data=range(6), **options):
        loader = m.utils.data.DataLoader(data, **options)
        plain = (loader.batch_size, loader.drop_last, loader.num_workers, loader.prefetch_factor)
        kinds = [type(x).__name__ for x in (loader.sampler, loader.batch_sampler)]
        return plain, kinds, loader.collate_fn.__name__, loader.timeout, loader.in_order

    c(lambda m: attributes(m))
    c(lambda m: attributes(m, batch_size=4, shuffle=True, drop_last=True))
    c(lambda m: attributes(m, batch_size=None))
    c(lambda m: attributes(m, batch_sampler=[[0]], num_workers=1, prefetch_factor=3, timeout=1.5))
    c(lambda m: len(m.utils.data.DataLoader(range(7), batch_size=3)))
    c(lambda m: len(m.utils.data.DataLoader(range(7), batch_size=3, drop_last=True)))
    c(lambda m: len(m.utils.data.DataLoader(stream(m, 3, 7), batch_size=3)))
    c(lambda m: len(iter(m.utils.data.DataLoader(range(7), batch_size=3))))

    def shuffled(m):
        m.manual_seed(3)
        loader = m.utils.data.DataLoader(range(30), batch_size=30, shuffle=True)
        first, second = next(iter(loader)).tolist(), next(iter(loader)).tolist()
        m.manual_seed(3)
        again = next(iter(loader)).tolist()
        return sorted(first), first == second, first == again

    c(shuffled)


def _wrong_settings(c, all_of):
    wrong = [
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": 2},
        {"num_workers": 1, "prefetch_factor": -1},
        {"persistent_workers": True},
        {"shuffle": True, "sampler": [0]},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_size": None, "drop_last": True},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"multiprocessing_context": "fork"},
        {"num_workers": 1, "multiprocessing_context": "thread"},
        {"num_workers": 1, "multiprocessing_context": 3},
        {"sampler": [7]},
        {"no_such": 1},
    ]
    for options in wrong:
        c.error(lambda m, o=options: all_of(m, [1, 2, 3], **o))
    c.error(lambda m: all_of(m, stream(m, 3), shuffle=True))
    c.error(lambda m: all_of(m, stream(m, 3), sampler=[0]))
    c.error(lambda m: all_of(m, stream(m, 3), batch_sampler=[[0]]))
    c.error(lambda m: len(m.utils.data.DataLoader(stream(m, 3))))
    c.error(lambda m: all_of(m, [], shuffle=True))
    c.error(lambda m: setattr(m.utils.data.DataLoader([1]), "batch_size", 2))

    def failing(m):
        def fail(batch):
            raise ZeroDivisionError("none")

        return all_of(m, [1], num_workers=1, collate_fn=fail)

    c.error(failing)


@case("torch.utils.data.get_worker_info")
def get_worker_info(c):
    c(lambda m: m.utils.data.get_worker_info())

    def inside(m):
        def tell(batch):
            info = m.utils.data.get_worker_info()
            base = info.seed - info.id
            words = np.random.SeedSequence([info.id, base & 0xFFFFFFFF, base >> 32, 0])
            numpy_seeded = np.random.RandomState(words.generate_state(4)).rand() == np.random.rand()
            seeded = random.random() == random.Random(info.seed).random()
            same = m.initial_seed() == info.seed
            return info.id, info.num_workers, info.dataset, numpy_seeded, seeded, same

        loader = m.utils.data.DataLoader([1, 2], num_workers=2, collate_fn=tell)
        return list(loader)

    c(inside, compiled=False)
