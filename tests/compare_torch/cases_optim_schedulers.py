"""Cases of learning-rate schedules: fifty steps, given epochs, state dicts, and what is refused."""

import warnings

from compare_cases import case

STEPS = 50


def made(m, groups=2, kind="SGD", lr=0.5):
    more = {"momentum": 0.9} if kind == "SGD" else {}
    params = [{"params": [m.nn.Parameter(m.ones(1))]} for _ in range(groups)]
    if groups > 1:
        params[1]["lr"] = 0.2
    return getattr(m.optim, kind)(params, lr=lr, **more)


def is_plain(value):
    """Whether it is a number, a text or None, or lists and dicts of them."""
    if isinstance(value, (list, dict)):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, (int, float, str))


def schedule(c, build, *, epochs=True, kinds=("SGD",), metrics=False):
    """Compare the groups' settings after each step, and the state dict.

    Args:
        build: makes the schedule, given the module of schedules and the optimizer.
        epochs: also with `step(epoch)`.
    """

    def values(m, kind, given=None, resumed=False):
        optimizer = made(m, kind=kind)
        scheduler = build(m.optim.lr_scheduler, optimizer)
        seen = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i in range(STEPS):
                seen += [group["lr"] for group in optimizer.param_groups]
                group = optimizer.param_groups[0]
                seen.append(group["momentum"] if kind == "SGD" else group["betas"][0])
                optimizer.step()
                if metrics:
                    scheduler.step([5.0, 4.0, 4.0, 3.9999, 3.0, 3.0, 3.1][i % 7] + i // 7)
                else:
                    scheduler.step(*([] if given is None else [given(i)]))
                if resumed and i == 20:
                    saved = scheduler.state_dict()
                    again = build(m.optim.lr_scheduler, optimizer)
                    again.load_state_dict(saved)
                    rates = scheduler.get_last_lr()
                    for group, lr in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = lr
                    scheduler = again
        state = scheduler.state_dict()
        kept = {name: value for name, value in state.items() if is_plain(value)}
        names = sorted(state), sorted(optimizer.param_groups[0])
        return [seen, scheduler.get_last_lr(), kept, *names]

    for kind in kinds:
        c(lambda m, kind=kind: values(m, kind), gradients=0, compiled=False)
    c(lambda m: values(m, "SGD", resumed=True), gradients=0, compiled=False)
    if epochs:
        c(lambda m: values(m, "SGD", lambda i: i * 3 % 50), gradients=0, compiled=False)


def refused(c, name, *settings):
    for args, kwargs in settings:
        c.error(lambda m, a=args, k=kwargs: getattr(m.optim.lr_scheduler, name)(made(m), *a, **k))
    if settings:
        args, kwargs = settings[0]
        c.error(lambda m, a=args, k=kwargs: getattr(m.optim.lr_scheduler, name)(3, *a, **k))


@case("torch.optim.lr_scheduler.LambdaLR")
def lambda_lr(c):
    schedule(c, lambda s, o: s.LambdaLR(o, lambda e: 0.9**e))
    schedule(c, lambda s, o: s.LambdaLR(o, [lambda e: 0.9**e, lambda e: 1 / (e + 1)]))
    refused(c, "LambdaLR", (([abs],), {}))


@case("torch.optim.lr_scheduler.MultiplicativeLR")
def multiplicative(c):
    schedule(c, lambda s, o: s.MultiplicativeLR(o, lambda e: 0.95))
    refused(c, "MultiplicativeLR", (([abs],), {}), ((3,), {}))


@case("torch.optim.lr_scheduler.StepLR")
def step_lr(c):
    schedule(c, lambda s, o: s.StepLR(o, 7, 0.5))
    schedule(c, lambda s, o: s.StepLR(o, step_size=3))
    resume(c, "StepLR", 2)


def resume(c, name, *args):
    """Continuing at an epoch needs the initial learning rates."""

    def function(m):
        optimizer = made(m)
        for group in optimizer.param_groups:
            group["initial_lr"] = 0.7
        scheduler = getattr(m.optim.lr_scheduler, name)(optimizer, *args, last_epoch=4)
        values = [scheduler.get_last_lr()]
        optimizer.step()
        for _ in range(5):
            scheduler.step()
            values.append(scheduler.get_last_lr())
        return values

    c(function, gradients=0, compiled=False)
    c.error(lambda m: getattr(m.optim.lr_scheduler, name)(made(m), *args, last_epoch=4))


@case("torch.optim.lr_scheduler.MultiStepLR")
def multi_step(c):
    schedule(c, lambda s, o: s.MultiStepLR(o, [3, 5, 5, 20], 0.5))
    resume(c, "MultiStepLR", [3, 6])


@case("torch.optim.lr_scheduler.ConstantLR")
def constant(c):
    schedule(c, lambda s, o: s.ConstantLR(o, 0.3, 6))
    refused(c, "ConstantLR", ((1.5,), {}), ((-1,), {}))


@case("torch.optim.lr_scheduler.LinearLR")
def linear(c):
    schedule(c, lambda s, o: s.LinearLR(o, 0.2, 0.8, 20))
    refused(c, "LinearLR", ((0.0,), {}), ((0.5, 1.5), {}))
    resume(c, "LinearLR", 0.5, 1.0, 8)


@case("torch.optim.lr_scheduler.ExponentialLR")
def exponential(c):
    schedule(c, lambda s, o: s.ExponentialLR(o, 0.9))
    resume(c, "ExponentialLR", 0.9)


@case("torch.optim.lr_scheduler.PolynomialLR")
def polynomial(c):
    schedule(c, lambda s, o: s.PolynomialLR(o, 30, 2.0))
    schedule(c, lambda s, o: s.PolynomialLR(o))


@case("torch.optim.lr_scheduler.CosineAnnealingLR")
def cosine(c):
    schedule(c, lambda s, o: s.CosineAnnealingLR(o, 10, 0.01))
    resume(c, "CosineAnnealingLR", 10)


@case("torch.optim.lr_scheduler.CosineAnnealingWarmRestarts")
def warm_restarts(c):
    schedule(c, lambda s, o: s.CosineAnnealingWarmRestarts(o, 7, 2, 0.01))
    schedule(c, lambda s, o: s.CosineAnnealingWarmRestarts(o, 6))
    refused(c, "CosineAnnealingWarmRestarts", ((0,), {}), ((5, 0), {}), ((5, 1, "a"), {}))
    c.error(lambda m: m.optim.lr_scheduler.CosineAnnealingWarmRestarts(made(m), 5).step(-1))


@case("torch.optim.lr_scheduler.CyclicLR")
def cyclic(c):
    both = ("SGD", "Adam")
    schedule(c, lambda s, o: s.CyclicLR(o, 0.1, 1.0, 5), kinds=both)
    schedule(c, lambda s, o: s.CyclicLR(o, [0.1, 0.2], 1.0, 5, 8, mode="triangular2"))
    schedule(c, lambda s, o: s.CyclicLR(o, 0.1, 1.0, 5, mode="exp_range", gamma=0.97))
    schedule(c, lambda s, o: s.CyclicLR(o, 0.1, 1.0, 5, scale_fn=lambda x: 1 / x**0.5))
    refused(c, "CyclicLR", ((0.1, 1.0), {"mode": "x"}), (([0.1], 1.0), {}))
    c.error(lambda m: m.optim.lr_scheduler.CyclicLR(made(m, kind="Adagrad"), 0.1, 1.0))


@case("torch.optim.lr_scheduler.OneCycleLR")
def one_cycle(c):
    both = ("SGD", "Adam")
    schedule(c, lambda s, o: s.OneCycleLR(o, 1.0, 60), kinds=both)
    three = {"three_phase": True, "anneal_strategy": "linear"}
    schedule(c, lambda s, o: s.OneCycleLR(o, [1.0, 0.5], epochs=6, steps_per_epoch=10, **three))
    settings = [{}, {"total_steps": 0}, {"total_steps": 5, "pct_start": 2.0}]
    settings += [{"total_steps": 5, "anneal_strategy": "x"}, {"epochs": 0, "steps_per_epoch": 3}]
    refused(c, "OneCycleLR", *[((1.0,), given) for given in settings])

    def too_far(m):
        scheduler = m.optim.lr_scheduler.OneCycleLR(made(m), 1.0, total_steps=2)
        for _ in range(4):
            scheduler.step()

    c.error(too_far)


@case("torch.optim.lr_scheduler.ReduceLROnPlateau")
def plateau(c):
    for given in (
        {"patience": 1, "factor": 0.5, "cooldown": 1},
        {"patience": 0, "mode": "max", "threshold_mode": "abs", "threshold": 0.5, "min_lr": 0.2},
        {"patience": 2, "threshold": 0.3, "min_lr": [0.1, 0.05]},
    ):
        schedule(
            c,
            lambda s, o, given=given: s.ReduceLROnPlateau(o, **given),
            epochs=False,
            metrics=True,
        )
    settings = [{"factor": 1.0}, {"mode": "x"}, {"threshold_mode": "x"}, {"min_lr": [1.0]}]
    refused(c, "ReduceLROnPlateau", *[((), given) for given in settings])


def chain(s, o):
    return [s.ConstantLR(o, 0.1, 5), s.ExponentialLR(o, 0.9), s.CosineAnnealingLR(o, 10)]


@case("torch.optim.lr_scheduler.SequentialLR")
def sequential(c):
    schedule(c, lambda s, o: s.SequentialLR(o, chain(s, o), [8, 25]), epochs=False)

    def wrong(m, milestones, schedulers, other=False):
        optimizer = made(m)
        s = m.optim.lr_scheduler
        listed = schedulers(s, made(m) if other else optimizer)
        return s.SequentialLR(optimizer, listed, milestones)

    c.error(lambda m: wrong(m, [3], chain))
    c.error(lambda m: wrong(m, [], lambda s, o: []))
    c.error(lambda m: wrong(m, [], lambda s, o: [3]))
    c.error(lambda m: wrong(m, [3, 4], chain, True))
    c.error(lambda m: wrong(m, [], lambda s, o: [s.ReduceLROnPlateau(o)]))


@case("torch.optim.lr_scheduler.ChainedScheduler")
def chained(c):
    schedule(c, lambda s, o: s.ChainedScheduler(chain(s, o), optimizer=o), epochs=False)
    c.error(lambda m: m.optim.lr_scheduler.ChainedScheduler([]))

    def two_optimizers(m):
        s = m.optim.lr_scheduler
        s.ChainedScheduler([s.ExponentialLR(made(m), 0.9), s.ExponentialLR(made(m), 0.9)])

    c.error(two_optimizers)


@case("torch.optim.lr_scheduler.LRScheduler")
def base(c):
    def own(m):
        class Halves(m.optim.lr_scheduler.LRScheduler):
            def get_lr(self):
                return [base / 2**self.last_epoch for base in self.base_lrs]

        optimizer = made(m)
        scheduler = Halves(optimizer)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            scheduler.step()
            optimizer.step()
            scheduler.step(5)
            scheduler.get_last_lr()
        kinds = [(w.category.__name__, str(w.message)[:40]) for w in seen]
        return [scheduler.get_last_lr(), sorted(scheduler.state_dict()), kinds]

    c(own, gradients=0, compiled=False)
    c.error(lambda m: m.optim.lr_scheduler.LRScheduler(made(m)))
    c.error(lambda m: m.optim.lr_scheduler.LRScheduler(3))


# Averages of models -------------------------------------------------------------------------------


@case("torch.optim.swa_utils.SWALR")
def swalr(c):
    def build(s, o, **given):
        import importlib

        package = type(o).__module__.split(".")[0]
        return importlib.import_module(f"{package}.optim.swa_utils").SWALR(o, **given)

    schedule(c, lambda s, o: build(s, o, swa_lr=0.05), epochs=False)
    schedule(c, lambda s, o: build(s, o, swa_lr=[0.05, 1.0], anneal_strategy="linear"))
    schedule(c, lambda s, o: build(s, o, swa_lr=0.05, anneal_epochs=0), epochs=False)
    for given in ({"anneal_strategy": "x"}, {"anneal_epochs": -1}, {"anneal_epochs": 1.5}):
        c.error(lambda m, g=given: m.optim.swa_utils.SWALR(made(m), 0.1, **g))
    c.error(lambda m: m.optim.swa_utils.SWALR(made(m), [0.1]))


def averaged(c, **given):
    """Three updates of an averaged model."""

    def function(m):
        settings = {k: v(m) if callable(v) else v for k, v in given.items()}
        model = m.nn.BatchNorm1d(3).double()
        average = m.optim.swa_utils.AveragedModel(model, **settings)
        for i in range(3):
            with m.no_grad():
                model.weight.fill_(i + 0.5)
                model.running_mean.fill_(i + 1.5)
            average.update_parameters(model)
        out = average.eval()(m.ones(2, 3, dtype=m.float64))
        return [dict(average.state_dict()), out.detach()]

    c(function, gradients=0)


@case("torch.optim.swa_utils.AveragedModel")
def averaged_model(c):
    averaged(c)
    averaged(c, use_buffers=True)
    averaged(c, avg_fn=lambda m: lambda average, value, count: 0.25 * average + 0.75 * value)
    averaged(c, multi_avg_fn=lambda m: m.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    f = abs
    c.error(lambda m: m.optim.swa_utils.AveragedModel(m.nn.Linear(1, 1), avg_fn=f, multi_avg_fn=f))


@case("torch.optim.swa_utils.get_ema_avg_fn", "torch.optim.swa_utils.get_swa_avg_fn")
def average_functions(c, name):
    arguments = (0.9,) if "ema" in name else ()

    def function(m, x, y):
        return getattr(m.optim.swa_utils, name)(*arguments)(x, y, m.tensor(3))

    c(function, c.f64(3), c.f64(3), gradients=0)
    if arguments:
        c.error(lambda m: getattr(m.optim.swa_utils, name)(1.5))


@case("torch.optim.swa_utils.get_ema_multi_avg_fn", "torch.optim.swa_utils.get_swa_multi_avg_fn")
def multi_average_functions(c, name):
    arguments = (0.9,) if "ema" in name else ()

    def function(m, x, y):
        average = x.detach().clone()
        getattr(m.optim.swa_utils, name)(*arguments)([average], [y.detach()], m.tensor(3))
        return average

    c(function, c.f64(3), c.f64(3), gradients=0)
    if arguments:
        c.error(lambda m: getattr(m.optim.swa_utils, name)(-0.5))


@case("torch.optim.swa_utils.update_bn")
def update_bn(c):
    def function(m, x, y):
        model = m.nn.Sequential(m.nn.BatchNorm1d(3), m.nn.ReLU()).double().eval()
        m.optim.swa_utils.update_bn([x, (y, 1)], model)
        return [dict(model.state_dict()), model.training, model[0].momentum]

    c(function, c.f64(4, 3).constant(), c.f64(5, 3).constant(), gradients=0)
    c(lambda m: m.optim.swa_utils.update_bn([], m.nn.Linear(1, 1)), gradients=0)
