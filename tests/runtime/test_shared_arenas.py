"""Arenas in memory that other processes map: where they lie, and who gives them up."""

import mmap
import os

import numpy as np
from left_over import descriptors
from test_executable import F4, KERNEL, MAIN, NUMBER, artifact, run_twice_plus

from braze.runtime.executable import Executable
from braze.runtime.libc import protect
from braze.runtime.shared_blocks import HUGE_PAGE, SharedBlock, block_from_file, new_block
from braze.runtime.storage import Storage
from braze.runtime.workspace import Workspace


def test_large_blocks_lie_where_pages_may_be_huge():
    before = descriptors()
    for nbytes in (1, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE + 5000):
        block = new_block(nbytes)
        same = SharedBlock(os.dup(block.fd), nbytes)
        if nbytes >= HUGE_PAGE:
            assert block.address % HUGE_PAGE == same.address % HUGE_PAGE == 0
        assert block.in_huge_pages() in ((True, False) if nbytes >= HUGE_PAGE else (False,))
        here, there = np.asarray(block), np.asarray(same)
        assert not here.any()
        here[0] = here[-1] = 7
        assert there[0] == there[-1] == 7
        assert block_from_file(os.dup(block.fd), nbytes) is block
        del block, same, here, there
    assert descriptors() == before


def test_who_asks_for_huge_pages_writes_nothing():
    """Another process may be writing there."""
    block = new_block(2 * HUGE_PAGE)
    np.asarray(block)[:] = 5
    child = os.fork()
    if not child:
        protect(block.address, block.nbytes, mmap.PROT_READ)
        block.in_huge_pages()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (np.asarray(block) == 5).all()


def shared(nbytes):
    """An arena of this size in a block."""
    return new_block(max(nbytes, 1 << 16))


def shared_workspace():
    workspace = Workspace()
    workspace.arena_from(shared)
    executable = Executable(
        artifact([MAIN, KERNEL], [F4, NUMBER], [F4], arena_bytes=1 << 12), workspace
    )
    assert run_twice_plus(executable, [1, 1, 1, 1], 1.0) == [3] * 4
    assert isinstance(workspace.arena, SharedBlock)
    return workspace, executable


def test_an_arena_that_was_left_is_not_used_again():
    workspace, executable = shared_workspace()
    left = workspace.arena
    workspace.arena_from(shared)  # no other than before
    assert workspace.arena is left
    with workspace.lock:
        workspace.leave_arena()
    assert run_twice_plus(executable, [1, 1, 1, 1], 2.0) == [4] * 4
    assert isinstance(workspace.arena, SharedBlock) and workspace.arena is not left
    assert workspace.addresses[0] == workspace.arena.address != left.address


def test_a_forked_process_leaves_the_arena_to_its_parent():
    workspace, executable = shared_workspace()
    content = np.asarray(workspace.arena)
    content[:] = 9
    child = os.fork()
    if not child:
        try:
            fine = isinstance(workspace.arena, Storage)
            fine = fine and run_twice_plus(executable, [1, 1, 1, 1], 2.0) == [4] * 4
            fine = fine and isinstance(workspace.arena, Storage) and (content == 9).all()
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert isinstance(workspace.arena, SharedBlock)
