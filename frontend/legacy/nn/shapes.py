"""Other shapes of the input, parts of it, and padding."""

from __future__ import annotations

from typing import Any

import braze
from braze.legacy.nn.module import Module, Table
from braze.nn import functional as F
from braze.sizes import Size


def _sizes_of(args: tuple[Any, ...]) -> Size:
    return Size(args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args)


class Reshape(Module):
    """Each example of a batch in another shape."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self.size = _sizes_of(args)

    def _forward(self, input: Table) -> Table:
        return input.reshape(input.size(0), *self.size)

    def _sizes(self) -> str:
        return f"({'x'.join(map(str, self.size))})"


class View(Module):
    """The whole input in another shape; one size may be -1."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self.resetSize(*args)

    def resetSize(self, *args: Any) -> Any:
        """Use another shape from now on."""
        self.size = _sizes_of(args)
        return self

    def _forward(self, input: Table) -> Table:
        return input.view(self.size)

    def _sizes(self) -> str:
        return f"({', '.join(map(str, self.size))})"


class Replicate(Module):
    """The input `nf` times along a new dimension."""

    def __init__(self, nf: int, dim: int = 0) -> None:
        super().__init__()
        if dim < 0:
            raise ValueError(f"[Replicate] dim must not be negative, given {dim}")
        self.nfeatures, self.dim = nf, dim

    def _forward(self, input: Table) -> Table:
        sizes = list(input.shape)
        sizes.insert(self.dim, self.nfeatures)
        return input.unsqueeze(self.dim).expand(sizes)


class Squeeze(Module):
    """Without dimensions of size 1, or without one of them."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def _forward(self, input: Table) -> Table:
        return input.squeeze() if self.dim is None else input.squeeze(self.dim)


class Unsqueeze(Module):
    """With a new dimension of size 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def _forward(self, input: Table) -> Table:
        return input.unsqueeze(self.dim)


class Transpose(Module):
    """Pairs of dimensions exchanged, one after another."""

    def __init__(self, *args: tuple[int, int]) -> None:
        super().__init__()
        self.permutations = args

    def _forward(self, input: Table) -> Table:
        for first, second in self.permutations:
            input = input.transpose(first, second)
        return input.contiguous()


class Select(Module):
    """One slice along a dimension."""

    def __init__(self, dimension: int, index: int) -> None:
        super().__init__()
        self.dimension, self.index = dimension, index

    def _forward(self, input: Table) -> Table:
        return input.select(self.dimension, self.index)


class Narrow(Module):
    """`length` slices along a dimension; a negative length counts from the end, -1 is all."""

    def __init__(self, dimension: int, offset: int, length: int = 1) -> None:
        super().__init__()
        self.dimension, self.index, self.length = dimension, offset, length

    def _forward(self, input: Table) -> Table:
        length = self.length
        if length < 0:
            length += input.size(self.dimension) - self.index + 1
        return input.narrow(self.dimension, self.index, length)


class Padding(Module):
    """`value` put into one dimension: -pad times in front of `index`, or `pad` times behind the
    element that is `index` from the end."""

    def __init__(self, dim: int, pad: int, value: float = 0, index: int = 0) -> None:
        super().__init__()
        self.dim, self.pad, self.value, self.index = dim, pad, value, index

    def _forward(self, input: Table) -> Table:
        size = input.size(self.dim)
        index = size - self.index if self.pad > 0 else self.index
        shape = list(input.shape)
        shape[self.dim] = abs(self.pad)
        middle = braze.full(shape, self.value, dtype=input.dtype, device=input.device)
        before = input.narrow(self.dim, 0, index)
        return braze.cat([before, middle, input.narrow(self.dim, index, size - index)], self.dim)


class _ImagePadding(Module):
    """Padding of the last two dimensions; the other sides are padded as the first, unless given."""

    _mode = "constant"

    def __init__(
        self,
        pad_l: int,
        pad_r: int | None = None,
        pad_t: int | None = None,
        pad_b: int | None = None,
    ) -> None:
        super().__init__()
        self.pad_l = pad_l
        self.pad_r, self.pad_t, self.pad_b = (
            pad_l if pad is None else pad for pad in (pad_r, pad_t, pad_b)
        )

    def _forward(self, input: Table) -> Table:
        return F.pad(input, (self.pad_l, self.pad_r, self.pad_t, self.pad_b), self._mode)

    def _sizes(self) -> str:
        return f"({self.pad_l}, {self.pad_r}, {self.pad_t}, {self.pad_b})"


class SpatialZeroPadding(_ImagePadding):
    """Zeros around images; negative widths cut off."""


class SpatialReflectionPadding(_ImagePadding):
    """Images continued by their mirror images."""

    _mode = "reflect"


class SpatialReplicationPadding(_ImagePadding):
    """Images continued by the values at their edges."""

    _mode = "replicate"


class VolumetricReplicationPadding(Module):
    """Volumes continued by the values at their faces."""

    def __init__(
        self,
        pleft: int,
        pright: int | None = None,
        ptop: int | None = None,
        pbottom: int | None = None,
        pfront: int | None = None,
        pback: int | None = None,
    ) -> None:
        super().__init__()
        self.pleft = pleft
        self.pright, self.ptop, self.pbottom, self.pfront, self.pback = (
            pleft if pad is None else pad for pad in (pright, ptop, pbottom, pfront, pback)
        )

    def _forward(self, input: Table) -> Table:
        sides = (self.pleft, self.pright, self.ptop, self.pbottom, self.pfront, self.pback)
        return F.pad(input, sides, "replicate")


class SpatialUpSamplingNearest(Module):
    """Images `scale` times as wide and high, each element repeated."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        if scale != int(scale) or scale < 1:
            raise ValueError(
                f"[SpatialUpSamplingNearest] scale must be a whole number, not {scale}"
            )
        self.scale_factor = int(scale)

    def _forward(self, input: Table) -> Table:
        wide = input.repeat_interleave(self.scale_factor, -1)
        return wide.repeat_interleave(self.scale_factor, -2)
