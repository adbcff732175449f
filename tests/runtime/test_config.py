"""Settings: what the environment gives, what is refused and what the refusal says; the counters."""

import os
import subprocess
import sys

import pytest

from braze.runtime.config import _SETTINGS, Config, default_num_threads, default_storage_cache_bytes
from braze.runtime.stats import Stats


@pytest.fixture
def clean(monkeypatch):
    for name in [name for name in os.environ if name.startswith("BRAZE_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_defaults(clean):
    clean.delenv("XDG_CACHE_HOME", raising=False)
    config = Config()
    assert (config.tier, config.background, config.eager) == ("auto", "auto", False)
    assert (config.debug, config.dump_dir) == (0, "")
    assert config.cache_dir == os.path.expanduser("~/.cache/braze")
    assert config.recompile_limit == 8
    assert default_num_threads() == len(os.sched_getaffinity(0))
    assert default_storage_cache_bytes() > 0


def test_every_setting_can_come_from_the_environment(clean):
    given = {
        "tier": ("compile", "compile"), "background": ("never", "never"), "eager": ("1", True),
        "cache_dir": ("", ""),
        "cache_entries": ("7", 7), "cache_bytes": ("0", 0), "dump_dir": ("out", "out"),
        "debug": ("5", 5), "trace_limit": ("100", 100), "recompile_limit": ("0", 0),
        "dynamic_shapes": ("0", False), "check": ("1", True), "cuda_graphs": ("1", True),
        "matmul_precision": ("high", "high"), "convolution_tf32": ("0", False),
    }  # fmt: skip
    assert given.keys() | {"num_threads"} == _SETTINGS.keys()
    for name, (text, _) in given.items():
        clean.setenv(_SETTINGS[name].variable, text)
    clean.setenv("BRAZE_NUM_THREADS", "3")
    config = Config()
    assert {name: getattr(config, name) for name in given} == {n: v for n, (_, v) in given.items()}
    assert default_num_threads() == 3


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("BRAZE_TIER", "jit", "BRAZE_TIER must be one of 'auto', 'compile', 'interpret', given"),
        ("BRAZE_EAGER", "yes", "BRAZE_EAGER must be 0 or 1, given 'yes'"),
        ("BRAZE_DEBUG", "6", "BRAZE_DEBUG must be a whole number from 0 to 5, given 6"),
        ("BRAZE_CACHE_ENTRIES", "many", "BRAZE_CACHE_ENTRIES must be a whole number, at least 1"),
        ("BRAZE_TRACE_LIMIT", "-1", "BRAZE_TRACE_LIMIT must be a whole number, at least 1"),
    ],
)
def test_bad_variables_are_named(clean, variable, text, message):
    clean.setenv(variable, text)
    with pytest.raises(ValueError) as caught:
        Config()
    assert message in str(caught.value)


def test_a_bad_number_of_threads_in_the_environment(clean):
    clean.setenv("BRAZE_NUM_THREADS", "0")
    with pytest.raises(ValueError, match="BRAZE_NUM_THREADS must be a whole number from 1 to 4096"):
        default_num_threads()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tier", "fast", r"tier must be one of 'auto', 'compile', 'interpret', given 'fast'"),
        ("eager", 1, "eager must be True or False, given 1"),
        ("background", "on", "background must be one of 'auto', 'always', 'never', given 'on'"),
        ("debug", True, "debug must be a whole number from 0 to 5, given True"),
        ("cache_dir", None, "cache_dir must be a path, or '' for none, given None"),
        ("num_threads", 0, "num_threads must be a whole number from 1 to 4096, given 0"),
    ],
)
def test_bad_values_are_refused(clean, name, value, message):
    config = Config()
    before = getattr(config, name)
    with pytest.raises(ValueError) as caught:
        setattr(config, name, value)
    assert message in str(caught.value)
    assert getattr(config, name) == before


def test_unknown_names_are_refused(clean):
    config = Config()
    with pytest.raises(AttributeError, match="no setting 'treads'; known: tier, background, eager"):
        config.treads = 4
    with pytest.raises(AttributeError, match="no setting 'treads'; known: tier, background, eager"):
        config.treads  # noqa: B018


def test_paths_and_threads(clean, tmp_path):
    config = Config()
    config.cache_dir = tmp_path
    assert config.cache_dir == str(tmp_path)
    config.dump_dir = "~/dumps"
    assert config.dump_dir == os.path.expanduser("~/dumps")
    before = config.num_threads
    with config.using(num_threads=before + 1, debug=1):
        assert (config.num_threads, config.debug) == (before + 1, 1)
    assert (config.num_threads, config.debug) == (before, 0)
    assert f"num_threads = {before}" in repr(config)


def test_a_bad_environment_stops_the_import():
    done = subprocess.run(
        [sys.executable, "-c", "import braze.runtime.config"],
        env={**os.environ, "BRAZE_DEBUG": "loud"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "BRAZE_DEBUG must be a whole number from 0 to 5, given 'loud'" in done.stderr


def test_counters():
    stats = Stats()
    stats.compiles += 2
    stats.compile_seconds += 0.5
    stats.arena_bytes = 1 << 20
    assert stats.snapshot()["compiles"] == 2
    table = str(stats)
    assert "compile_seconds" in table and "0.500" in table and "1,048,576" in table
    stats.reset()
    assert stats.snapshot()["compiles"] == 0
    assert stats.arena_bytes == 1 << 20
    with pytest.raises(AttributeError):
        stats.compile += 1
