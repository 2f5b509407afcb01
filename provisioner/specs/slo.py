"""Latency objectives: limits on percentiles of TTFT, TBT and E2E, as slowdowns or in seconds."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from provisioner.errors import InputError, UnknownNameError
from provisioner.specs.metrics import ALIASES, MEASURED, METRICS, REPORTED_PERCENTILES, name_of, parse_percentile
from provisioner.specs.units import format_factor, format_seconds, parse_duration, parse_factor
from provisioner.spelling import spelled

# Splitwise (ISCA 2024), Table VI: slowdowns against the same request alone on a DGX-A100.
SPLITWISE_TABLE_VI: Final[dict[str, tuple[float, float, float]]] = {
    "ttft": (2.0, 3.0, 6.0),
    "tbt": (1.25, 1.5, 5.0),
    "e2e": (1.25, 1.5, 5.0),
}


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of one metric: the base of all latencies and limits.

    >>> Percentile("gap", 99.9).label, Percentile("ttft", 99.0).name
    ('largest gap P99.9', 'ttft_p99')
    """

    metric: str
    percentile: float

    @property
    def target(self) -> tuple[str, float]:
        """The metric and the percentile."""
        return self.metric, self.percentile

    @property
    def label(self) -> str:
        """The percentile as people write it, such as ``TTFT P99``."""
        return f"{METRICS[self.metric].label} P{self.percentile:g}"

    @property
    def name(self) -> str:
        """The percentile as columns and keywords name it, such as ``ttft_p99``."""
        return name_of(self.metric, self.percentile)


@dataclass(frozen=True, slots=True)
class LatencyLimit(Percentile):
    """A limit on one percentile (above 0, below 100) of one metric: in s, or as a slowdown against the reference.

    >>> str(LatencyLimit("ttft", 99.0, 2.0, "seconds"))
    'TTFT P99 <= 2 s'
    """

    value: float
    kind: Literal["seconds", "slowdown"]

    def __post_init__(self) -> None:
        if not 0.0 < self.value < float("inf"):
            raise InputError(f"{self.label}: must be above 0, got {self.value}")

    @property
    def quantile(self) -> float:
        """The percentile as a fraction of requests."""
        return self.percentile / 100.0

    @property
    def parts(self) -> tuple["LatencyLimit", ...]:
        """The limits that it is made of: itself alone."""
        return (self,)

    @property
    def falls_with_machines(self) -> bool:
        """Whether a clear failure excludes smaller clusters."""
        return METRICS[self.metric].falls_with_machines

    def scaled(self, factor: float) -> "LatencyLimit":
        """This limit times ``factor``."""
        return replace(self, value=factor * self.value)

    def format(self, value: float) -> str:
        """A value of this limit's kind, with its unit."""
        return format_factor(value) if self.kind == "slowdown" else format_seconds(value)

    def __str__(self) -> str:
        return f"{self.label} <= {self.format(self.value)}"


@dataclass(frozen=True, slots=True)
class EachLimit(LatencyLimit):
    """A limit on each request, of an attainment; it holds at the ``percentile`` of its metric at least."""

    @property
    def label(self) -> str:
        """The metric as people write it, such as ``TTFT``."""
        return METRICS[self.metric].label

    @property
    def name(self) -> str:
        """The metric as keywords name it, such as ``ttft``."""
        return self.metric


@dataclass(frozen=True, slots=True)
class Attainment(LatencyLimit):
    """A share of requests that have to be within all of some ``limits`` at once: the field's goodput.

    The metric of a request is r, its largest value over its limit: infinite if it is unfinished, without the metrics
    that it lacks (the TBT of one output token), each request counted once. The share with r <= 1 is at least
    ``quantile`` where that quantile of r is at most 1.

    >>> print(attainment(0.99, (("ttft", "1s"), ("tbt", "50ms"))))
    99 % of the requests within TTFT <= 1 s, TBT <= 50 ms
    """

    limits: tuple[EachLimit, ...] = ()

    @property
    def parts(self) -> tuple[EachLimit, ...]:
        """The limits that it is made of."""
        return self.limits

    @property
    def falls_with_machines(self) -> bool:
        """Whether a clear failure excludes smaller clusters."""
        return all(METRICS[limit.metric].falls_with_machines for limit in self.limits)

    def scaled(self, factor: float) -> "Attainment":
        """The same share within limits times ``factor``."""
        return replace(self, limits=tuple(replace(each, value=factor * each.value) for each in self.limits))

    @property
    def listed(self) -> str:
        """The limits on each request, as people write them."""
        return ", ".join(map(str, self.limits))

    def __str__(self) -> str:
        return f"{self.percentile:g} % of the requests within {self.listed}"


@dataclass(frozen=True, slots=True)
class SLO:
    """A named set of latency limits, at most one of each kind for a percentile of a metric; all must hold."""

    name: str
    limits: tuple[LatencyLimit, ...]

    def with_limits(self, extra: tuple[LatencyLimit, ...], name: str = "") -> "SLO":
        """This SLO with limits added; one for the same percentile of the same metric replaces the earlier one."""
        if not extra:
            return self
        replaced = {limit.target for limit in extra}
        kept = tuple(limit for limit in self.limits if limit.target not in replaced)
        added = ", ".join(map(str, extra))
        name = name or (f"{self.name} with {added}" if self.limits else added)
        order = list(METRICS)
        ordered = sorted(kept + extra, key=lambda limit: (order.index(limit.metric), limit.percentile))
        return SLO(name, tuple(ordered))

    @property
    def percentiles(self) -> tuple[float, ...]:
        """The percentiles that have a limit, each once, in rising order."""
        return tuple(sorted({limit.percentile for limit in self.limits}))

    @property
    def attainment(self) -> Attainment | None:
        """The share of requests that have to be within all limits at once; None without one."""
        return next((limit for limit in self.limits if isinstance(limit, Attainment)), None)

    def predicted(self, several_tokens: float = 1.0) -> "SLO":
        """The limits that the queueing formulas can decide; the simulator alone decides the others.

        Of an attainment, the formulas know a bound: each of its limits holds for as many requests. A TBT is of
        the share of them that have ``several_tokens``, so that it may be missed by a larger part of these.
        """
        limits = []
        for limit in self.limits:
            for part in limit.parts:
                share = several_tokens if part.metric == "tbt" and part is not limit else 1.0
                percentile = 100.0 - (100.0 - part.percentile) / max(share, 1e-9)
                if METRICS[part.metric].by_formulas and percentile > 0.0:
                    limits.append(part if share == 1.0 else replace(part, percentile=percentile))
        return replace(self, limits=tuple(limits))

    def figures(self, metrics: Iterable[str] = METRICS) -> tuple[tuple[str, float], ...]:
        """Metric and percentile of the figures of a report: the reported ones of ``metrics``, and all with a limit."""
        shown = {limit.target for limit in self.limits}
        shown |= {(metric, percentile) for metric in metrics for percentile in REPORTED_PERCENTILES}
        return tuple((metric, p) for metric in METRICS for name, p in sorted(shown) if name == metric)

    def limit_on(self, metric: str, percentile: float) -> LatencyLimit | None:
        """The first limit on a percentile of a metric; None without one."""
        return next((x for x in self.limits if x.target == (metric, percentile)), None)

    def scaled(self, factor: float) -> "SLO":
        """This SLO with every limit times ``factor``."""
        limits = tuple(limit.scaled(factor) for limit in self.limits)
        return SLO(f"{self.name} x {factor:g}", limits)


_TABLE_VI: Final = tuple(
    LatencyLimit(metric, percentile, value, "slowdown")
    for metric, values in SPLITWISE_TABLE_VI.items()
    for percentile, value in zip(REPORTED_PERCENTILES, values, strict=True)
)

NAMED_SLOS: Final[dict[str, SLO]] = {
    "splitwise": SLO("splitwise", _TABLE_VI),
    **{name: SLO(name, tuple(x for x in _TABLE_VI if name == f"p{x.percentile:g}")) for name in ("p50", "p90", "p99")},
    **{name: SLO(name, ()) for name in ("none", "batch")},
}


def parse_limit(metric: str, percentile: float, text: str, what: str) -> LatencyLimit:
    """A limit written as a time (``2s``, ``60ms``) or as a slowdown (``6x``).

    >>> parse_limit("tbt", 50.0, "60ms", "--tbt-p50").value
    0.06
    """
    if str(text).strip().lower().endswith("x"):
        return LatencyLimit(metric, percentile, parse_factor(text, what), "slowdown")
    return LatencyLimit(metric, percentile, parse_duration(text, what), "seconds")


def attainment(share: float, given: Iterable[tuple[str, str]]) -> Attainment:
    """The share of requests within limits on metrics, each written as for ``parse_limit``."""
    percentile = round(100.0 * share, 9)
    parsed = (parse_limit(metric, percentile, text, spelled(metric)) for metric, text in given)
    limits = tuple(EachLimit(*each.target, each.value, each.kind) for each in parsed)
    return Attainment("all", percentile, 1.0, "slowdown", limits)


def load_slo(name_or_path: str) -> SLO:
    """A named SLO, or one read from a YAML file such as ``{ttft: {p99: 2s}, tbt: {p50: 60ms}}``."""
    if name_or_path in NAMED_SLOS:
        return NAMED_SLOS[name_or_path]
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        raise UnknownNameError("SLO", name_or_path, [*NAMED_SLOS, "a YAML file"])
    from provisioner.specs.schema import read_yaml

    shape = "write it as 'ttft: {p99: 2s}', 'tbt: {p50: 60ms}', 'e2e: {p90: 1.5x}'"
    limits: dict[tuple[str, float], LatencyLimit] = {}
    for name, row in read_yaml(path, str(path)).items():
        metric = ALIASES.get(str(name).lower())
        if metric is None:
            raise InputError(f"{path}: {name}: unknown metric; known are {', '.join(MEASURED)}")
        if not isinstance(row, dict) or not row:
            raise InputError(f"{path}: {name}: must map percentiles to limits; {shape}")
        for key, value in row.items():
            what = f"{path}: {name}.{key}"
            number = re.fullmatch(r"p(\d+(?:\.\d+)?)", str(key))
            if number is None:
                raise InputError(f"{what}: unknown percentile; write it as p50, p99 or p99.9")
            limit = parse_limit(metric, parse_percentile(float(number[1]), what), value, what)
            if limit.target in limits:
                raise InputError(f"{what}: {limit.label} is given twice")
            limits[limit.target] = limit
    if not limits:
        raise InputError(f"{path}: holds no limits; {shape}")
    return SLO(path.name, ()).with_limits(tuple(limits.values()), name=path.name)
