"""What values a parameter may have, or a sample can have.

`check(value)` tells it for each event, of tensors and of NumPy arrays.
"""

from __future__ import annotations

import copy
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import braze
from braze.capture import Call, call_of
from braze.distributions.utils import NotKnown, Values, known
from braze.functions.promotion import cast, keeps
from braze.ir.dtypes import bool_
from braze.ir.op import op_named
from braze.ir.types import TensorType
from braze.tensors import Tensor, apply

__all__ = [
    "Constraint", "boolean", "cat", "corr_cholesky", "dependent", "dependent_property",
    "greater_than", "greater_than_eq", "half_open_interval", "independent", "integer_interval",
    "interval", "is_dependent", "less_than", "lower_cholesky", "lower_triangular", "multinomial",
    "nonnegative", "nonnegative_integer", "one_hot", "positive", "positive_definite",
    "positive_integer", "positive_semidefinite", "real", "real_vector", "simplex", "square",
    "stack", "symmetric", "unit_interval",
]  # fmt: skip

_CHECK_TRUTH, _CHECK_INTERVAL = op_named("check_truth"), op_named("check_interval")
_CHECK_SIMPLEX = op_named("check_simplex")


class Constraint:
    """A region of values.

    Attributes:
        is_discrete: whether it holds integers only.
        event_dim: how many of the last dimensions are one value.
    """

    is_discrete: Any = False
    event_dim: Any = 0

    def check(self, value: Values) -> Values:
        """Whether each event is inside, as bools."""
        raise NotImplementedError

    def demand(self, value: Values, message: str) -> None:
        """Have the program raise at this line unless each event is inside; see
        `braze.ir.errors.failed_check` on the message."""
        call = self.operation(value._handle.type, message)
        if call is not None:
            apply(call, value)
            return
        holds = cast(self.check(value), bool_)
        apply(call_of(_CHECK_TRUTH, wanted=True, message=message), holds)

    def operation(self, kind: TensorType, message: str) -> Call | None:
        """What `demand` comes to for tensors of a type, if it is one operation."""
        return None

    def outline(self) -> Constraint:
        """The constraint with types in place of tensors: where its text is a part of a program, the
        tensors must not be read for it, nor make another program of other numbers."""
        twin = self
        for name, part in vars(self).items():
            if isinstance(part, (Tensor, Constraint)):
                twin = copy.copy(self) if twin is self else twin
                text = part._handle.type if isinstance(part, Tensor) else part.outline()
                setattr(twin, name, text)
        return twin

    def __repr__(self) -> str:
        return self.__class__.__name__[1:] + "()"


class _Dependent(Constraint):
    """A constraint that depends on other arguments."""

    def __init__(
        self, *, is_discrete: Any = NotImplemented, event_dim: Any = NotImplemented
    ) -> None:
        self._is_discrete, self._event_dim = is_discrete, event_dim

    @property
    def is_discrete(self) -> bool:
        if self._is_discrete is NotImplemented:
            raise NotImplementedError(".is_discrete cannot be determined statically")
        return bool(self._is_discrete)

    @property
    def event_dim(self) -> int:
        if self._event_dim is NotImplemented:
            raise NotImplementedError(".event_dim cannot be determined statically")
        return int(self._event_dim)

    def __call__(
        self, *, is_discrete: Any = NotImplemented, event_dim: Any = NotImplemented
    ) -> _Dependent:
        """The same with what is known of it."""
        if is_discrete is NotImplemented:
            is_discrete = self._is_discrete
        if event_dim is NotImplemented:
            event_dim = self._event_dim
        return _Dependent(is_discrete=is_discrete, event_dim=event_dim)

    def check(self, value: Values) -> Values:
        raise ValueError("Cannot determine validity of dependent constraint")


def is_dependent(constraint: Any) -> bool:
    """Whether a constraint depends on other arguments."""
    return isinstance(constraint, _Dependent)


class _DependentProperty(property, _Dependent):
    """A property of instances whose class attribute is a dependent constraint."""

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        is_discrete: Any = NotImplemented,
        event_dim: Any = NotImplemented,
    ) -> None:
        property.__init__(self, fn)
        _Dependent.__init__(self, is_discrete=is_discrete, event_dim=event_dim)

    def __call__(self, fn: Callable[..., Any]) -> Any:  # type: ignore[override]
        return _DependentProperty(fn, is_discrete=self._is_discrete, event_dim=self._event_dim)


class _IndependentConstraint(Constraint):
    """Holds where another one does for all of the last dimensions."""

    def __init__(self, base_constraint: Constraint, reinterpreted_batch_ndims: int) -> None:
        self.base_constraint = base_constraint
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims

    @property
    def is_discrete(self) -> bool:
        return bool(self.base_constraint.is_discrete)

    @property
    def event_dim(self) -> int:
        return int(self.base_constraint.event_dim) + self.reinterpreted_batch_ndims

    def check(self, value: Values) -> Values:
        result = self.base_constraint.check(value)
        dims = self.reinterpreted_batch_ndims
        if len(result.shape) < dims:
            raise ValueError(f"Expected value.dim() >= {self.event_dim} but got {len(value.shape)}")
        return result.all(tuple(range(-dims, 0))) if dims else result

    def demand(self, value: Values, message: str) -> None:
        if len(value.shape) < self.event_dim:
            super().demand(value, message)  # which is an error
        else:
            self.base_constraint.demand(value, message)  # what holds everywhere holds for all

    def operation(self, kind: TensorType, message: str) -> Call | None:
        if len(kind.shape) < self.event_dim:
            return None
        return self.base_constraint.operation(kind, message)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"IndependentConstraint({self.base_constraint!r}, {self.reinterpreted_batch_ndims})"


class _Boolean(Constraint):
    is_discrete = True

    def check(self, value: Values) -> Values:
        return (value == 0) | (value == 1)


class _OneHot(Constraint):
    is_discrete = True
    event_dim = 1

    def check(self, value: Values) -> Values:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


class _Between(Constraint):
    """Numbers between two bounds, of which either may be missing."""

    lower_bound: Any = None
    upper_bound: Any = None
    # Whether the bounds themselves are outside.
    _open_low = _open_high = False

    def check(self, value: Values) -> Values:
        low, high = _like(self.lower_bound, value), _like(self.upper_bound, value)
        conditions = [value % 1 == 0] if self.is_discrete else []
        if low is not None:
            conditions.append(low < value if self._open_low else low <= value)
        if high is not None:
            conditions.append(value < high if self._open_high else value <= high)
        return functools.reduce(operator.and_, conditions) if conditions else value == value

    def operation(self, kind: TensorType, message: str) -> Call | None:
        low, high = self.lower_bound, self.upper_bound
        bounds = [bound for bound in (low, high) if bound is not None]
        if kind.dtype.kind in ("bool", "complex") or not keeps(kind.dtype, bounds):
            return None
        return call_of(
            _CHECK_INTERVAL,
            low=-math.inf if low is None else low,
            high=math.inf if high is None else high,
            open_low=self._open_low,
            open_high=self._open_high,
            integer=self.is_discrete,
            message=message,
        )

    def __repr__(self) -> str:
        bounds = [f"{name}={bound}" for name, bound in vars(self).items()]
        return f"{self.__class__.__name__[1:]}({', '.join(bounds)})"


class _Real(_Between):
    """Everything but nan."""


class _GreaterThanEq(_Between):
    def __init__(self, lower_bound: Any) -> None:
        self.lower_bound = lower_bound


class _GreaterThan(_GreaterThanEq):
    _open_low = True


class _IntegerGreaterThan(_GreaterThanEq):
    is_discrete = True


class _LessThan(_Between):
    _open_high = True

    def __init__(self, upper_bound: Any) -> None:
        self.upper_bound = upper_bound


class _Interval(_Between):
    def __init__(self, lower_bound: Any, upper_bound: Any) -> None:
        self.lower_bound, self.upper_bound = lower_bound, upper_bound


class _IntegerInterval(_Interval):
    is_discrete = True


class _HalfOpenInterval(_Interval):
    _open_high = True


class _Simplex(Constraint):
    event_dim = 1

    def check(self, value: Values) -> Values:
        return (value >= 0).all(-1) & (abs(value.sum(-1) - 1) < 1e-6)

    def operation(self, kind: TensorType, message: str) -> Call | None:
        return call_of(_CHECK_SIMPLEX, message=message)


class _Multinomial(Constraint):
    is_discrete = True
    event_dim = 1

    def __init__(self, upper_bound: Any) -> None:
        self.upper_bound = upper_bound

    def check(self, value: Values) -> Values:
        return (value >= 0).all(-1) & (value.sum(-1) <= self.upper_bound)


# Matrices -----------------------------------------------------------------------------------------


class _LowerTriangular(Constraint):
    event_dim = 2

    def check(self, value: Values) -> Values:
        return (_library(value).tril(value) == value).all((-2, -1))


class _LowerCholesky(_LowerTriangular):
    def check(self, value: Values) -> Values:
        return super().check(value) & (value.diagonal(0, -2, -1) > 0).all(-1)


class _CorrCholesky(_LowerCholesky):
    def check(self, value: Values) -> Values:
        size = value.shape[-1]
        eps = _library(value).finfo(value.dtype).eps
        rows = abs((value * value).sum(-1) - 1) < eps * size * 10
        return rows.all(-1) & super().check(value)


class _Square(Constraint):
    event_dim = 2

    def check(self, value: Values) -> Values:
        fits = value.shape[-2] == value.shape[-1]
        return _library(value).full(value.shape[:-2], fits)


class _Symmetric(_Square):
    def check(self, value: Values) -> Values:
        if value.shape[-2] != value.shape[-1]:
            return super().check(value)
        near = abs(value - value.swapaxes(-2, -1)) <= 1e-6 + 1e-5 * abs(value)
        return near.all((-2, -1))


class _PositiveSemidefinite(_Symmetric):
    def check(self, value: Values) -> Values:
        symmetric = super().check(value)
        if value.shape[-2] != value.shape[-1]:
            return symmetric
        return symmetric & self._inside(_library(value).linalg.eigvalsh(value)[..., 0])

    def _inside(self, least: Values) -> Values:
        return least >= 0


class _PositiveDefinite(_PositiveSemidefinite):
    def _inside(self, least: Values) -> Values:
        return least > 0


# Joined -------------------------------------------------------------------------------------------


class _Cat(Constraint):
    """Constraints of consecutive parts along a dimension."""

    def __init__(
        self, cseq: Sequence[Constraint], dim: int = 0, lengths: Sequence[int] | None = None
    ) -> None:
        self.cseq = list(cseq)
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.cseq):
            raise AssertionError(f"{len(self.lengths)} lengths for {len(self.cseq)} constraints")
        self.dim = dim

    @property
    def is_discrete(self) -> bool:
        return any(c.is_discrete for c in self.cseq)

    @property
    def event_dim(self) -> int:
        return max(int(c.event_dim) for c in self.cseq)

    def check(self, value: Values) -> Values:
        stops = np.cumsum(self.lengths).tolist()
        parts = [
            c.check(_slice(value, self.dim, stop - length, stop))
            for c, length, stop in zip(self.cseq, self.lengths, stops, strict=True)
        ]
        return _library(value).concatenate(parts, self.dim)


class _Stack(Constraint):
    """Constraints of the slices along a dimension."""

    def __init__(self, cseq: Sequence[Constraint], dim: int = 0) -> None:
        self.cseq, self.dim = list(cseq), dim

    @property
    def is_discrete(self) -> bool:
        return any(c.is_discrete for c in self.cseq)

    @property
    def event_dim(self) -> int:
        dim = max(int(c.event_dim) for c in self.cseq)
        return dim + 1 if self.dim + dim < 0 else dim

    def check(self, value: Values) -> Values:
        parts = []
        for place, constraint in enumerate(self.cseq):
            part = _slice(value, self.dim, place, place + 1)
            parts.append(constraint.check(part.squeeze(self.dim)))
        return _library(value).stack(parts, self.dim)


# Tensors and arrays alike -------------------------------------------------------------------------


def _like(bound: Any, value: Values) -> Any:
    """A bound as an array beside an array.

    Raises:
        NotKnown: it is not in memory yet.
    """
    if not (isinstance(bound, Tensor) and isinstance(value, np.ndarray)):
        return bound
    found = known(bound)
    if found is None:
        raise NotKnown
    return found


def _library(value: Values) -> Any:
    return np if isinstance(value, np.ndarray) else braze


def _slice(value: Values, dim: int, start: int, stop: int) -> Values:
    place = [slice(None)] * len(value.shape)
    place[dim] = slice(start, stop)
    return value[tuple(place)]


dependent = _Dependent()
dependent_property = _DependentProperty
independent = _IndependentConstraint
boolean = _Boolean()
one_hot = _OneHot()
nonnegative_integer = _IntegerGreaterThan(0)
positive_integer = _IntegerGreaterThan(1)
integer_interval = _IntegerInterval
real = _Real()
real_vector = independent(real, 1)
positive = _GreaterThan(0.0)
nonnegative = _GreaterThanEq(0.0)
greater_than = _GreaterThan
greater_than_eq = _GreaterThanEq
less_than = _LessThan
multinomial = _Multinomial
unit_interval = _Interval(0.0, 1.0)
interval = _Interval
half_open_interval = _HalfOpenInterval
simplex = _Simplex()
lower_triangular = _LowerTriangular()
lower_cholesky = _LowerCholesky()
corr_cholesky = _CorrCholesky()
square = _Square()
symmetric = _Symmetric()
positive_semidefinite = _PositiveSemidefinite()
positive_definite = _PositiveDefinite()
cat = _Cat
stack = _Stack
