"""Braze: deep learning that feels eager and is compiled underneath."""
