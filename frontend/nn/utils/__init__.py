"""Helpers for training: clip gradients, and view parameters as one vector."""

from braze.nn.utils import rnn
from braze.nn.utils.gradients import clip_grad_norm_, clip_grad_value_, get_total_norm
from braze.nn.utils.vectors import parameters_to_vector, vector_to_parameters

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "rnn",
    "vector_to_parameters",
]
