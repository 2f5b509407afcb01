"""Ranges as they are typed: ``1:40``, ``30:250:10``, or numbers with commas between."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, TypeVar

from provisioner.errors import InputError
from provisioner.specs.units import parse_positive, parse_whole, quoted

Number = TypeVar("Number", int, float)

MOST_VALUES: Final = 100_000  # values of a range at most


def whole_range(
    text: str | float | Iterable[float], what: str, unit: str = "machines", minimum: int = 1
) -> tuple[int, ...]:
    """Whole numbers of ``minimum`` or more, in rising order: ``FROM:TO[:STEP]``, a number, or several with commas.

    Numbers that are given as such, one or several, are taken as they are.

    >>> whole_range("1:4", "prompt"), whole_range("1:3,10:30:10", "prompt"), whole_range(7, "token")
    ((1, 2, 3, 4), (1, 2, 3, 10, 20, 30), (7,))
    """
    return _values(text, what, lambda value, of: parse_whole(value, of, unit, minimum), step=1)


def number_range(
    text: str | float | Iterable[str | float], what: str, number: Callable[[str | float, str], float] = parse_positive
) -> tuple[float, ...]:
    """Numbers in rising order: ``FROM:TO:STEP``, a number, or several of those with commas.

    ``number`` reads one and refuses what it must not be; without it they are above 0.

    >>> number_range("30:50:10", "rate"), number_range("0.9,1:1.2:0.1", "slo")
    ((30.0, 40.0, 50.0), (0.9, 1.0, 1.1, 1.2))
    """
    return _values(text, what, number)


def _values(
    given: str | float | Iterable[str | float],
    what: str,
    number: Callable[[str | float, str], Number],
    step: Number | None = None,
) -> tuple[Number, ...]:
    """The values of a range, or those given; ``step`` is the one where none is typed, None where one must be."""
    if isinstance(given, str):
        values = [value for part in given.split(",") for value in _span(part, what, number, step)]
    else:
        values = [number(value, what) for value in (given if isinstance(given, Iterable) else [given])]
    if not values:
        raise InputError(f"{what}: is empty")
    for before, after in pairwise(sorted(values)):
        if before == after:
            raise InputError(f"{what}: {after:g} is given twice")
    return tuple(sorted(values))


def _span(part: str, what: str, number: Callable[[str | float, str], Number], step: Number | None) -> list[Number]:
    """The values of one part; ``step`` is as in ``_values``."""
    fields = [field.strip() for field in part.split(":")]
    if not all(fields) or len(fields) > 3 or (len(fields) == 2 and step is None):
        shape = "FROM:TO:STEP, such as 30:250:10" if step is None else "FROM:TO[:STEP], such as 1:40"
        raise InputError(f"{what}: must be {shape}, or numbers with commas, got {quoted(part)}")
    first, *rest = (number(field, what) for field in fields)
    if not rest:
        return [first]
    last, each = (*rest, step)[:2]
    assert last is not None and each is not None
    if each == 0:
        raise InputError(f"{what}: must rise by a step above 0, got {quoted(part)}")
    if last < first:
        raise InputError(f"{what}: must rise, got {quoted(part)}: write the smaller number first")
    steps = (last - first) / each * (1.0 + 1e-12) + 1e-9
    if not steps < MOST_VALUES:
        more = f"has more than the {MOST_VALUES:,} values of a range: take larger steps"
        raise InputError(f"{what}: {quoted(part)} {more}")
    # twelve digits: three steps of 0.1 from 0.9 are 1.2, not what adding them up gives
    return [type(first)(float(f"{first + k * each:.12g}")) for k in range(math.floor(steps) + 1)]


def typed_range(values: Sequence[float]) -> str:
    """Values as a range is typed.

    >>> typed_range((1, 2, 3)), typed_range((30.0, 40.0, 50.0)), typed_range((5,)), typed_range((1, 2, 4))
    ('1:3:1', '30:50:10', '5', '1,2,4')
    """
    steps = {float(f"{after - before:.9g}") for before, after in pairwise(values)}
    if len(values) > 2 and len(steps) == 1:
        return f"{values[0]:.12g}:{values[-1]:.12g}:{steps.pop():.12g}"
    return ",".join(f"{value:.12g}" for value in values)
