"""The named tuples that functions with several results give, by the names of the functions."""

from __future__ import annotations

from typing import NamedTuple

from braze.tensors import Tensor


class sort(NamedTuple):
    """What `braze.sort` gives: the sorted values, and where they were."""

    values: Tensor
    indices: Tensor


class topk(NamedTuple):
    """What `braze.topk` gives: the k values, and where they were."""

    values: Tensor
    indices: Tensor


class kthvalue(NamedTuple):
    """What `braze.kthvalue` gives: the k-th smallest values, and where they were."""

    values: Tensor
    indices: Tensor


class median(NamedTuple):
    """What `braze.median` gives along a dimension: the medians, and where they were."""

    values: Tensor
    indices: Tensor


class nanmedian(NamedTuple):
    """What `braze.nanmedian` gives along a dimension: the medians, and where they were."""

    values: Tensor
    indices: Tensor


class mode(NamedTuple):
    """What `braze.mode` gives: the most frequent values, and where they last were."""

    values: Tensor
    indices: Tensor


class histogram(NamedTuple):
    """What `braze.histogram` gives: the bins' contents, and their edges."""

    hist: Tensor
    bin_edges: Tensor


class aminmax(NamedTuple):
    """What `aminmax` gives."""

    min: Tensor
    max: Tensor


class frexp(NamedTuple):
    """What `braze.frexp` gives."""

    mantissa: Tensor
    exponent: Tensor


class histogramdd(NamedTuple):
    """What `braze.histogramdd` gives: the cells' contents, and the bins' edges by dimension."""

    hist: Tensor
    bin_edges: tuple[Tensor, ...]
