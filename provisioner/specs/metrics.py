"""The latency metrics: one row each, from which limits, flags, labels, tables and charts take their names.

A metric is measured per request and judged at a percentile over requests (``docs/reference/metrics.md``). A new one is
a row here and its measurement in ``simulation.measure``; the formulas predict it where ``queueing`` has its share.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from provisioner.errors import InputError, UnknownNameError

Stage = Literal["prompt", "token", "both"]

LARGEST_PERCENTILE: Final = 99.9
"""The largest percentile that a limit may be on; a share of requests beyond it is too small to measure."""

REPORTED_PERCENTILES: Final = (50.0, 90.0, 99.0)  # percentiles of every metric that reports show
NAMED_PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0)  # percentiles whose limits have flags and keywords of their own


@dataclass(frozen=True, slots=True)
class Metric:
    """One latency of a request.

    ``name`` is used in flags, keywords and files, ``aliases`` are other names of the field, ``label`` is shown,
    ``sign`` stands for it in maps of letters. ``meaning`` completes "limit on the ..." and ``example`` shows values.
    ``stage`` is the phase that decides it, and so the curves that it rests on. ``floor`` is the part of it that no
    number of machines shortens. ``by_formulas``: the queueing formulas predict it; without, the simulator alone decides
    a limit on it. ``falls_with_machines``: more machines make it smaller, but for noise, so that a clear failure of a
    limit excludes smaller clusters. ``measured``: a request has a value of it; without, it is made of limits on others.
    """

    name: str
    sign: str
    label: str
    meaning: str
    example: str
    stage: Stage
    floor: str = ""
    aliases: tuple[str, ...] = ()
    by_formulas: bool = True
    falls_with_machines: bool = True
    measured: bool = True

    @property
    def what(self) -> str:
        """The quantity that a limit is on."""
        return self.label if self.measured else self.meaning


_ROWS: Final = (
    Metric(
        "ttft",
        "T",
        "TTFT",
        "time to first token",
        "2s, 400ms, or 6x the same request alone on the reference machine",
        "prompt",
        floor="the prompt time alone",
    ),
    Metric(
        "tbt",
        "B",
        "TBT",
        "time between tokens (a request's mean gap)",
        "60ms or 5x",
        "token",
        floor="the time of a decode iteration with the KV-cache transfer",
        aliases=("tpot", "itl"),
    ),
    Metric(
        "gap",
        "G",
        "largest gap",
        "largest gap between two tokens of a request",
        "500ms or 5x",
        "token",
        floor="the longest decode iteration of a request alone",
        aliases=("largest-gap", "largest_gap"),
        by_formulas=False,
        falls_with_machines=False,
    ),
    Metric(
        "e2e",
        "E",
        "E2E",
        "time from arrival to the last token",
        "20s or 5x",
        "both",
        floor="the time of the request alone",
    ),
    Metric(
        "all",
        "A",
        "all limits",
        "share of the requests within all limits at once",
        "99%",
        "both",
        by_formulas=False,
        measured=False,
    ),
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _ROWS})
"""Every metric by name, in the order of reports."""

MEASURED: Final = tuple(name for name, metric in METRICS.items() if metric.measured)
"""The metrics of which a request has a value; ``all`` is its largest value over its limit (``slo.Attainment``)."""

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {alias: metric.name for metric in map(METRICS.__getitem__, MEASURED) for alias in (metric.name, *metric.aliases)}
)
"""The name of a metric by every name that it is known by."""

PREDICTED: Final = tuple(name for name, metric in METRICS.items() if metric.by_formulas)
"""The metrics that the queueing formulas predict."""

_TARGET: Final = re.compile(r"([a-z0-9_-]+?)[-_ ]p(\d+(?:\.\d+)?)", re.IGNORECASE)


def name_of(metric: str, percentile: float) -> str:
    """A percentile of a metric as columns and keywords name it.

    >>> name_of("tbt", 99.0), name_of("tbt", 99.9)
    ('tbt_p99', 'tbt_p99.9')
    """
    return f"{metric}_p{percentile:g}"


def parse_percentile(value: float, what: str) -> float:
    """A percentile that a limit may be on, above 0 and up to ``LARGEST_PERCENTILE``."""
    if not 0.0 < value <= LARGEST_PERCENTILE:
        raise InputError(f"{what}: the percentile must be above 0 and at most {LARGEST_PERCENTILE:g}, got {value:g}")
    return value


def is_target(text: str) -> bool:
    """Whether a text names a percentile of a metric.

    >>> is_target("tpot-p99.9"), is_target("prompt-p99"), is_target("tbt")
    (True, False, False)
    """
    match = _TARGET.fullmatch(text)
    return match is not None and match[1].lower() in ALIASES


def parse_target(text: str, what: str) -> tuple[str, float]:
    """The metric and the percentile of a text such as ``tbt-p99.9`` or ``tpot_p95``.

    >>> parse_target("TPOT-p95", "--limit")
    ('tbt', 95.0)
    """
    match = _TARGET.fullmatch(text.strip())
    if match is None:
        known = [name_of(metric, percentile) for metric in MEASURED for percentile in NAMED_PERCENTILES]
        raise UnknownNameError("limit", text, known if "_" in text else [name.replace("_", "-") for name in known])
    name = match[1].lower()
    if name not in ALIASES:
        raise UnknownNameError("metric", name, ALIASES)
    return ALIASES[name], parse_percentile(float(match[2]), f"{what} {text}")
