"""The functions on tensors, by family. Importing this attaches them to `Tensor` as methods."""

from braze.functions.methods import attach

attach()
