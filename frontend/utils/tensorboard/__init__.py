"""`braze.utils.tensorboard`: a training run's numbers, pictures and graph for TensorBoard.

Event files are written by the package tensorboardX (`pip install braze[tensorboard]`): it has all
summaries and nothing else, while the package `tensorboard` is the viewer, a web server whose own
writer leaves the summaries to TensorFlow or PyTorch.
"""

from __future__ import annotations

from braze.utils.tensorboard.writer import SummaryWriter

__all__ = ["SummaryWriter"]
