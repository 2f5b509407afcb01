"""Limits on latency: ``--limit`` for every percentile of every metric, and options of their own for the usual ones."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.options.declaration import Group, Option
from provisioner.options.defaults import LIMIT_NAMES
from provisioner.options.kinds import Kind, pairs
from provisioner.specs.metrics import ALIASES, MEASURED, METRICS, is_target, name_of, parse_target
from provisioner.specs.units import parse_duration, parse_factor
from provisioner.spelling import spelled

LATENCY: Final = Group("Latency limits")
LIMIT_FLAG: Final = "--limit"
_EACH: Final = 100.0  # stands for the percentile of a limit on each request


def parse_limit_text(value: Any, what: str) -> str:
    """The text of a limit, a time or a slowdown, after its check.

    >>> parse_limit_text("60ms", "--tbt-p50"), parse_limit_text("6x", "--ttft-p99")
    ('60ms', '6x')
    """
    parse = parse_factor if str(value).strip().lower().endswith("x") else parse_duration
    parse(value, what)
    return str(value)


def parse_limits(value: Any, what: str) -> dict[str, str]:
    """Limits by name, such as ``ttft_p99``, or ``ttft`` for one on each request, as texts in the order of reports.

    Given as a mapping or as texts METRIC-pQ=VALUE. ``InputError`` for one that is given twice.

    >>> parse_limits(["tpot-p99.9=50ms"], "--limit"), parse_limits({"ttft_p95": "2s", "tpot": "1s"}, "limits")
    ({'tbt_p99.9': '50ms'}, {'ttft_p95': '2s', 'tbt': '1s'})
    """
    limits: dict[tuple[str, float], str] = {}
    for given, text in pairs(value, what, "METRIC-pQ=VALUE, such as tbt-p99.9=60ms"):
        each = ALIASES.get(given.strip().lower())
        target = (each, _EACH) if each else parse_target(given, what)
        name = _name(*target)
        called = spelled(name) if name in LIMIT_OPTIONS else f"{what} {given}"
        if target in limits:
            raise InputError(f"{called}: is given twice")
        limits[target] = parse_limit_text(text, called)
    ordered = sorted(limits, key=lambda target: (list(METRICS).index(target[0]), target[1]))
    return {_name(*target): limits[target] for target in ordered}


def _name(metric: str, percentile: float) -> str:
    return metric if percentile == _EACH else name_of(metric, percentile)


def _member(name: str) -> Option:
    metric = METRICS[name.partition("_")[0]]
    if name in MEASURED:
        text = f"Limit on the {metric.meaning} of each request, such as {metric.example}; with --attainment."
        return Option(Kind(parse_limit_text, "LIMIT"), text, LATENCY, flag=f"--{name}")
    alone = "" if metric.by_formulas else " The simulator alone judges it."
    text = f"Limit on the {metric.meaning}, such as {metric.example}.{alone}"
    return Option(Kind(parse_limit_text, "LIMIT"), text, LATENCY, flag=f"--{name.replace('_', '-')}")


LIMITS: Final = Kind(
    parse_limits,
    "METRIC-pQ=VALUE",
    lambda value: [f"{name.replace('_', '-')}={text}" for name, text in value.items()],
    repeatable=True,
    default={},
)
LIMIT_OPTIONS: Final = {
    name: _member(name) for name in (*LIMIT_NAMES, *MEASURED)
}  # the options that are entries of all limits


def with_limits_named(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments of a command, with every flag of a limit written ``--limit``.

    >>> list(with_limits_named(["--tbt-p99.9", "50ms", "--rate", "70", "--itl-p95=60ms"]))
    ['--limit', 'tbt-p99.9=50ms', '--rate', '70', '--limit', 'itl-p95=60ms']
    """
    rest = iter(arguments)
    for argument in rest:
        flag, equals, text = argument.partition("=")
        if not (flag.startswith("--") and is_target(flag[2:])):
            yield argument
            continue
        value = text if equals else next(rest, None)
        if value is None:  # typer refuses what has no value
            yield flag if flag[2:].replace("-", "_") in LIMIT_NAMES else LIMIT_FLAG
        else:
            yield from (LIMIT_FLAG, f"{flag[2:]}={value}")
