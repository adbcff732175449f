"""Functions of layers with the signatures that they have at PyTorch's top level.

There the order of the arguments differs from `nn.functional`, and a reduction is a number: 0 for
none (the default), 1 for the mean, 2 for the sum. The definitions are those of
`braze.nn.functional`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from braze.functions import activations, movement, pointwise, reductions
from braze.functions.arguments import require_tensors
from braze.functions.creation import empty, ones
from braze.functions.inplace import inplace_form
from braze.functions.movement import broadcast_tensors
from braze.functions.promotion import cast
from braze.ir.dtypes import bool_
from braze.nn import functional as F
from braze.nn.functional import recurrent
from braze.nn.functional.affine_grids import affine_grid_generator
from braze.nn.functional.convolution import convolve_transposed
from braze.nn.functional.dropout import check_probability, feature_dropout
from braze.nn.functional.embedding import bags_of_top_level, embedding_renorm_
from braze.nn.functional.grids import grid_sampler, grid_sampler_2d, grid_sampler_3d
from braze.nn.functional.losses import divergence
from braze.nn.functional.support import REDUCTIONS
from braze.tensors import Tensor

# Losses -------------------------------------------------------------------------------------------


def _reduction(value: int) -> str:
    if not isinstance(value, int) or not 0 <= value <= 2:
        raise ValueError(f"{value} is not a valid value for reduction")
    return REDUCTIONS[value]


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 0,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), computed without overflow; target broadcasts.

    Raises:
        RuntimeError: the shapes do not broadcast.
    """
    input, target = broadcast_tensors(input, target)
    return F.binary_cross_entropy_with_logits(
        input, target, weight, reduction=_reduction(reduction), pos_weight=pos_weight
    )


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """1 - cos(input1, input2) where the target is 1, max(0, cos - margin) where it is -1."""
    kind = _reduction(reduction)
    return F.cosine_embedding_loss(input1, input2, target, margin, reduction=kind)


def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 0
) -> Tensor:
    """The input where the target is 1, max(0, margin - input) where it is -1."""
    return F.hinge_embedding_loss(input, target, margin, reduction=_reduction(reduction))


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0
) -> Tensor:
    """max(0, -target * (input1 - input2) + margin)."""
    kind = _reduction(reduction)
    return F.margin_ranking_loss(input1, input2, target, margin, reduction=kind)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 0,
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)."""
    kind = _reduction(reduction)
    return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=kind)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: int = 0,
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log-probability of the targets."""
    kind = _reduction(reduction)
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, kind, zero_infinity)


def kl_div(
    input: Tensor, target: Tensor, reduction: int = 0, *, log_target: bool = False
) -> Tensor:
    """target * (log(target) - input), with `input` in logarithms."""
    require_tensors("kl_div", input=input, target=target)
    return divergence(input, target, _reduction(reduction), log_target)


def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Tensor:
    """exp(input) - target * input, or input - target * log(input + eps) if not `log_input`."""
    kind = _reduction(reduction)
    return F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=kind)


# Normalisation ------------------------------------------------------------------------------------


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """`nn.functional.batch_norm`."""
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """`nn.functional.instance_norm`."""
    return F.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """`nn.functional.layer_norm`."""
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """`nn.functional.group_norm`."""
    return F.group_norm(input, num_groups, weight, bias, eps)


def _statistics(input: Tensor, dims: list[int], eps: float) -> tuple[Tensor, Tensor]:
    """The mean, and one over the deviation, over dimensions that are kept."""
    mean = reductions.mean(input, dims, True)
    variance = reductions.var(input, dims, False, True)
    return mean, pointwise.UNARY["rsqrt"](pointwise.add(variance, eps))


def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`layer_norm`, and the mean and one over the deviation that it divided by."""
    result = F.layer_norm(input, normalized_shape, weight, bias, eps)
    dims = list(range(input.ndim - len(tuple(normalized_shape)), input.ndim))
    return result, *_statistics(input, dims, eps)


def native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`group_norm`, and of each group the mean and one over the deviation: [N, group]."""
    result = F.group_norm(input, group, weight, bias, eps)
    groups = movement.reshape(input, (N, group, C // group * HxW))
    mean, scale = _statistics(groups, [2], eps)
    return result, movement.squeeze(mean, 2), movement.squeeze(scale, 2)


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_norm`, and when training the mean of each channel and one over the deviation; else
    empty tensors."""
    result = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training:
        return result, empty(0, dtype=input.dtype), empty(0, dtype=input.dtype)
    dims = [d for d in range(input.ndim) if d != 1]
    mean, scale = _statistics(input, dims, eps)
    return result, movement.reshape(mean, (-1,)), movement.reshape(scale, (-1,))


# Dropout and embeddings ---------------------------------------------------------------------------


def _dropping(function: Callable[..., Tensor], name: str) -> dict[str, Any]:
    """The function and its in-place form, both with `train` in the third place."""

    def check(input: Tensor, p: float) -> None:
        if not 0.0 <= p <= 1.0:
            raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
        if not input.dtype.is_floating_point:
            raise RuntimeError(
                f"result type Float can't be cast to the desired output type {input.dtype!r}"
            )

    def plain(input: Tensor, p: float, train: bool) -> Tensor:
        check(input, p)
        return function(input, p, train)

    def inplace(input: Tensor, p: float, train: bool) -> Tensor:
        check(input, p)
        return function(input, p, train, True)

    plain.__name__, inplace.__name__ = name, f"{name}_"
    plain.__doc__, inplace.__doc__ = function.__doc__, f"In-place `{name}`."
    return {name: plain, f"{name}_": inplace}


def native_dropout(input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """`dropout`, and which elements it kept."""
    check_probability(p)
    if train is False or p == 0.0:
        return movement.clone(input), ones(input.shape, dtype=bool_)
    scale = F.dropout(ones(input.shape, dtype=input.dtype), p, True)
    return pointwise.mul(input, scale), cast(scale, bool_)


def embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that the indices name; row `padding_idx` (-1: none) gets no gradient.

    Raises:
        RuntimeError: the weight is no matrix.
    """
    padding = None if padding_idx < 0 else padding_idx
    return F.embedding(
        indices, weight, padding, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse
    )


# Convolution, padding and pooling -----------------------------------------------------------------


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """A convolution, or a transposed one, over as many dimensions as the weight has spatial ones.

    Raises:
        RuntimeError: the weight has neither one, two nor three of them.
    """
    spatial = weight.ndim - 2
    if spatial not in (1, 2, 3):
        raise RuntimeError(f"[convolution] no convolution for the weight {weight._handle.type}")
    if transposed:
        name = f"conv_transpose{spatial}d"
        rest = (stride, padding, output_padding, groups, dilation)
        return convolve_transposed(name, spatial, input, weight, bias, *rest)
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    return function(input, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """Pad the last dimensions with a number; see `nn.functional.pad`."""
    return F.pad(input, pad, value=value)


def _pooling(name: str) -> Callable[..., Tensor]:
    function = getattr(F, name)

    def pool(
        input: Tensor,
        kernel_size: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Tensor:
        return function(input, kernel_size, stride, padding, dilation, ceil_mode)  # type: ignore[no-any-return]

    pool.__name__ = name
    pool.__doc__ = function.__doc__.replace(", and if `return_indices` their positions", "")
    return pool


def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """`max_pool1d`, and the positions of the maxima."""
    return F.max_pool1d_with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)


def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """Maxima over bins, so that the last dimension gets the given size, and their positions."""
    return F.adaptive_max_pool1d_with_indices(input, output_size)


# By name ------------------------------------------------------------------------------------------

_OWN = (
    binary_cross_entropy_with_logits, cosine_embedding_loss, hinge_embedding_loss,
    margin_ranking_loss, triplet_margin_loss, ctc_loss, kl_div, poisson_nll_loss, batch_norm,
    instance_norm, layer_norm, group_norm, native_layer_norm, native_group_norm, native_batch_norm,
    native_dropout, embedding, embedding_renorm_, convolution, constant_pad_nd,
    max_pool1d_with_indices, adaptive_max_pool1d,
    affine_grid_generator, grid_sampler, grid_sampler_2d, grid_sampler_3d,
)  # fmt: skip
_SHARED = (
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc avg_pool1d "
    "adaptive_avg_pool1d bilinear cosine_similarity pairwise_distance pdist pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle rms_norm"
).split()
_ACTIVATIONS = "prelu hardshrink celu selu rrelu threshold".split()

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{function.__name__: function for function in _OWN},
    **{name: getattr(F, name) for name in _SHARED},
    "embedding_bag": bags_of_top_level,
    **{name: getattr(activations, name) for name in _ACTIVATIONS},
    **{f"{name}_": inplace_form(getattr(activations, name)) for name in _ACTIVATIONS[2:]},
    **{name: _pooling(name) for name in ("max_pool1d", "max_pool2d", "max_pool3d")},
    **recurrent.FUNCTIONS,
    **_dropping(F.dropout, "dropout"),
    **_dropping(feature_dropout, "feature_dropout"),
    **_dropping(F.alpha_dropout, "alpha_dropout"),
    **_dropping(F.feature_alpha_dropout, "feature_alpha_dropout"),
}
