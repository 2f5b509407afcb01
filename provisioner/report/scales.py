"""Where values lie on an axis, and which of them are written beside it; the same for every kind of picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from provisioner.report.chart import Axis, BarChart, HeatMap, LineChart, Rule

# On a logarithmic axis with 0 or less, the part around 0 is as wide as so many decades.
_AROUND_ZERO = 0.6


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that can be drawn: neither None nor NaN nor infinite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def number(value: float | None) -> str:
    """A value to five significant digits, and no fewer than its integer ones.

    >>> number(523.44), number(1234567.0), number(0.05), number(-0.0), number(None), number(float("inf"))
    ('523.44', '1,234,567', '0.05', '0', 'no value', 'unbounded')
    """
    if value is None or math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "unbounded" if value > 0 else "none"
    if value == 0:
        return "0"
    decimals = 4 - math.floor(math.log10(abs(value)))
    if decimals > 9 or decimals < -11:
        return f"{value:.5g}"
    text = f"{value:,.{max(decimals, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def brief(value: float | None, limits: Iterable[float | None] = ()) -> str:
    """A value to three significant digits, for where there is little room; to five where it would look like a limit.

    >>> brief(1.0024, [1.0]), brief(1.0024), brief(1.0, [1.0])
    ('1.0024', '1', '1')
    >>> brief(523.44), brief(0.0512), brief(12345.6), brief(1e7), brief(0.3)
    ('523', '0.0512', '12,346', '1e+07', '0.3')
    """
    if value is None or not math.isfinite(value) or value == 0:
        return number(value)
    if any(limit is not None and limit != value and brief(limit) == brief(value) for limit in limits):
        return number(value)
    decimals = 2 - math.floor(math.log10(abs(value) * (1 + 5e-4)))
    if decimals > 7 or decimals < -3:
        return f"{value:.3g}"
    text = f"{value:,.{max(decimals, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from ``low`` to ``high``. ``threshold`` is 0 on a linear axis; on a logarithmic one the value below which
    it is linear, inf where all of it is above 0.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    threshold: float = 0.0

    @property
    def logarithmic(self) -> bool:
        """Whether equal distances are equal ratios."""
        return self.threshold > 0.0

    def at(self, value: float) -> float:
        """The position of a value: 0 at the low end, 1 at the high one."""
        low, high, here = self._of(self.low), self._of(self.high), self._of(value)
        return (here - low) / (high - low)

    def value(self, position: float) -> float:
        """The value at a position."""
        low, high = self._of(self.low), self._of(self.high)
        return self._back(low + position * (high - low))

    def _of(self, value: float) -> float:
        if not self.logarithmic:
            return value
        if math.isinf(self.threshold):
            return math.log10(max(value, 1e-300))
        size = abs(value) / self.threshold
        grown = _AROUND_ZERO * size if size <= 1.0 else _AROUND_ZERO + math.log10(size)
        return math.copysign(grown, value)

    def _back(self, here: float) -> float:
        if not self.logarithmic:
            return here
        if math.isinf(self.threshold):
            return math.exp(here * math.log(10.0))
        grown = abs(here)
        size = grown / _AROUND_ZERO if grown <= _AROUND_ZERO else 10.0 ** (grown - _AROUND_ZERO)
        return math.copysign(size * self.threshold, here)


def scale(axis: Axis, values: Iterable[float | None], *, base: float | None = None, room: float = 0.04) -> Scale:
    """The scale of an axis that shows these values, with some ``room`` at its ends, none at ``base``, where bars begin.

    >>> scale(Axis("s", from_zero=True), [3.0, 9.0]).ticks
    (0.0, 2.0, 4.0, 6.0, 8.0)
    >>> scale(Axis("s", logarithmic=True), [0.5, 2000.0]).labels
    ('1', '10', '100', '1,000')
    """
    shown = finite([*values, base])
    if axis.logarithmic:
        return _logarithmic(axis, shown, base, room)
    if axis.from_zero:
        shown.append(0.0)
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        middle, wide = low, abs(low) * 0.1 or 0.5
        low = middle if middle in (base, 0.0 if axis.from_zero else None) else middle - wide
        high = middle + wide
    fixed = [end for end in (base, 0.0 if axis.from_zero else None) if end is not None]
    wide = room * (high - low)
    low, high = low - (0.0 if low in fixed else wide), high + (0.0 if high in fixed else wide)
    step = _step((high - low) / 7.0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple(k * step for k in range(first, last + 1))
    return Scale(low, high, ticks, tuple(_label(tick, step) for tick in ticks))


def _step(about: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, the nearest at or above."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(k * power for k in (1.0, 2.0, 2.5, 5.0, 10.0) if k * power >= about * (1 - 1e-9))


def _label(tick: float, step: float) -> str:
    if abs(tick) >= 1e9 or step < 1e-6:
        return f"{tick:.6g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**decimals, 6) != round(step * 10**decimals):  # 2.5
        decimals += 1
    return f"{tick + 0.0 if round(tick / step) else 0.0:,.{decimals}f}"


def _logarithmic(axis: Axis, shown: list[float], base: float | None, room: float) -> Scale:
    sizes = [abs(value) for value in shown if value]
    if not sizes:
        return scale(Axis(axis.label, from_zero=axis.from_zero), shown, base=base, room=room)
    if axis.from_zero:
        shown = [*shown, 0.0]
    if min(shown) > 0.0:
        low, high = min(shown), max(shown)
        if high / low < 1.02:
            low, high = low / 1.5, high * 1.5
        wide = (high / low) ** room
        low, high = low if low == base else low / wide, high if high == base else high * wide
        return Scale(low, high, *_decades(low, high), math.inf)
    threshold = 10.0 ** math.floor(math.log10(min(sizes)) + 1e-9)
    low, high = min(shown), max(shown)
    bare = Scale(low, high if high > low else threshold, (), (), threshold)
    low, high = bare.value(0.0 if low in (0.0, base) else -room), bare.value(1.0 if high in (0.0, base) else 1.0 + room)
    above = _decades(threshold, high) if high >= threshold else ((), ())
    below = _decades(threshold, -low) if -low >= threshold else ((), ())
    ticks = [*((-tick, f"-{text}") for tick, text in zip(*below, strict=True)), (0.0, "0")]
    ticks = sorted([*ticks, *zip(*above, strict=True)])
    return Scale(low, high, tuple(tick for tick, _ in ticks), tuple(text for _, text in ticks), threshold)


def _decades(low: float, high: float) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Ticks of a logarithmic axis: about five, at powers of ten, and between them at 2 and 5 where there is room."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    decades = math.log10(high / low)
    if decades < 0.4:
        step = _step((high - low) / 4.0)
        ticks = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        return tuple(ticks), tuple(_label(tick, step) for tick in ticks)
    factors = (1.0, 2.0, 5.0) if decades < 2.0 else (1.0, 3.0) if decades < 2.6 else (1.0,)
    every = max(1, math.ceil(decades / 6.0))
    ticks = [f * 10.0**k for k in range(first, last + 1) if k % every == 0 for f in factors]
    ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    texts = (f"{tick:,.{max(0, -math.floor(math.log10(tick) + 1e-9))}f}" for tick in ticks)
    small_enough = low >= 1e-5 and high < 1e7
    return tuple(ticks), tuple(texts if small_enough else (f"{tick:.3g}" for tick in ticks))


def merged(rules: Sequence[Rule], axis: str) -> list[Rule]:
    """The rules of an axis that can be drawn, in order; those at one value as one, with all of their labels."""
    labels: dict[float, list[str]] = {}
    for rule in sorted((rule for rule in rules if rule.axis == axis and math.isfinite(rule.value)), key=_by_value):
        known = labels.setdefault(rule.value, [])
        if rule.label and rule.label not in known:
            known.append(rule.label)
    return [Rule(value, ", ".join(texts), "x" if axis == "x" else "y") for value, texts in labels.items()]


def _by_value(rule: Rule) -> float:
    return rule.value


def line_scales(chart: LineChart) -> tuple[Scale, Scale]:
    """The scales of x and y, with the rules and the bounds of every value inside."""
    xs = [x for series in chart.series for x in series.x] + [rule.value for rule in merged(chart.rules, "x")]
    ys = [y for series in chart.series for y in (*series.y, *series.low, *series.high)]
    return scale(chart.x, xs), scale(chart.y, [*ys, *(rule.value for rule in merged(chart.rules, "y"))], room=0.06)


def bar_scale(chart: BarChart, room: float = 0.04) -> Scale:
    """The scale of the values; on a logarithmic axis bars begin at its low end, unless their base is on it."""
    values = [value for bars in chart.bars for value in bars.values]
    values += [rule.value for rule in bar_rules(chart)]
    base = chart.base if not chart.value.logarithmic or chart.base > 0 else None
    return scale(chart.value, values, base=base, room=room)


def bar_rules(chart: BarChart) -> list[Rule]:
    """The rules on the axis of the values, whichever they were given for: it is the only one with numbers."""
    return merged([Rule(rule.value, rule.label) for rule in chart.rules], "y")


def shared_rows(chart: BarChart) -> bool:
    """Whether bars of a group can lie in one row: two kinds, never on one side of the base, as in a tornado."""
    if len(chart.bars) != 2:
        return False
    first, second = ([_side(chart, value) for value in bars.values] for bars in chart.bars)
    pairs = list(zip(first, second, strict=True))
    return any(a and b for a, b in pairs) and not any(a == b != 0 for a, b in pairs)


def hidden_number(chart: BarChart, group: int, value: float) -> bool:
    """Whether a bar's number would lie on another bar of its row: it has no length, and the other one has."""
    others = (bars.values[group] for bars in chart.bars)
    return value == chart.base and shared_rows(chart) and any(_side(chart, other) for other in others)


def at_foot(chart: LineChart, value: float) -> bool:
    """Whether the name of an upright line at ``value`` has more room at its foot than at its head."""
    across, up = line_scales(chart)
    here = across.at(value)
    near = [
        up.at(y)
        for series in chart.series
        for x, y in zip(series.x, series.y, strict=True)
        if y is not None and math.isfinite(y) and abs(across.at(x) - here) < 0.1
    ]
    near += [up.at(rule.value) for rule in merged(chart.rules, "y")]
    return sum(place > 0.5 for place in near) > sum(place < 0.5 for place in near)


def _side(chart: BarChart, value: float | None) -> int:
    """On which side of the base a bar lies: -1, 1, or 0 for no bar."""
    return 0 if value is None or math.isnan(value) or value == chart.base else 1 if value > chart.base else -1


@dataclass(frozen=True, slots=True)
class Shades:
    """Where the values of a heat map lie from light to dark. ``beyond`` where some are infinite."""

    scale: Scale | None
    middle: float | None
    beyond: bool

    @property
    def divided(self) -> bool:
        """Whether a limit divides the colours."""
        return self.middle is not None

    @property
    def ends(self) -> tuple[float, float]:
        """The lightest and the darkest place that is used: all values may lie on one side of the limit."""
        if self.scale is None or self.middle is None:
            return 0.0, 1.0
        return 0.0 if self.scale.low < self.middle else 0.5, 1.0 if self.scale.high > self.middle else 0.5

    def at(self, value: float) -> float:
        """0 for the smallest to 1 for the largest, 0.5 at the limit."""
        if self.scale is None or math.isinf(value):
            return 1.0 if value > 0 else 0.0
        if self.middle is None:
            return self.scale.at(value)
        low, middle = 0.0, self.scale.at(self.middle)
        here = self.scale.at(value)
        if value <= self.middle:
            return 0.5 * (here - low) / (middle - low) if middle > low else 0.5
        return 0.5 + 0.5 * (here - middle) / (1.0 - middle)

    def value(self, position: float) -> float:
        """The value with a place between light and dark."""
        assert self.scale is not None
        if self.middle is None:
            return self.scale.value(position)
        middle = self.scale.at(self.middle)
        if position <= 0.5:
            return self.scale.value(2.0 * position * middle)
        return self.scale.value(middle + (2.0 * position - 1.0) * (1.0 - middle))


def shades(chart: HeatMap) -> Shades:
    """How light or dark the cells of a heat map are."""
    values = [value for row in chart.values for value in row]
    known = finite(values)
    beyond = any(value is not None and math.isinf(value) for value in values)
    middle = chart.middle if chart.middle is not None and math.isfinite(chart.middle) else None
    return Shades(scale(chart.value, [*known, middle], room=0.0) if known else None, middle, beyond)
