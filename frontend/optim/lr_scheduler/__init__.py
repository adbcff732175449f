"""Schedules of the learning rate, with PyTorch's numbers. Changing it never recompiles: it is a
run-time number of the graph.
"""

from braze.optim.lr_scheduler.base import LRScheduler, _LRScheduler
from braze.optim.lr_scheduler.combined import ChainedScheduler, SequentialLR
from braze.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from braze.optim.lr_scheduler.cyclic import CyclicLR
from braze.optim.lr_scheduler.epochs import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from braze.optim.lr_scheduler.one_cycle import OneCycleLR
from braze.optim.lr_scheduler.plateau import ReduceLROnPlateau

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "_LRScheduler",
]
