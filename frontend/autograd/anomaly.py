"""Anomaly detection: find the operation whose gradient is the first NaN of a backward pass.

While it is on, every gradient is read as soon as it is computed, each of which is a sync point; and
operations of the forward pass in the thread that switched it on keep all of their operands, for the
message. So it is slow, and for finding errors only. While it is off, a backward pass looks once at
a flag.
"""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from braze.autograd.tape import TapeNode
    from braze.tensors import Tensor


class _Mode:
    enabled = False
    check_nan = True


_mode = _Mode()


class _Ignored(list[Any]):
    """Stands where a list of recorded operations is wanted, which makes each take the way on which
    its operands are kept."""

    def append(self, item: object) -> None:
        pass

    def extend(self, items: Iterable[object]) -> None:
        pass


_ignored = _Ignored()


def _set(enabled: bool, check_nan: bool) -> None:
    from braze.capture import tracer

    _mode.enabled, _mode.check_nan = enabled, check_nan
    state = tracer()
    if enabled and state.watch is None:
        state.watch = _ignored
    elif not enabled and state.watch is _ignored:
        state.watch = None


def is_anomaly_enabled() -> bool:
    """Whether anomaly detection is on."""
    return _mode.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Whether a NaN in the backward pass raises while anomaly detection is on."""
    return _mode.check_nan


class set_detect_anomaly:
    """Switch anomaly detection on or off, for all threads; as a context manager it is undone at the
    end.

    Args:
        mode: on or off.
        check_nan: raise RuntimeError when the backward pass gives a NaN or starts from one, with
            the operation and the user's line of the forward pass, a summary of each operand and of
            the gradient that arrived, and the first operation of the forward pass that made a NaN.
            (Of a forward pass that ran while this was off, only what the gradient is computed from
            is known.)
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = (_mode.enabled, _mode.check_nan)
        _set(bool(mode), bool(check_nan))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        _set(*self._before)


class detect_anomaly:
    """Find NaNs of the backward pass: ``with braze.autograd.detect_anomaly(): loss.backward()``.

    Args:
        check_nan: as `set_detect_anomaly`.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self._check_nan = check_nan
        self._before: list[tuple[bool, bool]] = []
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should "
            "only be enabled for debugging.",
            stacklevel=2,
        )

    def __enter__(self) -> None:
        self._before.append((_mode.enabled, _mode.check_nan))
        _set(True, self._check_nan)

    def __exit__(self, *error: object) -> None:
        _set(*self._before.pop())


class Check:
    """Looks at one backward pass.

    Args:
        outputs: what it starts from.
        order: the nodes of the tape, the latest first.
    """

    def __init__(self, outputs: Sequence[Tensor], order: Sequence[TapeNode]) -> None:
        self._outputs = outputs
        self._order = order
        self._is_nan = any(has_nan(tensor) for tensor in outputs)
        # Now, as the tape frees what it keeps.
        self._forward = self._describe() if self._is_nan else ""

    def __call__(
        self,
        node: TapeNode,
        gradients: Sequence[tuple[int, Tensor]],
        arrived: Sequence[Tensor | None],
    ) -> None:
        """Look at a node's gradients.  Raises: RuntimeError if one has a NaN."""
        for position, gradient in gradients:
            if has_nan(gradient):
                from braze.autograd.anomaly_text import describe

                raise RuntimeError(
                    f"Function '{node.name()}' returned nan values in its {position}th output."
                    + place_of(node)
                    + describe(node, position, gradient, arrived)
                    + (self._forward or self._describe())
                )

    def finish(self) -> None:
        """The pass is over.  Raises: RuntimeError if it started from a NaN all the same."""
        if self._is_nan:
            raise RuntimeError(
                "The output that backward was called on is nan, though its gradients are not."
                + (self._forward or (_UNKNOWN if self._order else ""))
            )

    def _describe(self) -> str:
        from braze.autograd.anomaly_forward import describe_forward

        return describe_forward(self._outputs, self._order)


_UNKNOWN = "\n  where it came from is known if anomaly detection is on during the forward pass"


def check(outputs: Sequence[Tensor], order: Sequence[TapeNode]) -> Check | None:
    """What to call with each node's gradients, or None while nothing is to be looked at."""
    return Check(outputs, order) if _mode.enabled and _mode.check_nan else None


def has_nan(tensor: Tensor) -> bool:
    """Whether an element is a NaN. A sync point."""
    from braze.autograd.anomaly_text import values_of

    return bool(np.isnan(values_of(tensor)).any())


def place_of(node: TapeNode) -> str:
    """The user's line of the forward pass, its text, and the layer."""
    location = node.location
    text = linecache.getline(location.file, location.line).strip()
    place = f"\n  at {location.file}:{location.line}" + (f": {text}" if text else "")
    place += " (of the forward pass)"
    return place + (f"\n  in {location.scope}" if location.scope else "")
