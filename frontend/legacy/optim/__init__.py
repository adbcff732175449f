"""The optimizers of Torch7, as PyTorch had them in `torch.legacy.optim`.

Each is a function `f(opfunc, x, config, state=None)` that improves the vector `x` in place.
`opfunc(x)` returns the loss and its gradient; `config` holds settings by name; what is kept between
calls is put into `state`, or into `config` if there is no `state`. They return `(x, loss)` with the
loss before the step, or what they say.
"""

from braze.legacy.optim.conjugate import cg
from braze.legacy.optim.first_order import (
    adadelta,
    adagrad,
    adam,
    adamax,
    asgd,
    nag,
    rmsprop,
    rprop,
    sgd,
)
from braze.legacy.optim.quasi_newton import lbfgs

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "asgd",
    "cg",
    "lbfgs",
    "nag",
    "rmsprop",
    "rprop",
    "sgd",
]
