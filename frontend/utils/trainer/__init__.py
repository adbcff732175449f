"""`braze.utils.trainer`: a training loop with plugins, a progress bar, and checkpoints from which a
killed run goes on bit for bit."""

from __future__ import annotations

from braze.utils.data.resumable import ResumableSampler
from braze.utils.trainer.checkpoints import Checkpoints
from braze.utils.trainer.plugins import (
    AccuracyMonitor,
    Logger,
    LossMonitor,
    Monitor,
    Plugin,
    ProgressBar,
    ProgressMonitor,
    TimeMonitor,
)
from braze.utils.trainer.trainer import Trainer

__all__ = [
    "AccuracyMonitor",
    "Checkpoints",
    "Logger",
    "LossMonitor",
    "Monitor",
    "Plugin",
    "ProgressBar",
    "ProgressMonitor",
    "ResumableSampler",
    "TimeMonitor",
    "Trainer",
]
