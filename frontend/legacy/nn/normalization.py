"""Normalisation: of batches, of rows, across planes, and of neighbourhoods in images."""

from __future__ import annotations

from typing import Any

import braze
from braze.legacy.nn.elementwise import root
from braze.legacy.nn.module import Module, Table
from braze.nn import functional as F
from braze.tensors import Tensor


class BatchNormalization(Module):
    """(x - mean) / sqrt(variance + eps) of each feature over the batch, times weight, plus bias.

    Outside training the running statistics are used (Ioffe and Szegedy, arXiv 1502.03167).

    Shape:
        input: (N, nOutput). weight, bias, running_mean, running_var: (nOutput).
    """

    nDim = 2

    def __init__(
        self, nOutput: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.affine, self.eps, self.momentum = affine, eps, momentum
        self.running_mean = braze.zeros(nOutput)
        self.running_var = braze.ones(nOutput)
        shape = (nOutput,) if affine else None
        self._make_parameters(weight=shape, bias=shape)
        self.reset()

    def reset(self, stdv: float | None = None) -> Any:
        if self.affine:
            self.weight.uniform_()
            self.bias.zero_()
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def _forward(self, input: Table) -> Table:
        if input.dim() != self.nDim:
            raise RuntimeError(
                f"only mini-batch supported ({self.nDim}D tensor), got {input.dim()}D tensor "
                "instead"
            )
        if input.size(1) != self.running_mean.numel():
            raise RuntimeError(
                f"got {input.size(1)}-feature tensor, expected {self.running_mean.numel()}"
            )
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.train,
            self.momentum,
            self.eps,
        )

    def _sizes(self) -> str:
        affine = "" if self.affine else " without affine"
        return f"({self.nDim}D) ({self.running_mean.size(0)}){affine}"


class SpatialBatchNormalization(BatchNormalization):
    """`BatchNormalization` of the planes of images, (N, C, H, W)."""

    nDim = 4


class VolumetricBatchNormalization(BatchNormalization):
    """`BatchNormalization` of the planes of volumes, (N, C, T, H, W)."""

    nDim = 5


class Normalize(Module):
    """Rows divided by their p-norm; eps is added under the root (to the norm, if p is infinite)."""

    def __init__(self, p: float, eps: float = 1e-10) -> None:
        super().__init__()
        if p <= 0:
            raise ValueError(f"[Normalize] p must be positive, given {p}")
        self.p, self.eps = p, eps

    def _forward(self, input: Table) -> Table:
        if input.dim() != 2:
            raise RuntimeError(f"[Normalize] rows are needed, given {input.dim()} dimensions")
        size = input.abs()
        if self.p == float("inf"):
            return input / (size.max(1, True)[0] + self.eps)
        return input / (size.pow(self.p).sum(1, True) + self.eps).pow(1 / self.p)

    def _sizes(self) -> str:
        return f"({self.p})"


class SpatialCrossMapLRN(Module):
    """x / (k + alpha / size * sum of squares over `size` neighbouring planes) ** beta."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def _forward(self, input: Table) -> Table:
        if input.dim() != 4:
            raise RuntimeError(f"[SpatialCrossMapLRN] (N, C, H, W) is needed, given {input.shape}")
        before = (self.size - 1) // 2
        squares = braze.constant_pad_nd(input * input, (0, 0, 0, 0, before, self.size - 1 - before))
        sums = squares.unfold(1, self.size, 1).sum(-1)
        return input * (sums * (self.alpha / self.size) + self.k).pow(-self.beta)


# Neighbourhoods -----------------------------------------------------------------------------------


class _Neighbourhood(Module):
    """Weighted means around each pixel, over all planes, right at the edges too.

    Args:
        kernel: the weights: (h, w), or (n) for both directions; odd sizes. 9 x 9 equal ones by
            default.
    """

    def __init__(self, nInputPlane: int = 1, kernel: Tensor | None = None) -> None:
        super().__init__()
        self.nInputPlane = nInputPlane
        self.kernel = braze.ones(9, 9) if kernel is None else kernel
        name = type(self).__name__
        if self.kernel.dim() not in (1, 2):
            raise ValueError(f"{name} averaging kernel must be 2D or 1D")
        if any(size % 2 == 0 for size in self.kernel.shape):
            raise ValueError(f"{name} averaging kernel must have ODD dimensions")

    def _mean(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        kernel = self.kernel.to(x.dtype)
        if kernel.dim() == 1:
            kernel = kernel.view(-1, 1) * kernel
        kernel = kernel / (kernel.sum() * self.nInputPlane)
        height, width = kernel.shape
        weight = kernel.expand(1, self.nInputPlane, height, width)
        return F.conv2d(x, weight, padding=(height // 2, width // 2))

    def _adjusted(self, x: Tensor, function: Any) -> Tensor:
        """A function of means, divided by how much of the kernel lies in the image."""
        return function(self._mean(x)) / self._mean(braze.ones_like(x[:1].detach()))

    def _forward(self, input: Table) -> Table:
        images = input if input.dim() == 4 else input.unsqueeze(0)
        return self._normalised(images).view(input.shape)

    def _normalised(self, images: Tensor) -> Tensor:
        raise NotImplementedError


class SpatialSubtractiveNormalization(_Neighbourhood):
    """Images less the weighted mean of each pixel's neighbourhood."""

    def _normalised(self, images: Tensor) -> Tensor:
        return images - self._adjusted(images, lambda mean: mean)


class SpatialDivisiveNormalization(_Neighbourhood):
    """Images divided by the weighted root mean square of each pixel's neighbourhood.

    Args:
        threshold, thresval: what divides is `thresval` where it would not be above `threshold`.
    """

    def __init__(
        self,
        nInputPlane: int = 1,
        kernel: Tensor | None = None,
        threshold: float = 1e-4,
        thresval: float | None = None,
    ) -> None:
        super().__init__(nInputPlane, kernel)
        self.threshold = threshold
        self.thresval = threshold if thresval is None else thresval

    def _normalised(self, images: Tensor) -> Tensor:
        deviation = self._adjusted(images * images, root)
        return images / F.threshold(deviation, self.threshold, self.thresval)


class SpatialContrastiveNormalization(SpatialDivisiveNormalization):
    """`SpatialSubtractiveNormalization`, then `SpatialDivisiveNormalization`."""

    def __init__(
        self,
        nInputPlane: int = 1,
        kernel: Tensor | None = None,
        threshold: float = 1e-4,
        thresval: float = 1e-4,
    ) -> None:
        super().__init__(nInputPlane, kernel, threshold, thresval or threshold)

    def _normalised(self, images: Tensor) -> Tensor:
        return super()._normalised(images - self._adjusted(images, lambda mean: mean))
