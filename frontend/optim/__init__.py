"""Optimizers and learning-rate schedules, with PyTorch's names, settings and numbers."""

import importlib
from typing import Any

from braze.optim import lr_scheduler
from braze.optim.adadelta import Adadelta
from braze.optim.adafactor import Adafactor
from braze.optim.adagrad import Adagrad
from braze.optim.adam import Adam, AdamW
from braze.optim.adamax import Adamax
from braze.optim.asgd import ASGD
from braze.optim.lbfgs import LBFGS
from braze.optim.muon import Muon
from braze.optim.nadam import NAdam
from braze.optim.optimizer import Optimizer
from braze.optim.radam import RAdam
from braze.optim.rmsprop import RMSprop
from braze.optim.rprop import Rprop
from braze.optim.sgd import SGD
from braze.optim.sparse_adam import SparseAdam

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
]


def __getattr__(name: str) -> Any:
    """`swa_utils` is loaded when it is used: it needs the modules."""
    if name != "swa_utils":
        raise AttributeError(f"module 'braze.optim' has no attribute {name!r}")
    return importlib.import_module("braze.optim.swa_utils")
