"""Shared blocks in files with a name."""

import errno
import os

import pytest
from left_over import descriptors, shared_files

from braze.runtime import shared_files as module


def test_no_file_is_left_where_there_is_no_memory_for_a_block(monkeypatch):
    module.new_file_block(8)  # starts what cleans up
    before = shared_files(), descriptors()

    def full(fd, size):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", full)
        with pytest.raises(OSError, match="no space"):
            module.new_file_block(100)
    assert (shared_files(), descriptors()) == before
