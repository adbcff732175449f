"""Averaging parameters now and then, in place of gradients in each iteration."""

from braze.distributed.algorithms.model_averaging import (
    averagers,
    hierarchical_model_averager,
    utils,
)

__all__ = ["averagers", "hierarchical_model_averager", "utils"]
