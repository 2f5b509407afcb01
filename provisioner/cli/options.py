"""The options of ``provision plan``: how each is typed, and how text becomes a field of ``PlanOptions``.

Those that only ``provision simulate`` has are in ``simulate_options``. Defaults are read from ``PlanOptions``; an
option that is not given is not passed on, so that they hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final

from provisioner.cli.help import option
from provisioner.errors import InputError
from provisioner.options import ASSUMPTIONS, FACTORS, LIMIT_NAMES, MACHINE_FACTORS, OBJECTIVES, PlanOptions
from provisioner.specs.units import parse_duration, parse_fraction, parse_non_negative, parse_positive, parse_whole

_DEFAULT: Final = PlanOptions()

_WORKLOAD = "Workload"
_OBJECTIVES = "Latency limits"
_CLUSTER = "Cluster"
_METHOD = "Method"
_PROOF = "Proof by simulation"

_LIMIT_HELP = {
    "ttft": "Limit on the time to first token, such as 2s, 400ms, or 6x the same request alone on a DGX-A100. "
    "It replaces the one of --slo.",
    "tbt": "Limit on the time between tokens (a request's mean gap), such as 60ms or 5x.",
    "e2e": "Limit on the time from arrival to the last token, such as 20s or 5x.",
}


def _limit(name: str) -> Any:
    metric, percentile = name.split("_")
    return option(f"--{metric}-{percentile}", metavar="LIMIT", help=_LIMIT_HELP[metric], panel=_OBJECTIVES)


WorkloadOption = Annotated[
    str | None,
    option(
        "--workload",
        metavar="NAME|FILE",
        help="Shipped workload, workload file (.yaml) or trace file: its lengths and burstiness, at --rate.",
        panel=_WORKLOAD,
        default=_DEFAULT.workload,
    ),
]
RateOption = Annotated[
    str | None,
    option(
        "--rate",
        metavar="RATE",
        help="Peak load in requests/s.",
        panel=_WORKLOAD,
        default="the workload's own",
    ),
]
HeadroomOption = Annotated[
    str | None,
    option(
        "--headroom",
        metavar="SHARE",
        help="Plan for that much more than the rate: 0.2 or 20%.",
        panel=_WORKLOAD,
        default=f"{_DEFAULT.headroom:g}",
    ),
]
TraceOption = Annotated[
    str | None,
    option(
        "--trace",
        metavar="FILE",
        help="Plan for the requests and times of a trace file as they are, in place of --workload and --rate.",
        panel=_WORKLOAD,
    ),
]
CvOption = Annotated[
    str | None,
    option(
        "--cv",
        metavar="CV",
        help="Burstiness: coefficient of variation of the gaps between arrivals (1 is Poisson).",
        panel=_WORKLOAD,
        default="the workload's own",
    ),
]
IndependentOption = Annotated[
    bool,
    option(
        "--independent",
        help="Draw prompt and output tokens apart, not as the pairs of the workload.",
        panel=_WORKLOAD,
    ),
]
ModelOption = Annotated[
    str | None,
    option(
        "--model",
        metavar="NAME",
        help="Model to serve (see provision models).",
        panel=_WORKLOAD,
        default=_DEFAULT.model,
    ),
]
SloOption = Annotated[
    str | None,
    option(
        "--slo",
        metavar="NAME|FILE",
        help="Set of limits: splitwise (the nine of the Splitwise paper), its rows p50, p90 and p99, batch (none), "
        "or a YAML file such as {ttft: {p99: 2s}, tbt: {p50: 60ms}, e2e: {p90: 1.5x}}.",
        panel=_OBJECTIVES,
        default=_DEFAULT.slo,
    ),
]
TtftP50 = Annotated[str | None, _limit("ttft_p50")]
TtftP90 = Annotated[str | None, _limit("ttft_p90")]
TtftP99 = Annotated[str | None, _limit("ttft_p99")]
TbtP50 = Annotated[str | None, _limit("tbt_p50")]
TbtP90 = Annotated[str | None, _limit("tbt_p90")]
TbtP99 = Annotated[str | None, _limit("tbt_p99")]
E2eP50 = Annotated[str | None, _limit("e2e_p50")]
E2eP90 = Annotated[str | None, _limit("e2e_p90")]
E2eP99 = Annotated[str | None, _limit("e2e_p99")]
DesignOption = Annotated[
    list[str] | None,
    option(
        "--design",
        metavar="NAME",
        help="Consider this design only, such as splitwise-ha or baseline-h100. Repeatable.",
        panel=_CLUSTER,
        default="all that the machine types allow",
    ),
]
MachineOption = Annotated[
    list[str] | None,
    option(
        "--machine",
        metavar="NAME",
        help="Consider this machine type only (see provision machines). Repeatable.",
        panel=_CLUSTER,
        default="all with latency curves of the model",
    ),
]
StockOption = Annotated[
    list[str] | None,
    option(
        "--stock",
        metavar="NAME=COUNT",
        help="Machines of a type that can be had at most, such as dgx-h100=20. Repeatable.",
        panel=_CLUSTER,
        default="no limit",
    ),
]
ScaleOption = Annotated[
    list[str] | None,
    option(
        "--scale",
        metavar="NAME=FACTOR",
        help=f"What if an input were so many times as large: {', '.join(FACTORS)}, and {', '.join(MACHINE_FACTORS)} "
        "of all machines or of one type, such as price:dgx-a100=0.5. Repeatable.",
        panel=_METHOD,
    ),
]
ObjectiveOption = Annotated[
    str | None,
    option(
        "--objective",
        metavar="|".join(OBJECTIVES),
        help="What to make smallest; throughput makes the rate largest within the limits on cost, power or machines.",
        panel=_CLUSTER,
        default=_DEFAULT.objective,
    ),
]
MaxCostOption = Annotated[
    str | None,
    option("--max-cost", metavar="COST", help="Largest cost in $/h.", panel=_CLUSTER, default="no limit"),
]
MaxPowerOption = Annotated[
    str | None,
    option(
        "--max-power",
        metavar="POWER",
        help="Largest provisioned power, in W or with a unit: 400kW.",
        panel=_CLUSTER,
        default="no limit",
    ),
]
MaxMachinesOption = Annotated[
    str | None,
    option(
        "--max-machines",
        metavar="COUNT",
        help="Largest number of machines.",
        panel=_CLUSTER,
        default="no limit",
    ),
]
PricesOption = Annotated[
    str | None,
    option(
        "--prices",
        metavar="2026|paper|FILE",
        help="List of $/h and provisioned power per machine: a shipped one or a YAML file.",
        panel=_CLUSTER,
        default=_DEFAULT.prices,
    ),
]
AssumptionsOption = Annotated[
    str | None,
    option(
        "--assumptions",
        metavar="|".join(ASSUMPTIONS),
        help="How latencies are computed: from the measurements, or with the whole set of the published simulator.",
        panel=_METHOD,
        default=_DEFAULT.assumptions,
    ),
]
SolverOption = Annotated[
    str | None,
    option(
        "--solver",
        metavar="NAME",
        help="Any solver that PuLP knows and finds.",
        panel=_METHOD,
        default=_DEFAULT.solver,
    ),
]
SeedOption = Annotated[
    str | None,
    option(
        "--seed",
        metavar="NUMBER",
        help="Seed of everything drawn at random.",
        panel=_METHOD,
        default=_DEFAULT.seed,
    ),
]
FastOption = Annotated[
    bool,
    option("--fast", help="Answer by the queueing formulas alone, not simulated.", panel=_PROOF),
]
PlanSetsOption = Annotated[
    str | None,
    option(
        "--seeds",
        metavar="COUNT",
        help="Independent request sets on which a cluster is judged (1 to 15). A --trace is judged on itself.",
        panel=_PROOF,
        default=_DEFAULT.sets,
    ),
]
PlanDurationOption = Annotated[
    str | None,
    option(
        "--duration",
        metavar="TIME",
        help="Time in which the requests of a set arrive, such as 120s; its first tenth is a warm-up.",
        panel=_PROOF,
        default=f"{_DEFAULT.duration_s:g}s",
    ),
]
ConfidenceOption = Annotated[
    str | None,
    option(
        "--confidence",
        metavar="SHARE",
        help="Confidence of the bound that has to be within a limit, over the request sets.",
        panel=_PROOF,
        default=f"{_DEFAULT.confidence:g}",
    ),
]
PlanPolicyOption = Annotated[
    str | None,
    option(
        "--policy",
        metavar="NAME",
        help="How designs schedule: splitwise (machines lent between the pools) or split (strict pools) where the "
        "phases are split, mixed (mixed batching) or chunked (chunked prefill) where they are not.",
        panel=_PROOF,
        default="splitwise and mixed",
    ),
]
ExhaustiveOption = Annotated[
    bool,
    option("--exhaustive", help="Simulate every better cluster: no failure excludes others.", panel=_PROOF),
]
TimeLimitOption = Annotated[
    str | None,
    option(
        "--time-limit",
        metavar="TIME",
        help="Stop the proof after this time, such as 10s, with the best plan so far, its bound and the gap.",
        panel=_PROOF,
        default="no limit",
    ),
]
CutMarginOption = Annotated[
    str | None,
    option(
        "--cut-margin",
        metavar="FACTOR",
        help="A cluster beyond this many times a limit excludes all smaller ones of its design.",
        panel=_PROOF,
        default=f"{_DEFAULT.cut_margin:g}",
    ),
]
WriteLpOption = Annotated[
    str | None,
    option("--write-lp", metavar="FILE", help="Write the integer program in LP format.", panel=_METHOD),
]
OutOption = Annotated[
    list[str] | None,
    option(
        "--out",
        metavar="FILE",
        help="Write the result to a file by its ending: .csv, .md, .json, .parquet, .html, .png or .svg. Repeatable.",
    ),
]
JsonOption = Annotated[bool, option("--json", help="Print JSON.")]
DebugOption = Annotated[bool, option("--debug", help="Show a traceback where something goes wrong.", panel="Other")]


_POWER = re.compile(r"\s*(\S+?)\s*(W|kW|MW)?\s*", re.IGNORECASE)
_WATTS = {"w": 1.0, "kw": 1e3, "mw": 1e6}


def parse_power(text: str, what: str) -> float:
    """Power in W, from a number of W or one with its unit; above 0.

    >>> parse_power("400kW", "--max-power"), parse_power("1.5 MW", "--max-power"), parse_power("500", "--max-power")
    (400000.0, 1500000.0, 500.0)
    """
    match = _POWER.fullmatch(text)
    number, unit = match.groups() if match else (text, None)
    try:
        return parse_positive(number, what, "W") * _WATTS[(unit or "W").lower()]
    except InputError:
        raise InputError(f"{what}: must be a power above 0 W, such as 400000 or 400kW, got {text!r}") from None


def parse_time(text: str, what: str) -> float:
    """Time above 0 in s, from a number of s or one with its unit.

    >>> parse_time("120", "--duration"), parse_time("10min", "--duration")
    (120.0, 600.0)
    """
    if re.fullmatch(r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?\s*", text):
        return parse_positive(text, what, "s")
    return parse_duration(text, what)


def parse_headroom(text: str, what: str) -> float:
    """Headroom as a fraction of the rate, also written in per cent; 0 or above.

    >>> parse_headroom("0.2", "--headroom"), parse_headroom("20%", "--headroom"), parse_headroom("1.5", "--headroom")
    (0.2, 0.2, 1.5)
    """
    if text.rstrip().endswith("%"):
        return parse_non_negative(text.rstrip()[:-1], what, "%") / 100.0
    return parse_non_negative(text, what)


def parse_scale(given: Iterable[str], what: str) -> dict[str, float]:
    """Factors on inputs, each written NAME=FACTOR.

    >>> parse_scale(["output-tokens=1.2", "price:dgx-a100=0.5"], "--scale")
    {'output-tokens': 1.2, 'price:dgx-a100': 0.5}
    """
    scale: dict[str, float] = {}
    for text in given:
        name, equals, factor = text.partition("=")
        if not equals or not name:
            raise InputError(f"{what}: must be NAME=FACTOR, such as output-tokens=1.2, got {text!r}")
        if name in scale:
            raise InputError(f"{what} {name}: is given twice")
        scale[name] = parse_positive(factor, f"{what} {name}")
    return scale


def parse_stock(given: Iterable[str], what: str) -> dict[str, int]:
    """Machines in stock by type, each written NAME=COUNT.

    >>> parse_stock(["dgx-h100=20", "dgx-a100=0"], "--stock")
    {'dgx-h100': 20, 'dgx-a100': 0}
    """
    stock: dict[str, int] = {}
    for text in given:
        name, equals, count = (part.strip() for part in text.partition("="))
        if not (name and equals):
            raise InputError(f"{what}: must be NAME=COUNT, such as dgx-h100=20, got {text!r}")
        if name in stock:
            raise InputError(f"{what}: {name} is given twice")
        stock[name] = parse_whole(count, f"{what} {name}", "machines", minimum=0)
    return stock


def _seed(text: str, what: str) -> int:
    return parse_whole(text, what, minimum=0)


def _sets(text: str, what: str) -> int:
    return parse_whole(text, what, "request sets")


def _count(text: str, what: str) -> int:
    return parse_whole(text, what, "machines")


def _cost(text: str, what: str) -> float:
    return parse_positive(text, what, "$/h")


def _rate(text: str, what: str) -> float:
    return parse_positive(text, what, "requests/s")


Parsers = Mapping[str, tuple[str, Callable[[Any, str], Any]]]
"""For a field of options its flag, and what makes its value of the text and the flag."""

_PARSE: Final[Parsers] = {
    "rate_rps": ("--rate", _rate),
    "headroom": ("--headroom", parse_headroom),
    "cv": ("--cv", parse_non_negative),
    "designs": ("--design", lambda names, _: tuple(names)),
    "machines": ("--machine", lambda names, _: tuple(names)),
    "stock": ("--stock", parse_stock),
    "scale": ("--scale", parse_scale),
    "max_cost_usd_per_h": ("--max-cost", _cost),
    "max_power_w": ("--max-power", parse_power),
    "max_machines": ("--max-machines", _count),
    "seed": ("--seed", _seed),
    "sets": ("--seeds", _sets),
    "duration_s": ("--duration", parse_time),
    "confidence": ("--confidence", parse_fraction),
    "time_limit_s": ("--time-limit", parse_time),
    "cut_margin": ("--cut-margin", parse_non_negative),
}


def plan_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``PlanOptions`` from the parameters of the command; what was not given is left out."""
    if given.get("trace") is not None:
        for name, flag in (("workload", "--workload"), ("rate_rps", "--rate")):
            if given.get(name) is not None:
                raise InputError(f"--trace: takes requests and times as they are; leave out {flag}")
    return parsed_fields(given, _PARSE)


def parsed_fields(given: Mapping[str, Any], parsers: Parsers) -> dict[str, Any]:
    """Fields of options from parameters of a command; limits become one field, what was not given is left out."""
    fields: dict[str, Any] = {}
    limits: dict[str, str] = {}
    for name, value in given.items():
        if value is None or value is False or value == []:
            continue
        if name in LIMIT_NAMES:
            limits[name] = value
        elif name in parsers:
            flag, parse = parsers[name]
            fields[name] = parse(value, flag)
        else:
            fields[name] = value
    return fields | ({"limits": limits} if limits else {})
