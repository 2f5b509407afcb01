"""The options of ``provision plan``, which studies share, and how text becomes a field of ``PlanOptions``.

Those that only ``provision simulate`` has are in ``simulate_options``. Defaults are read from ``PlanOptions``; an
option that is not given is not passed on, so that they hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Final

from provisioner.cli.given import Flag, Group, group, without
from provisioner.cli.help import option
from provisioner.errors import InputError
from provisioner.options import ASSUMPTIONS, FACTORS, LIMIT_NAMES, MACHINE_FACTORS, OBJECTIVES, PlanOptions
from provisioner.specs.units import parse_duration, parse_fraction, parse_non_negative, parse_positive, parse_whole

_DEFAULT: Final = PlanOptions()

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


def parse_degrees(text: str, what: str) -> str | tuple[int, ...]:
    """Degrees of tensor parallelism: a word, or numbers of GPUs with commas between.

    >>> parse_degrees("all", "--tp"), parse_degrees("4,8", "--tp")
    ('all', (4, 8))
    """
    if text in ("largest", "all"):
        return text
    if not re.fullmatch(r"[-+\d.,\s]+", text):
        raise InputError(f"{what}: must be largest, all, or numbers of GPUs such as 4,8, got {text!r}")
    return tuple(parse_whole(part, what, "GPUs") for part in text.split(","))


def parse_count(text: str, what: str) -> int:
    """A number of requests, in thousands or millions where it ends with k or M.

    >>> parse_count("2M", "--backlog"), parse_count("1.5k", "--backlog"), parse_count("800", "--backlog")
    (2000000, 1500, 800)
    """
    times = {"k": 1e3, "m": 1e6}.get(text.strip()[-1:].lower())
    if times is None:
        return parse_whole(text, what, "requests")
    return parse_whole(round(times * parse_positive(text.strip()[:-1], what, "requests"), 6), what, "requests")


def whole(unit: str = "", minimum: int = 1) -> Callable[[str, str], int]:
    """What parses a whole number of a unit."""
    return lambda text, what: parse_whole(text, what, unit, minimum)


def positive(unit: str = "") -> Callable[[str, str], float]:
    """What parses a number above 0 of a unit."""
    return lambda text, what: parse_positive(text, what, unit)


_AS_IT_IS: Final = "takes requests and times as they are; leave out"

WORKLOAD: Final = group(
    "Workload",
    workload=Flag(
        "--workload",
        metavar="NAME|FILE",
        help="Shipped workload, workload file (.yaml) or trace file: its lengths and burstiness, at --rate.",
        default=_DEFAULT.workload,
    ),
    rate_rps=Flag(
        "--rate",
        metavar="RATE",
        help="Peak load in requests/s.",
        default="the workload's own",
        parse=positive("requests/s"),
    ),
    headroom=Flag(
        "--headroom",
        metavar="SHARE",
        help="Plan for that much more than the rate: 0.2 or 20%.",
        default=f"{_DEFAULT.headroom:g}",
        parse=parse_headroom,
    ),
    trace=Flag(
        "--trace",
        metavar="FILE",
        help="Plan for the requests and times of a trace file as they are, in place of --workload and --rate.",
        refuses={"workload": f"{_AS_IT_IS} --workload", "rate_rps": f"{_AS_IT_IS} --rate"},
    ),
    cv=Flag(
        "--cv",
        metavar="CV",
        help="Burstiness: coefficient of variation of the gaps between arrivals (1 is Poisson).",
        default="the workload's own",
        parse=parse_non_negative,
    ),
    independent=Flag("--independent", help="Draw prompt and output tokens apart, not as the pairs of the workload."),
    model=Flag("--model", metavar="NAME", help="Model to serve (see provision models).", default=_DEFAULT.model),
)

BATCH: Final = group(
    "Batch work",
    deadline_s=Flag(
        "--deadline",
        metavar="DURATION",
        help="99 % of the requests end within it, such as 60s or 5min: a limit on E2E P99, the only one with "
        "--slo batch.",
        parse=parse_duration,
    ),
    backlog_requests=Flag(
        "--backlog",
        metavar="REQUESTS",
        help="So many requests, such as 2M, that are all there at the start, in place of --rate; with --within and "
        "--slo batch.",
        parse=parse_count,
    ),
    within_s=Flag("--within", metavar="DURATION", help="Time for the --backlog, such as 8h.", parse=parse_duration),
)
AGAINST: Final = group(
    "Batch work",
    against=Flag(
        "--against",
        metavar="SLO|none",
        help="Set the plan of the same load within this SLO beside the answer, to show what its promise costs.",
        default="splitwise with --slo batch and no limit but --deadline, else none",
    ),
)

_LIMITS: Final = {
    "ttft": "Limit on the time to first token, such as 2s, 400ms, or 6x the same request alone on a DGX-A100. "
    "It replaces the one of --slo.",
    "tbt": "Limit on the time between tokens (a request's mean gap), such as 60ms or 5x.",
    "e2e": "Limit on the time from arrival to the last token, such as 20s or 5x.",
}
LIMITS: Final = group(
    "Latency limits",
    slo=Flag(
        "--slo",
        metavar="NAME|FILE",
        help="Set of limits: splitwise (the nine of the Splitwise paper), its rows p50, p90 and p99, batch (none), "
        "or a YAML file such as {ttft: {p99: 2s}, tbt: {p50: 60ms}, e2e: {p90: 1.5x}}.",
        default=_DEFAULT.slo,
    ),
    **{
        name: Flag(f"--{name.replace('_', '-')}", metavar="LIMIT", help=_LIMITS[name.split("_")[0]])
        for name in LIMIT_NAMES
    },
)

CLUSTER: Final = group(
    "Cluster",
    designs=Flag(
        "--design",
        metavar="NAME",
        help="Consider this design only, such as splitwise-ha or baseline-h100. Repeatable.",
        default="all that the machine types allow",
        several=True,
    ),
    machines=Flag(
        "--machine",
        metavar="NAME",
        help="Consider this machine type only (see provision machines). Repeatable.",
        default="all with latency curves of the model",
        several=True,
    ),
    tensor_parallel=Flag(
        "--tp",
        metavar="all|largest|GPUS,...",
        help="Tensor parallelism to consider, in GPUs of one replica, for every pool apart: all at which a machine "
        "type has latency curves and holds the model, the largest of them, or these.",
        default=_DEFAULT.tensor_parallel,
        parse=parse_degrees,
    ),
    power_caps=Flag(
        "--power-caps",
        metavar="PERCENT,...",
        help="Consider every machine type with its GPUs' power limited to each of these shares of their TDP; 100 is "
        "without limit. What a cap does to both phases is assumed (docs/reference/hardware.md).",
        default="machine types as they are",
        parse=lambda text, what: tuple(parse_positive(part, what, "% of the TDP") for part in text.split(",")),
    ),
    evidence=Flag(
        "--evidence",
        metavar="measured|derived|estimated",
        help="Worst kind of latency curves that machine types are considered with: measured with this model, derived "
        "from kernels measured on the GPU, or estimated from other GPUs.",
        default="the best kind that any has",
    ),
    stock=Flag(
        "--stock",
        metavar="NAME=COUNT",
        help="Machines of a type that can be had at most, such as dgx-h100=20. Repeatable.",
        default="no limit",
        several=True,
        parse=parse_stock,
    ),
    objective=Flag(
        "--objective",
        metavar="|".join(OBJECTIVES),
        help="What to make smallest; throughput makes the rate largest within the limits on cost, power or machines.",
        default=_DEFAULT.objective,
    ),
    max_cost_usd_per_h=Flag(
        "--max-cost", metavar="COST", help="Largest cost in $/h.", default="no limit", parse=positive("$/h")
    ),
    max_power_w=Flag(
        "--max-power",
        metavar="POWER",
        help="Largest provisioned power, in W or with a unit: 400kW.",
        default="no limit",
        parse=parse_power,
    ),
    max_machines=Flag(
        "--max-machines",
        metavar="COUNT",
        help="Largest number of machines.",
        default="no limit",
        parse=whole("machines"),
    ),
    prices=Flag(
        "--prices",
        metavar="2026|paper|FILE",
        help="List of $/h and provisioned power per machine: a shipped one or a YAML file.",
        default=_DEFAULT.prices,
    ),
)

AT_LARGEST: Final = {
    **without(CLUSTER, "objective"),
    "tensor_parallel": replace(
        CLUSTER["tensor_parallel"], default="largest, or what the names of designs have, as in splitwise-hh:2+4"
    ),
}
"""Clusters where a design is one, at the largest degree of tensor parallelism unless it is named with its degrees."""

METHOD: Final = group(
    "Method",
    assumptions=Flag(
        "--assumptions",
        metavar="|".join(ASSUMPTIONS),
        help="How latencies are computed: from the measurements, or with the whole set of the published simulator.",
        default=_DEFAULT.assumptions,
    ),
    dtype=Flag(
        "--dtype",
        metavar="bf16|fp8",
        help="Number type of the layers' weights; 16-bit types count as bf16.",
        default="the model's own",
    ),
    kv_dtype=Flag(
        "--kv-dtype",
        metavar="bf16|fp8",
        help="Number type of the KV cache.",
        default="the model's own",
    ),
    reference=Flag(
        "--reference",
        metavar="MACHINE[:TP]",
        help="What slowdowns are against: a request alone on this machine.",
        default="dgx-a100:8",
    ),
    network=Flag(
        "--network",
        metavar="[MACHINE=]NETWORK",
        help="Network between machines, of all or of one type: infiniband-100 to -800, roce-100 to -400, "
        "ethernet-10 to -200, with a number of ports as in 2xethernet-25, or Gb/s of a whole machine. Repeatable.",
        default="the machine's own",
        several=True,
        parse=lambda names, _: tuple(names),
    ),
    specs=Flag(
        "--specs",
        metavar="FOLDER",
        help="Folder with machines, models, prices and curves of one's own, beside the shipped ones.",
    ),
    scale=Flag(
        "--scale",
        metavar="NAME=FACTOR",
        help=f"What if an input were so many times as large: {', '.join(FACTORS)}, and {', '.join(MACHINE_FACTORS)} "
        "of all machines or of one type, such as price:dgx-a100=0.5. Repeatable.",
        several=True,
        parse=parse_scale,
    ),
    solver=Flag("--solver", metavar="NAME", help="Any solver that PuLP knows and finds.", default=_DEFAULT.solver),
    seed=Flag(
        "--seed",
        metavar="NUMBER",
        help="Seed of everything drawn at random.",
        default=_DEFAULT.seed,
        parse=whole(minimum=0),
    ),
)

PROOF: Final = group(
    "Proof by simulation",
    fast=Flag("--fast", help="Answer by the queueing formulas alone, not simulated."),
    sets=Flag(
        "--seeds",
        metavar="COUNT",
        help="Independent request sets on which a cluster is judged (1 to 15). A --trace is judged on itself.",
        default=_DEFAULT.sets,
        parse=whole("request sets"),
    ),
    duration_s=Flag(
        "--duration",
        metavar="TIME",
        help="Time in which the requests of a set arrive, such as 120s; its first tenth is a warm-up.",
        default=f"{_DEFAULT.duration_s:g}s",
        parse=parse_time,
    ),
    confidence=Flag(
        "--confidence",
        metavar="SHARE",
        help="Confidence of the bound that has to be within a limit, over the request sets.",
        default=f"{_DEFAULT.confidence:g}",
        parse=parse_fraction,
    ),
    policy=Flag(
        "--policy",
        metavar="NAME",
        help="How designs schedule: splitwise (machines lent between the pools) or split (strict pools) where the "
        "phases are split, mixed (mixed batching) or chunked (chunked prefill) where they are not.",
        default="splitwise and mixed",
    ),
    exhaustive=Flag("--exhaustive", help="Simulate every better cluster: no failure excludes others."),
    time_limit_s=Flag(
        "--time-limit",
        metavar="TIME",
        help="Stop the proof after this time, such as 10s, with the best plan so far, its bound and the gap.",
        default="no limit",
        parse=parse_time,
    ),
    cut_margin=Flag(
        "--cut-margin",
        metavar="FACTOR",
        help="A cluster beyond this many times a limit excludes all smaller ones of its design.",
        default=f"{_DEFAULT.cut_margin:g}",
        parse=parse_non_negative,
    ),
)

PLAN: Final[tuple[Group, ...]] = (WORKLOAD, LIMITS, BATCH, CLUSTER, METHOD, PROOF)
"""Every option of a plan but --write-lp and --against, as a study takes them that asks the question of a plan."""

WRITE_LP: Final = group(
    "Method", write_lp=Flag("--write-lp", metavar="FILE", help="Write the integer program in LP format.")
)

OutOption = Annotated[
    list[str] | None,
    option(
        "--out",
        metavar="FILE",
        help="Write the result in the format of the ending: the table as .csv or .parquet, all as .json, a report as "
        ".md or .html, the picture as .png or .svg. Repeatable.",
    ),
]
JsonOption = Annotated[bool, option("--json", help="Print JSON.")]
