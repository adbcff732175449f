"""The base class of distributions."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import braze
from braze.distributions import constraints
from braze.distributions.utils import Values, lazy_property, require, size
from braze.sites import user_stacklevel
from braze.sizes import Size
from braze.tensors import Tensor

_PARAMETER = (
    "Expected parameter {what} ({given}) of distribution {name} to satisfy the constraint "
    "{constraint}"
)
_SAMPLE = (
    "Expected value argument ({given}) to be within the support ({constraint}) of the distribution "
    "{name}"
)


@functools.lru_cache(maxsize=256)
def _lazy_properties(kind: type) -> frozenset[str]:
    found = {name: getattr(kind, name, None) for name in dir(kind)}
    return frozenset(name for name, value in found.items() if isinstance(value, lazy_property))


class Distribution:
    """A distribution, or a batch of them that differ in their parameters.

    A sample has the shape sample_shape + batch_shape + event_shape; an event is what one
    distribution draws at a time. Arguments are checked, unless `validate_args` is False: at once
    where their elements are few and in memory, else by the program that computes them, which then
    raises at the next sync.

    Attributes:
        arg_constraints: the parameters by name, and what they must satisfy.
        support: what its samples satisfy.
        has_rsample: whether samples have gradients for the parameters.
        has_enumerate_support: whether all its values can be listed.
    """

    has_rsample: Any = False
    has_enumerate_support = False
    _validate_args = __debug__
    arg_constraints: Any
    support: Any

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether arguments are checked where that is not said."""
        if value not in (True, False):
            raise ValueError(f"True or False is expected, given {value!r}")
        Distribution._validate_args = value

    def __init__(
        self,
        batch_shape: Any = Size(),  # noqa: B008  (immutable)
        event_shape: Any = Size(),  # noqa: B008
        validate_args: bool | None = None,
    ) -> None:
        self._batch_shape, self._event_shape = size(batch_shape), size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._check_arguments()

    def _check_arguments(self) -> None:
        try:
            known = self.arg_constraints
        except (AttributeError, NotImplementedError):
            known = {}
            self._warn("`arg_constraints`. Please set `arg_constraints = {}`")
        own, lazy = self.__dict__, _lazy_properties(type(self))  # type: ignore[arg-type]
        for name, constraint in known.items():
            if name not in own and name in lazy:
                continue
            if constraints.is_dependent(constraint):
                continue
            require(constraint, getattr(self, name), _PARAMETER, type(self).__name__, name)

    def _warn(self, what: str) -> None:
        warnings.warn(
            f"{type(self)} does not define {what} or initialize the distribution with "
            "`validate_args=False` to turn off validation.",
            stacklevel=user_stacklevel(),
        )

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The distribution with its batch dimensions expanded."""
        raise NotImplementedError

    @property
    def batch_shape(self) -> Size:
        """The shape over which parameters are batched."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one event."""
        return self._event_shape

    @property
    def mean(self) -> Values:
        """The mean."""
        raise NotImplementedError

    @property
    def mode(self) -> Values:
        """The most likely value."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Values:
        """The variance."""
        raise NotImplementedError

    @property
    def stddev(self) -> Values:
        """The standard deviation."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Values:
        """Samples without gradients."""
        with braze.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Values:
        """Samples with gradients for the parameters."""
        raise NotImplementedError

    def sample_n(self, n: int) -> Values:
        """n samples; an early name."""
        warnings.warn(
            "`sample_n(n)` will be deprecated. Use `sample((n,))` instead.",
            FutureWarning,
            stacklevel=user_stacklevel(),
        )
        return self.sample((n,))

    def log_prob(self, value: Values) -> Values:
        """The logarithm of the density, or of the probability, at a value."""
        raise NotImplementedError

    def cdf(self, value: Values) -> Values:
        """The probability of at most this value."""
        raise NotImplementedError

    def icdf(self, value: Values) -> Values:
        """The quantile of a probability."""
        raise NotImplementedError

    def enumerate_support(self, expand: bool = True) -> Values:
        """All values, along a new first dimension; `expand` repeats them over the batch."""
        raise NotImplementedError

    def entropy(self) -> Values:
        """The entropy, in nats."""
        raise NotImplementedError

    def perplexity(self) -> Values:
        """exp(entropy)."""
        return self.entropy().exp()

    # For subclasses -------------------------------------------------------------------------------

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        """The shape of samples."""
        return size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _validate_sample(self, value: Values) -> None:
        """Raise ValueError for what is no sample (see the class on when).

        Raises:
            ValueError: no tensor, or a shape that does not fit.
        """
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        if value._handle.type.shape != (*self._batch_shape, *self._event_shape):
            shape, expected = value.shape, self._batch_shape + self._event_shape
            if shape[len(shape) - len(self._event_shape) :] != self._event_shape:
                raise ValueError(
                    "The right-most size of value must match event_shape: "
                    f"{shape} vs {self._event_shape}."
                )
            for i, j in zip(reversed(shape), reversed(expected), strict=False):
                if i != 1 and j != 1 and i != j:
                    raise ValueError(
                        "Value is not broadcastable with batch_shape+event_shape: "
                        f"{shape} vs {expected}."
                    )
        try:
            support = self.support
        except (AttributeError, NotImplementedError):
            self._warn("`support` to enable sample validation. Please do so")
            return
        require(support, value, _SAMPLE, type(self).__name__)

    def _get_checked_instance(self, cls: Any, _instance: Any = None) -> Any:
        """An instance to fill in, in `expand`."""
        if _instance is None and type(self).__init__ != cls.__init__:
            raise NotImplementedError(
                f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ "
                "method must also define a custom .expand() method."
            )
        return self.__new__(type(self)) if _instance is None else _instance

    def _expanded(self, cls: Any, batch_shape: Any, _instance: Any, names: str = "") -> Any:
        """`expand` but for the attributes that are not named here: those named are parameters,
        expanded as far as they are there."""
        new = self._get_checked_instance(cls, _instance)
        shape = size(batch_shape)
        for name in names.split():
            if name in self.__dict__:
                own = self.__dict__[name]
                rest = tuple(own.shape[len(self._batch_shape) :])
                new.__dict__[name] = own.expand((*shape, *rest))
        super(cls, new).__init__(  # type: ignore[call-arg]
            shape, self._event_shape, validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def __repr__(self) -> str:
        parts = []
        for name in self.arg_constraints:
            if name in self.__dict__:
                value = self.__dict__[name]
                parts.append(f"{name}: {value if value.numel() == 1 else value.shape}")
        return f"{type(self).__name__}({', '.join(parts)})"
