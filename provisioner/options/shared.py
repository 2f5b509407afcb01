"""The options that plans and simulations have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.options.base import Options
from provisioner.options.declaration import Group, Option, spelled
from provisioner.options.defaults import ASSUMPTIONS, FACTORS, LIMIT_NAMES, MACHINE_FACTORS
from provisioner.options.values import NON_NEGATIVE, SCALE, TEXT, Kind, name_of, positive, several, whole
from provisioner.specs.metrics import METRICS, parse_target
from provisioner.specs.metrics import name_of as name_of_limit
from provisioner.specs.units import parse_duration, parse_factor, quoted

WORKLOAD: Final = Group("Workload")
LATENCY: Final = Group("Latency limits")
CLUSTER: Final = Group("Cluster")
METHOD: Final = Group("Method")


def parse_limit_text(value: Any, what: str) -> str:
    """The text of a limit, a time or a slowdown, after its check.

    >>> parse_limit_text("60ms", "--tbt-p50"), parse_limit_text("6x", "--ttft-p99")
    ('60ms', '6x')
    """
    parse = parse_factor if str(value).strip().lower().endswith("x") else parse_duration
    parse(value, what)
    return str(value)


def parse_limits(value: Any, what: str) -> dict[str, str]:
    """Limits by name, such as ``ttft_p99``, as texts."""
    if not isinstance(value, Mapping):
        raise InputError(f"{what}: must map names such as ttft_p99 to limits such as 2s, got {quoted(value)}")
    limits: dict[str, str] = {}
    for given, text in value.items():
        name = name_of_limit(*parse_target(str(given), what))
        limits[name] = parse_limit_text(text, spelled(name))
    return limits


def _limit_texts(value: Mapping[str, str]) -> list[str]:
    return [f"{name.replace('_', '-')}={text}" for name, text in value.items()]


def _limit(name: str) -> Option:
    metric = METRICS[name.partition("_")[0]]
    flag, kind = f"--{name.replace('_', '-')}", Kind(parse_limit_text, "LIMIT")
    return Option(
        flag,
        kind,
        f"Limit on the {metric.meaning}, such as {metric.example}. It replaces the one of --slo.",
        kind.metavar,
        LATENCY,
        None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Options):
    """The options that plans and simulations have in common."""

    workload: str = WORKLOAD.option(
        TEXT,
        "Shipped workload, workload file (.yaml) or trace file: its lengths and burstiness, at --rate.",
        metavar="NAME|FILE",
        default="coding",
        fixes=True,
    )
    rate_rps: float | None = WORKLOAD.option(
        positive("requests/s", "RATE"),
        "Load in requests/s; of a plan the peak.",
        flag="--rate",
        default_text="the workload's own",
        varies="rate",
    )
    trace: str | None = WORKLOAD.option(
        TEXT, "Requests and times of a trace file as they are, in place of --workload and --rate.", metavar="FILE"
    )
    cv: float | None = WORKLOAD.option(
        NON_NEGATIVE,
        "Burstiness: coefficient of variation of the gaps between arrivals (1 is Poisson).",
        metavar="CV",
        default_text="the workload's own",
        varies="CV of the gaps between arrivals",
    )
    independent: bool = WORKLOAD.switch("Draw prompt and output tokens apart, not as the pairs of the workload.")
    model: str = WORKLOAD.option(TEXT, "Model to serve (see provision models).", default="llama2-70b", fixes=True)
    slo: str = LATENCY.option(
        TEXT,
        "Set of limits: splitwise (the nine of the Splitwise paper), its rows p50, p90 and p99, batch (none), "
        "or a YAML file such as {ttft: {p99: 2s}, tbt: {p50: 60ms}, e2e: {p90: 1.5x}}.",
        metavar="NAME|FILE",
        default="splitwise",
        fixes=True,
    )
    limits: Mapping[str, str] = LATENCY.option(
        Kind(parse_limits, "METRIC-pQ=VALUE", _limit_texts),
        "Limits by name, such as ttft_p99.",
        flag="--limit",
        default={},
        members={name: _limit(name) for name in LIMIT_NAMES},
    )
    assumptions: str = METHOD.option(
        name_of("set of assumptions", ASSUMPTIONS),
        "How latencies are computed: from the measurements, or with the whole set of the published simulator.",
        default="measured",
        fixes=True,
    )
    dtype: str | None = METHOD.option(
        TEXT,
        "Number type of the layers' weights; 16-bit types count as bf16.",
        metavar="bf16|fp8",
        default_text="the model's own",
    )
    kv_dtype: str | None = METHOD.option(
        TEXT, "Number type of the KV cache.", metavar="bf16|fp8", default_text="the model's own"
    )
    reference: str | None = METHOD.option(
        TEXT,
        "What slowdowns are against: a request alone on this machine.",
        metavar="MACHINE[:TP]",
        default_text="dgx-a100:8",
    )
    network: tuple[str, ...] = METHOD.option(
        several(TEXT),
        "Network between machines, of all or of one type: infiniband-100 to -800, roce-100 to -400, "
        "ethernet-10 to -200, with a number of ports as in 2xethernet-25, or Gb/s of a whole machine. Repeatable.",
        metavar="[MACHINE=]NETWORK",
        default=(),
        default_text="the machine's own",
    )
    specs: str | None = METHOD.option(
        TEXT, "Folder with machines, models, prices and curves of one's own, beside the shipped ones.", metavar="FOLDER"
    )
    scale: Mapping[str, float] = METHOD.option(
        SCALE,
        f"What-if: multiply an input by a factor: {', '.join(FACTORS)}, and {', '.join(MACHINE_FACTORS)} "
        "of all machines or of one type, such as price:dgx-a100=0.5. Repeatable.",
        default={},
    )
    seed: int = METHOD.option(
        whole(minimum=0), "Seed of everything drawn at random.", metavar="NUMBER", default=0, fixes=True
    )
