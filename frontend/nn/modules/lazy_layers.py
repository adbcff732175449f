"""Layers that learn their number of input channels or features from their first input."""

from __future__ import annotations

from typing import Any

from braze.autograd.modes import no_grad
from braze.nn.functional.support import IntOrInts
from braze.nn.modules.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    _Conv,
    _ConvNd,
    _ConvTranspose,
)
from braze.nn.modules.instance_normalization import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from braze.nn.modules.lazy import LazyModuleMixin
from braze.nn.modules.linear import Linear, placed
from braze.nn.modules.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, steps_counted
from braze.nn.parameter import Parameter
from braze.nn.uninitialized import (
    UninitializedBuffer,
    UninitializedParameter,
    UninitializedTensorMixin,
)
from braze.tensors import Tensor


class LazyLinear(LazyModuleMixin, Linear):
    """A `Linear` whose `in_features` is the size of the last dimension of the first input."""

    cls_to_become = Linear

    def __init__(
        self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(0, 0, False)
        self.out_features = out_features
        self.weight = UninitializedParameter(**placed(device, dtype))
        if bias:
            self.bias = UninitializedParameter(**placed(device, dtype))

    def reset_parameters(self) -> None:
        """Draw new values, once there are shapes."""
        if not self.has_uninitialized_params() and self.in_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:  # type: ignore[override]
        """Give weight and bias their shapes, and draw values.

        Raises:
            AssertionError: a weight that was loaded has another number of columns.
        """
        features = input.shape[-1]
        if self.has_uninitialized_params():
            with no_grad():
                self.in_features = features
                _materialize(self.weight, (self.out_features, features))
                _materialize(self.bias, (self.out_features,))
                self.reset_parameters()
        if self.in_features == 0:
            if features != self.weight.shape[-1]:
                raise AssertionError(
                    f"The in_features inferred from input: {features} is not equal to in_features "
                    f"from self.weight: {self.weight.shape[-1]}"
                )
            self.in_features = features


def _materialize(tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    """Give a shape to what has none."""
    if tensor is None:
        return
    if not isinstance(tensor, UninitializedTensorMixin):
        raise AssertionError(
            f"a state was loaded that holds some of the module's parameters only: {shape} is to be "
            f"drawn, but {list(tensor.shape)} has values"
        )
    tensor.materialize(shape)


# Convolutions -------------------------------------------------------------------------------------


class _LazyConvNd(LazyModuleMixin, _ConvNd):
    """A convolution whose `in_channels` is that of the first input."""

    def _make_lazy(self, out_channels: int, bias: bool, device: Any, dtype: Any) -> None:
        self.out_channels = out_channels
        self.weight = UninitializedParameter(**placed(device, dtype))
        if bias:
            self.bias = UninitializedParameter(**placed(device, dtype))

    def reset_parameters(self) -> None:
        """Draw new values, once there are shapes."""
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Give weight and bias their shapes, and draw values.

        Raises:
            ValueError: the groups do not divide the channels. RuntimeError: the input has other
                dimensions.
        """
        if self.has_uninitialized_params():
            self.in_channels = self._channels_of(input)
            if self.in_channels % self.groups:
                raise ValueError("in_channels must be divisible by groups")
            _materialize(self.weight, self._weight_shape())
            _materialize(self.bias, (self.out_channels,))
            self.reset_parameters()
        if self.in_channels == 0:  # the weight was loaded
            of_one_group = self.weight.shape[0 if self.transposed else 1]
            self.in_channels = of_one_group * (1 if self.transposed else self.groups)

    def _channels_of(self, input: Tensor) -> int:
        single = self.spatial + 1
        if input.ndim not in (single, single + 1):
            raise RuntimeError(
                f"Expected {single}D (unbatched) or {single + 1}D (batched) input to "
                f"{type(self).__name__}, but got input of size: {input.shape}"
            )
        return input.shape[-single]


class _LazyConv(_LazyConvNd, _Conv):
    def __init__(
        self,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts | str = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        geometry = (kernel_size, stride, padding, dilation, groups)
        super().__init__(0, 0, *geometry, False, padding_mode, device, dtype)
        self._make_lazy(out_channels, bias, device, dtype)


class LazyConv1d(_LazyConv, Conv1d):
    """A `Conv1d` whose `in_channels` is that of the first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A `Conv2d` whose `in_channels` is that of the first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A `Conv3d` whose `in_channels` is that of the first input."""

    cls_to_become = Conv3d


class _LazyConvTranspose(_LazyConvNd, _ConvTranspose):
    def __init__(
        self,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrInts = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        geometry = (kernel_size, stride, padding, output_padding, groups)
        super().__init__(0, 0, *geometry, False, dilation, padding_mode, device, dtype)
        self._make_lazy(out_channels, bias, device, dtype)


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A `ConvTranspose1d` whose `in_channels` is that of the first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A `ConvTranspose2d` whose `in_channels` is that of the first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A `ConvTranspose3d` whose `in_channels` is that of the first input."""

    cls_to_become = ConvTranspose3d


# Normalisation ------------------------------------------------------------------------------------


class _LazyNorm(LazyModuleMixin):
    """A normalisation whose `num_features` is the size of the input's dimension 1."""

    num_features: int
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, False, False, device, dtype)
        self.affine = affine
        self.track_running_stats = track_running_stats
        where = placed(device, dtype)
        if affine:
            self.weight = UninitializedParameter(**where)
            if bias:
                self.bias = UninitializedParameter(**where)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(**where)
            self.running_var = UninitializedBuffer(**where)
            self.num_batches_tracked = steps_counted(device)

    def reset_parameters(self) -> None:
        """Forget the running statistics and what was trained, once there are shapes."""
        if not self.has_uninitialized_params() and self.num_features != 0:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Tensor) -> None:  # type: ignore[override]
        """Give all parameters and buffers their shape and first values."""
        if self.has_uninitialized_params():
            self.num_features = input.shape[1]
            for tensor in (self.weight, self.bias, self.running_mean, self.running_var):
                _materialize(tensor, (self.num_features,))
            self.reset_parameters()
        if self.num_features == 0 and self.weight is not None:  # which was loaded
            self.num_features = self.weight.shape[0]


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """A `BatchNorm1d` whose `num_features` is the size of the first input's dimension 1."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """A `BatchNorm2d` whose `num_features` is the size of the first input's dimension 1."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """A `BatchNorm3d` whose `num_features` is the size of the first input's dimension 1."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """An `InstanceNorm1d` whose `num_features` is the size of the first input's dimension 1."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """An `InstanceNorm2d` whose `num_features` is the size of the first input's dimension 1."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """An `InstanceNorm3d` whose `num_features` is the size of the first input's dimension 1."""

    cls_to_become = InstanceNorm3d
