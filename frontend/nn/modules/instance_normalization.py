"""Instance normalisation layers: each channel of each sample by itself."""

from __future__ import annotations

import warnings
from collections.abc import MutableMapping
from typing import Any

from braze.functions.movement import squeeze, unsqueeze
from braze.nn import functional as F
from braze.nn.modules.normalization import _NormBase
from braze.sites import user_stacklevel
from braze.tensors import Tensor


class _InstanceNorm(_NormBase):
    """Normalises each channel of each sample over its spatial dimensions, then scales and shifts
    it.

    Args:
        num_features: the number of channels.
        eps: added to the variance.
        momentum: how far the running statistics move towards each batch's.
        affine: whether there are a weight and, if `bias`, a bias to train (1 and 0 at first).
        track_running_stats: keep running statistics and use them in evaluation.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

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
        if local_metadata.get("version") is None and not self.track_running_stats:
            kept = [prefix + name for name in ("running_mean", "running_var")]
            kept = [key for key in kept if key in state_dict]
            if kept:
                names, layer = " and ".join(f'"{key}"' for key in kept), type(self).__name__
                error_msgs.append(
                    f"Unexpected running stats buffer(s) {names} for {layer} with "
                    "track_running_stats=False. Remove these keys from state_dict, or set "
                    f"track_running_stats=True in {layer}."
                )
                for key in kept:
                    del state_dict[key]
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        single = self.ranks[0]
        dim = input.ndim - single
        if input.shape[dim] != self.num_features:
            if self.affine:
                raise ValueError(
                    f"expected input's size at dim={dim} to match num_features "
                    f"({self.num_features}), but got: {input.shape[dim]}."
                )
            warnings.warn(
                f"input's size at dim={dim} does not match num_features. You can silence this "
                "warning by not passing in num_features, which is not used because affine=False",
                stacklevel=user_stacklevel(),
            )
        if input.ndim == single:
            return squeeze(self._normalised(unsqueeze(input, 0)), 0)
        return self._normalised(input)

    def _normalised(self, input: Tensor) -> Tensor:
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of [N, C, L] or [C, L]."""

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of [N, C, H, W] or [C, H, W]."""

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of [N, C, D, H, W] or [C, D, H, W]."""

    ranks = (4, 5)
