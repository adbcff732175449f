"""Local response normalisation, and normalisation by the root mean square."""

from __future__ import annotations

from typing import Any

from braze.functions.creation import ones
from braze.nn import functional as F
from braze.nn import init
from braze.nn.functional.normalization import response_norm
from braze.nn.modules.linear import placed
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor


class LocalResponseNorm(Module):
    """Divides by (k + alpha * the mean square over `size` neighbouring channels) ** beta
    (Krizhevsky, Sutskever, Hinton, NIPS 2012).

    Shape: [N, C, ...] to the same.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """`LocalResponseNorm` of [N, C, H, W] over windows that are symmetric for even sizes too: the
    channel and (size - 1) // 2 on each side.

    Raises:
        ValueError: the input is not 4-D.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 4:
            raise ValueError(f"CrossMapLRN2d: Expected input to be 4D, got {input.ndim}D instead.")
        side = (self.size - 1) // 2
        return response_norm(input, side, side, self.size, self.alpha, self.beta, self.k)


class RMSNorm(Module):
    """Divides by the root of the mean square over the last dimensions, then scales each element
    (Zhang and Sennrich, arXiv 1910.07467).

    Args:
        normalized_shape: the sizes of these dimensions.
        eps: added to the mean square; by default the dtype's precision.
        elementwise_affine: whether there is a weight to train (1 at first).
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        single = isinstance(normalized_shape, int)
        self.normalized_shape = (normalized_shape,) if single else tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        shape = self.normalized_shape
        weight = Parameter(ones(shape, **placed(device, dtype))) if elementwise_affine else None
        self.weight: Parameter | None
        self.register_parameter("weight", weight)

    def reset_parameters(self) -> None:
        """Set the weight to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )
