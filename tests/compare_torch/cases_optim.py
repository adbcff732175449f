"""Cases of optimizers: ten steps, the state after them, and settings that are refused."""

import warnings

import numpy as np
from compare_cases import case
from compare_modules import trajectory

STEPS = 6


def states(c, name, settings, dtype="float64", sparse=False, **options):
    """State dict and representation after some steps; step counts and the like are tensors there.

    Sparse, complex and 32-bit parameters are compared here too.
    """

    def function(m):
        rng = np.random.default_rng(5)

        def some():
            values = rng.normal(size=(4, 3))
            if complex_dtype(dtype):
                values = values + 1j * rng.normal(size=(4, 3))
            return m.tensor(values).to(getattr(m, dtype))

        parameter = m.nn.Parameter(some())
        optimizer = getattr(m.optim, name)([parameter], **settings)
        for _ in range(STEPS):
            gradient = some()
            if sparse:
                rows = m.tensor([[2, 0, 2, 3]])
                gradient = m.sparse_coo_tensor(rows, gradient, (4, 3))
            parameter.grad = gradient
            optimizer.step()
        saved = optimizer.state_dict()
        entry = saved["state"].get(0, {})
        # Step counts that are plain numbers are compared too.
        return [parameter.detach(), dict(entry), saved["param_groups"], repr(optimizer)]

    if complex_dtype(dtype):
        options = {"rtol": 1e-9, "atol": 1e-11} | options
    c(function, **{"gradients": 0, "compiled": dtype == "float32"} | options)


def complex_dtype(dtype):
    return dtype.startswith("complex")


def refused(c, name, *settings):
    for given in settings:
        c.error(lambda m, given=given: getattr(m.optim, name)([m.nn.Parameter(m.ones(2))], **given))
    c.error(lambda m: getattr(m.optim, name)([]))
    c.error(lambda m: getattr(m.optim, name)(m.ones(2)))
    c.error(lambda m: getattr(m.optim, name)([m.ones(2).requires_grad_() * 2]))
    c.error(lambda m: getattr(m.optim, name)([{"params": {m.ones(2)}}]))
    c.error(lambda m: getattr(m.optim, name)([m.nn.Parameter(m.ones(2))], lr=-1.0))


def usual(c, name, *settings, complex_=True):
    """Trajectories and states for each of some settings."""
    for given in settings:
        trajectory(c, lambda optim, ps, given=given: getattr(optim, name)(ps, **given))
        states(c, name, given)
    states(c, name, settings[-1], "float32")
    if complex_:
        states(c, name, settings[-1], "complex128")


DECAY = {"weight_decay": 0.1}


@case("torch.optim.SGD")
def sgd(c):
    usual(
        c,
        "SGD",
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True, **DECAY},
    )
    states(c, "SGD", {"lr": 0.1}, sparse=True)
    settings = [{"momentum": -1}, {"nesterov": True}, {"weight_decay": -1}]
    refused(c, "SGD", *settings, {"fused": True, "foreach": True})


@case("torch.optim.Adam", "torch.optim.AdamW")
def adam(c, name):
    usual(
        c, name, {"lr": 0.1}, {"lr": 0.1, "maximize": True, **DECAY}, {"lr": 0.1, "amsgrad": True}
    )
    settings = [{"betas": (1.0, 0.9)}, {"betas": (0.9, -1.0)}, {"eps": -1.0}, {"weight_decay": -1}]
    refused(c, name, *settings)

    def in_float(m):  # a tensor as learning rate
        return getattr(m.optim, name)([m.nn.Parameter(m.ones(2))], lr=m.tensor(0.1), foreach=True)

    c.error(in_float)


@case("torch.optim.Adagrad")
def adagrad(c):
    more = {"lr_decay": 0.2, "initial_accumulator_value": 0.3, "maximize": True, **DECAY}
    usual(c, "Adagrad", {"lr": 0.1}, {"lr": 0.1, **more})
    states(c, "Adagrad", {"lr": 0.1, "lr_decay": 0.2}, sparse=True)
    refused(c, "Adagrad", {"lr_decay": -1}, {"initial_accumulator_value": -1}, {"eps": -1})


@case("torch.optim.Adadelta")
def adadelta(c):
    usual(c, "Adadelta", {}, {"lr": 0.5, "rho": 0.8, "eps": 1e-5, "maximize": True, **DECAY})
    refused(c, "Adadelta", {"rho": 1.5}, {"eps": -1})


@case("torch.optim.Adamax")
def adamax(c):
    usual(c, "Adamax", {"lr": 0.1}, {"betas": (0.8, 0.9), "maximize": True, **DECAY})
    refused(c, "Adamax", {"betas": (0.8, 1.0)}, {"eps": -1})


@case("torch.optim.NAdam")
def nadam(c):
    decoupled = {"decoupled_weight_decay": True, **DECAY}
    usual(c, "NAdam", {"lr": 0.1}, {"momentum_decay": 0.1, **DECAY}, {"lr": 0.1, **decoupled})
    refused(c, "NAdam", {"momentum_decay": -1}, {"betas": (0.8, 1.0)})


@case("torch.optim.RAdam")
def radam(c):
    decoupled = {"decoupled_weight_decay": True, "maximize": True, **DECAY}
    usual(c, "RAdam", {"lr": 0.1, "betas": (0.9, 0.9)}, {"lr": 0.1, **DECAY}, decoupled)
    refused(c, "RAdam", {"betas": (0.8, 1.0)}, {"eps": -1})


@case("torch.optim.ASGD")
def asgd(c):
    usual(c, "ASGD", {"lr": 0.1}, {"lr": 0.1, "t0": 3, "lambd": 0.05, "maximize": True, **DECAY})
    refused(c, "ASGD", {"weight_decay": -1})


@case("torch.optim.RMSprop")
def rmsprop(c):
    more = {"momentum": 0.9, "centered": True, "maximize": True, **DECAY}
    usual(c, "RMSprop", {"lr": 0.1}, {"alpha": 0.8, "centered": True}, {"alpha": 0.9, **more})
    refused(c, "RMSprop", {"alpha": -1}, {"momentum": -1}, {"eps": -1})


@case("torch.optim.Rprop")
def rprop(c):
    more = {"etas": (0.3, 1.5), "step_sizes": (0.01, 0.2), "maximize": True}
    usual(c, "Rprop", {}, {"lr": 0.1, **more})
    refused(c, "Rprop", {"etas": (1.0, 1.2)})


@case("torch.optim.Adafactor")
def adafactor(c):
    usual(c, "Adafactor", {}, {"lr": 0.1, "d": 1.5, "maximize": True, **DECAY}, complex_=False)
    states(c, "Adafactor", {"lr": 0.1, "eps": (1e-8, 0.1), "beta2_decay": -0.5})
    refused(c, "Adafactor", {"d": 0.5}, {"beta2_decay": 1}, {"eps": (-1.0, 1e-3)})


@case("torch.optim.Muon")
def muon(c):
    for given in ({"lr": 0.1}, {"adjust_lr_fn": "match_rms_adamw", "nesterov": False}):
        states(c, "Muon", given)
        states(c, "Muon", given, "float32")
    c.error(lambda m: m.optim.Muon([m.nn.Parameter(m.ones(2))]))
    c.error(lambda m: m.optim.Muon([m.nn.Parameter(m.ones(2, 2))], adjust_lr_fn="x"))
    c.error(lambda m: m.optim.Muon([m.nn.Parameter(m.ones(2, 2))], lr=-1))


@case("torch.optim.SparseAdam")
def sparse_adam(c):
    for given in ({"lr": 0.1}, {"betas": (0.8, 0.9), "maximize": True}):
        states(c, "SparseAdam", given, sparse=True)
    refused(c, "SparseAdam", {"eps": 0.0}, {"betas": (0.8, 1.0)})
    c.error(lambda m: m.optim.SparseAdam([m.nn.Parameter(m.ones(2, dtype=m.complex64))]))

    def dense(m):
        p = m.nn.Parameter(m.ones(2))
        p.grad = m.ones(2)
        m.optim.SparseAdam([p]).step()

    c.error(dense)


@case("torch.optim.LBFGS")
def lbfgs(c):
    for given in (
        {"lr": 0.3, "max_iter": 4, "history_size": 3},
        {"max_iter": 6, "line_search_fn": "strong_wolfe"},
        {"max_iter": 3, "max_eval": 4, "line_search_fn": "strong_wolfe", "history_size": 2},
    ):
        trajectory(
            c,
            lambda optim, ps, given=given: optim.LBFGS(ps, **given),
            compiled=False,
            rtol=1e-6,
            atol=1e-8,
        )
    refused(c, "LBFGS")
    c.error(lambda m: m.optim.LBFGS([{"params": [m.ones(1)]}, {"params": [m.ones(1)]}]))

    def unknown(m):
        p = m.nn.Parameter(m.ones(2))
        optimizer = m.optim.LBFGS([p], line_search_fn="armijo")

        def closure():
            optimizer.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    c.error(unknown)


@case("torch.optim.Optimizer")
def optimizer(c):
    def own(m):
        class Sign(m.optim.Optimizer):
            def __init__(self, params, lr=0.1):
                super().__init__(params, {"lr": lr})

            @m.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for p in group["params"]:
                        p.add_(p.grad.sign(), alpha=-group["lr"])

        p = m.nn.Parameter(m.tensor([1.0, -1.0], dtype=m.float64))
        made = Sign([{"params": [("p", p)], "lr": 0.5}])
        calls = []
        made.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
        made.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))
        made.register_state_dict_post_hook(lambda o, d: {**d, "more": 1})
        (p * 3).sum().backward()
        made.step()
        made.zero_grad()
        made.add_param_group({"params": [("q", m.nn.Parameter(m.ones(1)))]})
        saved = made.state_dict()
        made.load_state_dict(saved)
        return [p.detach(), p.grad is None, calls, saved["param_groups"], saved["more"], repr(made)]

    c(own, gradients=0, compiled=False)

    def duplicates(m):
        p = m.nn.Parameter(m.ones(1))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            m.optim.SGD([p, p], lr=0.1)
        return [str(w.message)[:60] for w in seen if w.category is UserWarning]

    c(duplicates, gradients=0, compiled=False)
    for params in ([3], [], "names", [("a", 1)]):
        c.error(lambda m, params=params: m.optim.SGD(params, lr=0.1))

    def twice(m):
        p = m.nn.Parameter(m.ones(1))
        m.optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1)

    def partly_named(m):
        m.optim.SGD([("a", m.nn.Parameter(m.ones(1))), m.nn.Parameter(m.ones(1))], lr=0.1)

    def other_groups(m):
        made = m.optim.SGD([m.nn.Parameter(m.ones(1))], lr=0.1)
        made.load_state_dict({"state": {}, "param_groups": []})

    def no_step(m):
        m.optim.Optimizer([m.nn.Parameter(m.ones(1))], {}).step()

    for wrong in (twice, partly_named, other_groups, no_step):
        c.error(wrong)
