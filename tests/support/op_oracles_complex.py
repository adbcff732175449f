"""Oracles of complex numbers, and of the operations on pairs of their parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import op_oracles_matrices  # noqa: F401  (fills the table that the twins' are taken from)
from op_oracles import ORACLES, Check
from op_samples import Sample
from op_samples_complex import TWINS


def _phase(x: np.ndarray) -> np.ndarray:
    turned = np.exp(1j * np.arctan2(x.imag, x.real))
    return np.where(x == 0, 0.0, turned)


ORACLES |= {
    "complex": lambda re, im: _joined(*np.broadcast_arrays(re, im)),
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "view_as_real": lambda x: np.stack([x.real, x.imag], -1),
    "view_as_complex": lambda x: _joined(x[..., 0], x[..., 1]),
    "modulus": lambda x: np.hypot(x.real, x.imag),
    "phase": _phase,
    "angle": lambda x: np.arctan2(x.imag, x.real),
    "checked": lambda x, holds, *, message: x,
}


def _joined(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """Not re + 1j * im, where an infinite part makes a nan of the other."""
    out = np.empty(re.shape, np.complex128)
    out.real, out.imag = re, im
    return out


# Twins --------------------------------------------------------------------------------------------


def _whole(operands: Any, pairs: tuple[int, ...]) -> list[np.ndarray]:
    return [_joined(x[..., 0], x[..., 1]) if i in pairs else x for i, x in enumerate(operands)]


def _twin(name: str) -> Any:
    own = ORACLES[name]

    def run(*operands: np.ndarray, pairs: tuple[int, ...], **attributes: Any) -> Any:
        found = own(*_whole(operands, pairs), **attributes)
        found = found if isinstance(found, tuple) else (found,)
        return tuple(
            np.stack([x.real, x.imag], -1) if np.iscomplexobj(x) else x for x in found
        )

    def judge(operands: Any, results: Any, *, pairs: tuple[int, ...], **attributes: Any) -> None:
        op = TWINS[f"{name}_pairs"]
        narrow = any(x.dtype == np.float32 for x in operands)
        wide = [
            x.astype(np.complex64) if narrow and np.iscomplexobj(x) else x
            for x in _whole(operands, pairs)
        ]
        types = op.result_types(Sample(wide).types, attributes)
        split = tuple(i for i, t in enumerate(types) if t.dtype.is_complex)
        whole = _whole(results, split)
        whole = [
            x.astype(np.complex64) if narrow and np.iscomplexobj(x) else x for x in whole
        ]
        own.function(wide, whole, **attributes)

    return Check(judge) if isinstance(own, Check) else run


ORACLES |= {f"{op.name}_pairs": _twin(op.name) for op in TWINS.values()}
