"""Versions, as `torch.version`: of what is not used, None."""

from __future__ import annotations

from braze import __version__

cuda: str | None = None
cudnn: str | None = None
hip: str | None = None
debug = False
git_version: str | None = None

__all__ = ["__version__", "cuda", "cudnn", "debug", "git_version", "hip"]
