"""Tables of vectors that integers name."""

from __future__ import annotations

from typing import Any

from braze.autograd.modes import no_grad
from braze.functions.creation import empty
from braze.nn import functional as F
from braze.nn import init
from braze.nn.modules.linear import placed
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor


class _Table(Module):
    """What the two have in common: the weight and its padding row."""

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None
    weight: Tensor

    def _make(
        self,
        size: tuple[int, int],
        padding_idx: int | None,
        weight: Tensor | None,
        trained: bool,
        device: Any,
        dtype: Any,
        label: str,
    ) -> None:
        rows, width = size
        self.num_embeddings = rows
        self.embedding_dim = width
        if padding_idx is not None:
            if padding_idx and not -rows <= padding_idx < rows:
                raise AssertionError(f"{label} must be within num_embeddings")
            padding_idx = padding_idx % rows if padding_idx < 0 else padding_idx
        self.padding_idx = padding_idx
        if weight is None:
            new = empty(rows, width, **placed(device, dtype))
            self.weight = Parameter(new, requires_grad=trained)
            self.reset_parameters()
        else:
            if list(weight.shape) != [rows, width]:
                raise AssertionError(
                    "Shape of weight does not match num_embeddings and embedding_dim"
                )
            self.weight = Parameter(weight, requires_grad=trained)

    def reset_parameters(self) -> None:
        """Draw new values; zeros for the padding row."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx].fill_(0)  # type: ignore[index]


def _table_size(embeddings: Tensor) -> tuple[int, int]:
    if embeddings.dim() != 2:
        raise AssertionError("Embeddings parameter is expected to be 2-dimensional")
    rows, width = embeddings.shape
    return rows, width


class Embedding(_Table):
    """A table of vectors, looked up by integers; see `nn.functional.embedding`.

    Args:
        padding_idx: this row starts at zero and is not trained.
        max_norm: rows that are used are scaled down to this `norm_type`-norm, in place.
        scale_grad_by_freq: divide a row's gradient by how often the row is used.
        sparse: the gradient of the weight is to be a sparse tensor.

    Shape: [...] to [..., embedding_dim]; weight [num_embeddings, embedding_dim], standard normal at
        first.

    Raises:
        AssertionError: `padding_idx` is no row.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        size = num_embeddings, embedding_dim
        self._make(size, padding_idx, _weight, not _freeze, device, dtype, "Padding_idx")
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq is not False:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        return text + (", sparse=True" if self.sparse is not False else "")

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A table of given rows, which are not trained if `freeze`."""
        rows, width = _table_size(embeddings)
        return cls(
            rows,
            width,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight=embeddings,
            _freeze=freeze,
        )


class EmbeddingBag(_Table):
    """Sums, means or maxima of the rows of a table in bags; see `nn.functional.embedding_bag`.

    Args:
        mode: "sum", "mean" or "max".
        padding_idx: rows of this number are left out; the row starts at zero.

    Shape: input [bags, length], or [n] with offsets, to [bags, embedding_dim].

    Raises:
        AssertionError: `padding_idx` is no row.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        size = num_embeddings, embedding_dim
        self._make(size, padding_idx, _weight, True, device, dtype, "padding_idx")
        self.mode = mode
        self.sparse = sparse
        self.include_last_offset = include_last_offset

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq is not False:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        text += f", mode={self.mode!r}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """A table of given rows, which are not trained if `freeze`."""
        rows, width = _table_size(embeddings)
        bag = cls(
            rows,
            width,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            embeddings,
            include_last_offset,
            padding_idx,
        )
        bag.weight.requires_grad = not freeze
        return bag
