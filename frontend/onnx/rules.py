"""The table of rules: which ONNX operator means which functions of tensors, and which operation of
the IR is written as which ONNX nodes.

The rules themselves stand in `braze.onnx.importing` and `braze.onnx.exporting`, one module for each
family of operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

# The newest version of ONNX's own operators that the rules were written for.
NEWEST = 28
# Models of earlier versions are not read: their operators broadcast by other rules.
OLDEST = 7

Rule = TypeVar("Rule", bound=Callable[..., Any])


@dataclass(frozen=True)
class ImportRule:
    """How an ONNX operator is computed.

    Attributes:
        name: the operator's.
        since: the earliest version of the operator that the rule knows; it knows all later ones.
        run: called as ``run(node, *operands)``; gives the results. None: by ONNX's own definition
            of the operator in terms of others.
        read: the positions of operands whose values it must know, as arrays; others are tensors.
        raw: the operands are passed as they are: tensors, arrays, sequences, None.
    """

    name: str
    since: int
    run: Callable[..., Any] | None
    read: tuple[int, ...] = ()
    raw: bool = False


_IMPORTS: dict[str, ImportRule] = {}
_EXPORTS: dict[str, Callable[..., Any]] = {}

_IMPORTING = (
    "elementwise activations reductions movement indexing creation convolution pooling resizing "
    "normalization products recurrent regions quantization spectral sequences control definitions"
).split()
_EXPORTING = "elementwise movement indexing networks recurrent attention".split()


def imports(
    *names: str, since: int = OLDEST, read: tuple[int, ...] = (), raw: bool = False
) -> Callable[[Rule], Rule]:
    """Enter a function as the rule of some ONNX operators."""

    def enter(function: Rule) -> Rule:
        for name in names:
            assert name not in _IMPORTS, name
            _IMPORTS[name] = ImportRule(name, since, function, read, raw)
        return function

    return enter


def imports_by_definition(*names: str, since: int = OLDEST) -> None:
    """Enter operators that are computed as ONNX defines them in terms of others."""
    for name in names:
        assert name not in _IMPORTS, name
        _IMPORTS[name] = ImportRule(name, since, None)


def exports(*names: str) -> Callable[[Rule], Rule]:
    """Enter a function as the rule of some operations of the IR.

    It is called as ``rule(writer, *operands, **attributes)`` and gives the names of the results.
    """

    def enter(function: Rule) -> Rule:
        for name in names:
            assert name not in _EXPORTS, name
            _EXPORTS[name] = function
        return function

    return enter


@cache
def import_rules() -> dict[str, ImportRule]:
    """The rules of ONNX's own operators (domain ``ai.onnx``), by name."""
    for module in _IMPORTING:
        import_module(f"braze.onnx.importing.{module}")
    return _IMPORTS


@cache
def export_rules() -> dict[str, Callable[..., Any]]:
    """The rules of the IR's operations, by name. Other operations are decomposed into these."""
    for module in _EXPORTING:
        import_module(f"braze.onnx.exporting.{module}")
    return _EXPORTS
