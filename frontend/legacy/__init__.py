"""The surface that PyTorch had from Torch7: `legacy.nn` and `legacy.optim`.

Modules here compute their gradients by `backward(input, gradOutput)` and keep them beside their
parameters; programs written for it stay as they are. New programs use `braze.nn`.
"""

from braze.legacy import nn, optim

__all__ = ["nn", "optim"]
