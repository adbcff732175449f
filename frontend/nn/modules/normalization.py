"""Normalisation layers."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np

from braze.autograd.modes import no_grad
from braze.devices import place_of
from braze.functions.creation import ones, zeros
from braze.functions.pointwise import add, div
from braze.functions.promotion import cast
from braze.handle import BUFFER
from braze.nn import functional as F
from braze.nn import init
from braze.nn.modules.linear import placed
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.placing import array_on
from braze.tensors import Tensor


class _Affine(Module):
    """What ends by scaling with a weight (1 at first) and shifting by a bias (0 at first), or by
    either or neither."""

    weight: Parameter | None
    bias: Parameter | None

    def _make_affine(self, shape: Any, weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        place = placed(device, dtype)
        self.register_parameter("weight", Parameter(ones(shape, **place)) if weight else None)
        self.register_parameter("bias", Parameter(zeros(shape, **place)) if bias else None)

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _NormBase(_Affine):
    """Weight, bias and running statistics of the channels."""

    _version = 2
    ranks: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._make_affine(num_features, affine, affine and bias, device, dtype)
        statistics = track_running_stats
        mean = zeros(num_features, **placed(device, dtype)) if statistics else None
        variance = ones(num_features, **placed(device, dtype)) if statistics else None
        count = steps_counted(device) if statistics else None
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        self.num_batches_tracked: Tensor | None
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", variance)
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        if self.running_mean is not None and self.running_var is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            assert self.num_batches_tracked is not None
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Forget the running statistics and what was trained."""
        self.reset_running_stats()
        super().reset_parameters()

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in self.ranks:
            wanted = " or ".join(f"{rank}D" for rank in self.ranks)
            raise ValueError(f"expected {wanted} input (got {input.ndim}D input)")

    def _load_from_state_dict(
        self,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.num_batches_tracked is not None:
            # Version 2 added the count of batches.
            state_dict.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


def steps_counted(device: Any) -> Tensor:
    """The buffer that counts training steps, in memory at once."""
    return array_on(place_of(device), np.zeros((), np.int64), BUFFER)


class _BatchNorm(_NormBase):
    """Normalises each channel (dimension 1) over the batch, then scales and shifts it.

    Args:
        num_features: the number of channels.
        eps: added to the variance.
        momentum: how far the running statistics move towards each batch's; None keeps a plain
            average.
        affine: whether there are a weight and, if `bias`, a bias to train (1 and 0 at first).
        track_running_stats: keep running statistics and use them in evaluation.
    """

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        mean, variance = self.running_mean, self.running_var
        training = self.training or (mean is None and variance is None)
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats:
            momentum = self._count_batch(momentum)
        elif self.training:
            mean = variance = None
        return self._normalised(input, mean, variance, training, momentum)

    def _normalised(
        self,
        input: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        training: bool,
        momentum: float | Tensor,
    ) -> Tensor:
        return F.batch_norm(
            input, mean, variance, self.weight, self.bias, training, momentum, self.eps
        )

    def _count_batch(self, momentum: float | Tensor) -> float | Tensor:
        """Count one more batch; the momentum to move by, 1 / count for a plain average."""
        count = self.num_batches_tracked
        if count is None:
            return momentum
        with no_grad():
            count._replace(add(count, 1))
            if self.momentum is None and self.running_mean is not None:
                return div(1.0, cast(count, self.running_mean.dtype))
        return momentum


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of [N, C] or [N, C, L]."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of [N, C, H, W]."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of [N, C, D, H, W]."""

    ranks = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation of [N, C, ...] over the batches of all processes of a group together. In
    evaluation, and in a program of one process, it is `BatchNorm1d` and the others for any rank.

    Args:
        process_group: the processes (`braze.distributed`) that share their statistics, each of
            which calls it in training, and goes backward, as often as the others; None: all.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2D input (got {input.ndim}D input)")
        if input.shape[1] == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    def _normalised(
        self,
        input: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        training: bool,
        momentum: float | Tensor,
    ) -> Tensor:
        if self.training:
            from braze.distributed.synchronised import batch_norm, sharing

            group = sharing(self.process_group)
            if group is not None:
                return batch_norm(
                    input, mean, variance, self.weight, self.bias, momentum, self.eps, group
                )
        return super()._normalised(input, mean, variance, training, momentum)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with every batch normalisation in it replaced by a `SyncBatchNorm` that has
        its parameters and statistics; the module itself, unless it is one."""
        converted = module
        if isinstance(module, _BatchNorm):
            converted = SyncBatchNorm(
                module.num_features,
                module.eps,
                module.momentum,
                module.affine,
                module.track_running_stats,
                process_group,
                bias=module.bias is not None,
            )
            converted.weight, converted.bias = module.weight, module.bias
            converted.running_mean, converted.running_var = module.running_mean, module.running_var
            converted.num_batches_tracked = module.num_batches_tracked
            converted.training = module.training
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted


class LayerNorm(_Affine):
    """Normalises over the last dimensions, then scales and shifts each element.

    Args:
        normalized_shape: the sizes of these dimensions.
        elementwise_affine: whether there is a weight (1 at first) and, if `bias`, a bias (0 at
            first).
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        single = isinstance(normalized_shape, int)
        self.normalized_shape = (normalized_shape,) if single else tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        has_bias = elementwise_affine and bias
        self._make_affine(self.normalized_shape, elementwise_affine, has_bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class GroupNorm(_Affine):
    """Normalises each sample's channels in groups, then scales and shifts each channel.

    Raises:
        ValueError: the groups do not divide the channels.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(
                f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._make_affine(num_channels, affine, affine and bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )
