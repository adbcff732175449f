"""Files that are there whole or not at all, and what killed writers leave."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from braze.runtime import files
from braze.runtime.files import replacing


def names(folder):
    return sorted(entry.name for entry in os.scandir(folder))


@pytest.fixture
def writer(tmp_path):
    """A process that has begun to write `out`, and waits."""
    program = """
        import sys, time
        from pathlib import Path
        from braze.runtime.files import replacing
        with replacing(Path(sys.argv[1])) as file:
            file.write(b"half")
            file.flush()
            print("begun", flush=True)
            sys.stdin.read()
        """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        yield process
        process.kill()


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = names(tmp_path)
    assert left.startswith(f".out.{writer.pid}-")
    others = [".out.mine", ".outer.1-2-3", "out.1-2-3", ".other.1-2-3"]
    for name in others:
        (tmp_path / name).write_text("")
    with replacing(tmp_path / "other") as file:
        file.write(b"x")
    assert left in names(tmp_path)
    with replacing(tmp_path / "out") as file:
        file.write(b"whole")
    assert names(tmp_path) == sorted([*others[:-1], "other", "out"])
    assert (tmp_path / "out").read_bytes() == b"whole"


def test_a_file_that_is_being_written_stays(tmp_path, writer):
    with replacing(tmp_path / "out") as file:
        file.write(b"first")
        with replacing(tmp_path / "out") as inner:
            inner.write(b"second")
        assert len(names(tmp_path)) == 3
    assert (tmp_path / "out").read_bytes() == b"first"
    writer.communicate()
    assert writer.returncode == 0
    assert (tmp_path / "out").read_bytes() == b"half" and names(tmp_path) == ["out"]


def test_a_file_that_was_taken_for_left_over_is_begun_again(tmp_path, monkeypatch):
    """Another process may look between the making of the file and its lock."""
    removed = []

    def flock(file, how):
        if not removed:
            removed.extend(names(tmp_path))
            os.unlink(tmp_path / removed[0])

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with replacing(tmp_path / "out") as file:
        assert len(removed) == 1 and len(names(tmp_path)) == 1
        file.write(b"whole")
    assert names(tmp_path) == ["out"]


def test_locks_are_not_needed(tmp_path, monkeypatch):
    """Without them nothing is removed."""
    (tmp_path / ".out.1-2-3").write_text("")

    def flock(file, how):
        raise OSError("no locks")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with replacing(tmp_path / "out") as file:
        file.write(b"whole")
    assert names(tmp_path) == [".out.1-2-3", "out"]


def test_nothing_changes_after_an_error(tmp_path):
    (tmp_path / "out").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "out") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out"] and (tmp_path / "out").read_bytes() == b"before"
