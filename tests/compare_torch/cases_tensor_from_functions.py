"""Methods whose function is compared: each call of the function becomes a call of the method, and
of the in-place method.

`m.add(x, y)` is written to a stand-in for the library, which calls `x.add(y)`; operands of which
gradients are asked are copied before they are changed in place. What the function takes and the
method does not (`out`, numbers as first operand) raises in both libraries alike. These calls are
interpreted; the functions' cases compile the same operations.
"""

from dataclasses import replace

import compared_names
import torch
from compare_cases import CASES, Recorder, case
from compare_run import call, plain

# What numbers are drawn in place is compared in `cases_tensor_random.py`.
OWN_CASE = {"bernoulli_", "normal_"}
# PyTorch has gradients of zeros where Braze has none: what is compared has no gradient.
COMPARISONS = {"eq_", "ge_", "gt_", "le_", "lt_", "ne_"}


class Methods:
    """The library, with one function replaced by the method of its first operand."""

    def __init__(self, library, function, method):
        self._library, self._function, self._method = library, function, method

    def __getattr__(self, name):
        if name != self._function:
            return getattr(self._library, name)

        def call(*operands, **options):
            if operands:
                first, *others = operands
            else:
                first, others = options.pop("input"), []
            if not isinstance(first, self._library.Tensor):
                raise TypeError("no tensor has this method")
            if self._method != name and first.requires_grad and first.is_leaf:
                first = first * 1
            return getattr(first, self._method)(*others, **options)

        return call


def _as_method(function, name, method):
    return lambda library, *operands: function(Methods(library, name, method), *operands)


def from_function(c, method):
    name = method if f"torch.{method}" in CASES else method.removesuffix("_")
    recorder = Recorder(f"Tensor.{method}")
    for function in CASES[f"torch.{name}"]:
        function(recorder)
    for variant in recorder.variants:
        function = _as_method(variant.function, name, method)
        new = replace(variant, function=function, compiled=False, known=False)
        if variant.kind != "random":
            new.kind = "either"
        elif plain(call(new, torch), "torch").error is not None:
            continue
        if method in COMPARISONS:
            new.gradients = 0
        if method == "addbmm_" and variant.inputs[0].values.ndim != 2:
            continue  # PyTorch gives the tensor another shape, which no other method does
        c.variants.append(new)


def _is_derived(name):
    first, _, method = name.partition(".")
    listed = compared_names.all_names()
    functions = (f"torch.{method}", f"torch.{method.removesuffix('_')}")
    derived = hasattr(torch.Tensor, method) and method not in OWN_CASE
    return first == "Tensor" and derived and any(f in listed for f in functions)


case(*filter(_is_derived, compared_names.all_names()))(from_function)
