"""Optimizers and learning-rate schedules, with PyTorch's names, settings and numbers."""

from braze.optim import lr_scheduler, swa_utils
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
    "swa_utils",
]
