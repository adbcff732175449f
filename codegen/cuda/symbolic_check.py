"""Whether the CUDA C of a symbolic program depends on its sample anywhere.

In: the program with numbers for several samples.  Out: its CUDA C, and a `CodegenError` where that
of another sample differs: then something was decided by the sample's number that is another for
other sizes. What is decided by sizes for the sake of speed alone is decided once (`Decisions`).
"""

from __future__ import annotations

import re

from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.generate import Decisions, generate
from braze.ir.loops import Program
from braze.ir.target import Target

_NAME = re.compile(r"\b(\w+)\($", re.MULTILINE)
_START = 'extern "C" __global__'


class SameCode:
    """Compares programs with one of them, whose code is `made`."""

    def __init__(self, program: Program, target: Target) -> None:
        self._target = target
        self._decisions = Decisions()
        self.made = generate(program, target, self._decisions)

    def require(self, other: Program) -> None:
        """Raise CodegenError if the code would be another."""
        made = generate(other, self._target, Decisions(self._decisions))
        if self.made.same_code(made):
            return
        pairs = zip(self.made.code.split(_START), made.code.split(_START), strict=False)
        names = [_NAME.search(own) for own, their in pairs if own != their]
        name = names[0][1] if names and names[0] is not None else self.made.name
        raise CodegenError(f"[cuda] the code of {name} would be another for other sizes")
