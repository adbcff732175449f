"""`braze.utils.trainer.plugins`: all plugins, under the name that PyTorch 0.4 had for them."""

from __future__ import annotations

from braze.utils.trainer.logger import Logger, ProgressBar
from braze.utils.trainer.monitors import (
    AccuracyMonitor,
    LossMonitor,
    Monitor,
    Plugin,
    ProgressMonitor,
    TimeMonitor,
)

__all__ = [
    "AccuracyMonitor",
    "Logger",
    "LossMonitor",
    "Monitor",
    "Plugin",
    "ProgressBar",
    "ProgressMonitor",
    "TimeMonitor",
]
