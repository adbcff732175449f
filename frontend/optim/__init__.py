"""Optimizers and learning-rate schedules, with PyTorch's names, settings and numbers."""

from braze.optim import lr_scheduler
from braze.optim.adam import Adam, AdamW
from braze.optim.optimizer import Optimizer
from braze.optim.sgd import SGD
from braze.optim.sparse_adam import SparseAdam

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "SparseAdam", "lr_scheduler"]
