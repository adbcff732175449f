"""The random graph generator's steps that scan: see `graph_steps`."""

from __future__ import annotations

from typing import Any

EXTREMA = ("cummax", "cummin")


def scan(m: Any) -> None:
    """A running sum, product, extremum or recurrence along some dimension."""
    x = m.number()
    if not x.type.rank:
        return
    dim = m.choices.integer(0, x.type.rank - 1)
    how = {"dim": dim, "reverse": m.choices.chance(50)}
    names = ("cumsum", "cumprod", *EXTREMA)
    if x.dtype.is_floating_point:
        names += ("linear_recurrence",)
    name = m.choices.pick(names)
    count, bound = x.shape[dim], m.bound[x]
    if name in EXTREMA:
        _extremum(m, name, m.exactly(x), how)
    elif name == "cumsum":
        m.add(m.b.cumsum(x, **how), bound * count, exact=False)
    elif name == "cumprod":
        x, bound = _below(m, x, 1.5)
        m.add(m.b.cumprod(x, **how), max(bound, 1.0) ** min(count, 100), exact=False)
    else:
        factor, _ = _below(m, x, 1.0)
        m.add(m.b.linear_recurrence(factor, x, **how), bound * count, exact=False)


def scan_in_blocks(m: Any) -> None:
    """The same scan in the three steps that long rows are scanned in."""
    x = m.exactly(m.number())
    if not x.type.rank or max(x.shape) < 2:
        return
    dim = x.shape.index(max(x.shape))
    count = x.shape[dim]
    how = {"dim": dim, "reverse": m.choices.chance(50)}
    cut = {**how, "length": m.choices.integer(1, count - 1)}
    name = m.choices.pick(("cumsum", "cumprod", *EXTREMA))
    first = {"dim": dim, "reverse": False}
    if name in EXTREMA:
        values, indices = getattr(m.b, f"{name}_ends")(x, **cut)
        best, block = getattr(m.b, name)(values, **first)
        starts = (best, m.b.take_along(indices, block, dim=dim))
        made, places = getattr(m.b, f"{name}_from")(x, *starts, **cut)
        m.add(made, m.bound[x], exact=True)
        m.add(places, count, exact=True)
        return
    x, bound = _below(m, x, 1.5) if name == "cumprod" else (x, m.bound[x])
    starts = getattr(m.b, name)(getattr(m.b, f"{name}_ends")(x, **cut), **first)
    made = getattr(m.b, f"{name}_from")(x, starts, **cut)
    most = bound * count if name == "cumsum" else max(bound, 1.0) ** min(count, 100)
    m.add(made, most, exact=False)


def _extremum(m: Any, name: str, x: Any, how: dict[str, Any]) -> None:
    values, indices = getattr(m.b, name)(x, **how)
    m.add(values, m.bound[x], exact=True)
    m.add(indices, x.shape[how["dim"]], exact=True)


def _below(m: Any, x: Any, limit: float) -> tuple[Any, float]:
    """A float scaled to a magnitude below the limit; integers wrap anyway."""
    bound = m.bound[x]
    if not x.dtype.is_floating_point or bound <= limit:
        return x, bound
    return m.b.mul(x, limit / bound), limit
