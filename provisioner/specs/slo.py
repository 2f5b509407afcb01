"""Latency objectives: limits on percentiles of TTFT, TBT and E2E, as slowdowns or in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

from provisioner.errors import InputError, UnknownNameError
from provisioner.specs.units import format_factor, format_seconds, parse_duration, parse_factor

Metric = Literal["ttft", "tbt", "e2e"]
Percentile = Literal["p50", "p90", "p99"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
PERCENTILES: Final[tuple[Percentile, ...]] = get_args(Percentile)
QUANTILE: Final[dict[Percentile, float]] = {"p50": 0.50, "p90": 0.90, "p99": 0.99}

# Splitwise (ISCA 2024), Table VI: slowdowns against the same request alone on a DGX-A100.
SPLITWISE_TABLE_VI: Final[dict[Metric, tuple[float, float, float]]] = {
    "ttft": (2.0, 3.0, 6.0),
    "tbt": (1.25, 1.5, 5.0),
    "e2e": (1.25, 1.5, 5.0),
}


@dataclass(frozen=True, slots=True)
class LatencyLimit:
    """A limit on one percentile of one metric: in seconds, or as a slowdown against the reference machine.

    >>> str(LatencyLimit("ttft", "p99", 2.0, "seconds"))
    'TTFT P99 <= 2 s'
    """

    metric: Metric
    percentile: Percentile
    value: float
    kind: Literal["seconds", "slowdown"]

    def __post_init__(self) -> None:
        if not 0.0 < self.value < float("inf"):
            raise InputError(f"{self.label}: must be above 0, got {self.value}")

    @property
    def label(self) -> str:
        """The percentile as people write it, such as ``TTFT P99``."""
        return f"{self.metric.upper()} {self.percentile.upper()}"

    @property
    def quantile(self) -> float:
        """The percentile as a fraction of requests."""
        return QUANTILE[self.percentile]

    def format(self, value: float) -> str:
        """A value of this limit's kind, with its unit."""
        return format_factor(value) if self.kind == "slowdown" else format_seconds(value)

    def __str__(self) -> str:
        return f"{self.label} <= {self.format(self.value)}"


@dataclass(frozen=True, slots=True)
class SLO:
    """A named set of latency limits, at most one of each kind for a percentile of a metric; all must hold."""

    name: str
    limits: tuple[LatencyLimit, ...]

    def with_limits(self, extra: tuple[LatencyLimit, ...], name: str = "") -> SLO:
        """This SLO with limits added; one for the same percentile of the same metric replaces what was there."""
        if not extra:
            return self
        replaced = {(limit.metric, limit.percentile) for limit in extra}
        kept = tuple(limit for limit in self.limits if (limit.metric, limit.percentile) not in replaced)
        added = ", ".join(map(str, extra))
        name = name or (f"{self.name} with {added}" if self.limits else added)
        order = {metric: position for position, metric in enumerate(METRICS)}
        ordered = sorted(kept + extra, key=lambda limit: (order[limit.metric], limit.percentile))
        return SLO(name, tuple(ordered))

    def scaled(self, factor: float) -> SLO:
        """This SLO with every limit so many times as large."""
        limits = tuple(replace(limit, value=factor * limit.value) for limit in self.limits)
        return SLO(f"{self.name} x {factor:g}", limits)


def _rows(percentiles: tuple[Percentile, ...]) -> tuple[LatencyLimit, ...]:
    return tuple(
        LatencyLimit(metric, percentile, SPLITWISE_TABLE_VI[metric][PERCENTILES.index(percentile)], "slowdown")
        for metric in METRICS
        for percentile in percentiles
    )


NAMED_SLOS: Final[dict[str, SLO]] = {
    "splitwise": SLO("splitwise", _rows(PERCENTILES)),
    "p50": SLO("p50", _rows(("p50",))),
    "p90": SLO("p90", _rows(("p90",))),
    "p99": SLO("p99", _rows(("p99",))),
    "batch": SLO("batch", ()),
}


def parse_limit(metric: Metric, percentile: Percentile, text: str, what: str) -> LatencyLimit:
    """A limit written as a time (``2s``, ``60ms``) or as a slowdown (``6x``).

    >>> parse_limit("tbt", "p50", "60ms", "--tbt-p50").value
    0.06
    """
    if str(text).strip().lower().endswith("x"):
        return LatencyLimit(metric, percentile, parse_factor(text, what), "slowdown")
    return LatencyLimit(metric, percentile, parse_duration(text, what), "seconds")


def load_slo(name_or_path: str) -> SLO:
    """A named SLO, or one read from a YAML file such as ``{ttft: {p99: 2s}, tbt: {p50: 60ms}}``."""
    if name_or_path in NAMED_SLOS:
        return NAMED_SLOS[name_or_path]
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        raise UnknownNameError("SLO", name_or_path, [*NAMED_SLOS, "a YAML file"])
    return _read_slo(path)


def _read_slo(path: Path) -> SLO:
    from provisioner.specs.schema import read_yaml

    shape = "write it as 'ttft: {p99: 2s}', 'tbt: {p50: 60ms}', 'e2e: {p90: 1.5x}'"
    limits = []
    for metric, row in read_yaml(path, str(path)).items():
        if metric not in METRICS:
            raise InputError(f"{path}: {metric}: unknown metric; known are {', '.join(METRICS)}")
        if not isinstance(row, dict) or not row:
            raise InputError(f"{path}: {metric}: must map percentiles to limits; {shape}")
        for percentile, value in row.items():
            if percentile not in PERCENTILES:
                known = ", ".join(PERCENTILES)
                raise InputError(f"{path}: {metric}.{percentile}: unknown percentile; known are {known}")
            limits.append(parse_limit(metric, percentile, value, f"{path}: {metric}.{percentile}"))
    if not limits:
        raise InputError(f"{path}: holds no limits; {shape}")
    return SLO(path.name, ()).with_limits(tuple(limits), name=path.name)
