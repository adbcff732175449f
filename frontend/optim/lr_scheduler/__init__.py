"""Schedules of the learning rate, with PyTorch's numbers. Changing it never recompiles: it is a
run-time number of the graph.
"""

from braze.optim.lr_scheduler.base import LRScheduler
from braze.optim.lr_scheduler.epochs import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    StepLR,
)
from braze.optim.lr_scheduler.one_cycle import OneCycleLR
from braze.optim.lr_scheduler.plateau import ReduceLROnPlateau

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "StepLR",
]
