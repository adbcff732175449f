"""What passes choose by the sizes of a graph, so that it can be chosen again for other sizes.

Where one program is to serve many sizes, its form must be the same for all of them. So what was
chosen for one size is kept, in order, and chosen again wherever that is possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Set
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


class Choices:
    """Choices as they are made, or those of an earlier graph that differs in sizes alone.

    Attributes:
        for_any_size: what would be something else for each size is not to be chosen at all.
        many_sizes: the program is to serve many sizes.
        sizes: what these are here; they are primes.
        at_run_time: names of values (`braze.passes.fold_weights`) that depend on weights and sizes,
            and are not computed ahead of time.
    """

    def __init__(
        self,
        earlier: Choices | None = None,
        *,
        for_any_size: bool = False,
        many_sizes: bool = False,
        sizes: tuple[int, ...] = (),
        at_run_time: Set[str] = frozenset(),
    ) -> None:
        self.for_any_size: bool = for_any_size if earlier is None else earlier.for_any_size
        self.many_sizes: bool = many_sizes if earlier is None else earlier.many_sizes
        self.sizes: tuple[int, ...] = sizes
        self.at_run_time: Set[str] = at_run_time if earlier is None else earlier.at_run_time
        self._made: defaultdict[str, list[Hashable]] = defaultdict(list)
        self._settled: dict[Hashable, bool] = {}
        self._earlier = earlier

    def fixed_part(self, number: int) -> int:
        """What is left of a number without the sizes that will be others."""
        for size in self.sizes:
            while size > 1 and number and number % size == 0:
                number //= size
        return number

    def choose(self, what: str, own: T, is_possible: Callable[[T], bool]) -> T:
        """The earlier choice of the same thing, the first, second, ... as here, if it is possible
        here, too; else this pass's own."""
        number = len(self._made[what])
        chosen: T = own
        if self._earlier is not None and number < len(self._earlier._made[what]):
            before = self._earlier._made[what][number]
            if is_possible(before):  # type: ignore[arg-type]
                chosen = before  # type: ignore[assignment]
        self._made[what].append(chosen)
        return chosen

    def settle(self, what: Hashable, own: bool) -> bool:
        """The earlier answer to a question that sizes decide, if it was asked, whatever was asked
        before it; else this pass's own. Either answer must be right."""
        if self._earlier is not None:
            own = self._earlier._settled.get(what, own)
        return self._settled.setdefault(what, own)
