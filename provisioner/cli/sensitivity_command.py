"""``provision sensitivity``: how the answer moves with its inputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from provisioner.cli.help import option
from provisioner.cli.options import (
    AssumptionsOption,
    ConfidenceOption,
    CutMarginOption,
    CvOption,
    DebugOption,
    DesignOption,
    E2eP50,
    E2eP90,
    E2eP99,
    FastOption,
    HeadroomOption,
    IndependentOption,
    JsonOption,
    MachineOption,
    MaxCostOption,
    MaxMachinesOption,
    MaxPowerOption,
    ModelOption,
    ObjectiveOption,
    OutOption,
    PlanDurationOption,
    PlanPolicyOption,
    PlanSetsOption,
    PricesOption,
    RateOption,
    ScaleOption,
    SeedOption,
    SloOption,
    SolverOption,
    StockOption,
    TbtP50,
    TbtP90,
    TbtP99,
    TimeLimitOption,
    TraceOption,
    TtftP50,
    TtftP90,
    TtftP99,
    WorkloadOption,
    plan_fields,
)
from provisioner.cli.progress import on_stderr
from provisioner.cli.run import emit
from provisioner.cli.screen import json_text, report_text
from provisioner.errors import InputError
from provisioner.options import FACTORS, MACHINE_FACTORS
from provisioner.specs.units import parse_fraction, parse_positive, parse_whole

_PANEL: Final = "Sensitivity"
_OWN: Final = ("inputs", "spread", "switches", "watch", "tolerance", "probes", "rates", "ratios", "dask")

InputOption = Annotated[
    list[str] | None,
    option(
        "--input",
        metavar="NAME",
        help=f"Input of the tornado: {', '.join(FACTORS)}, and {', '.join(MACHINE_FACTORS)} of all machines or of one "
        "type, such as price:dgx-a100. Repeatable.",
        panel=_PANEL,
        default="all that can move the answer; none with --switch or --rates",
    ),
]
SpreadOption = Annotated[
    str | None,
    option(
        "--spread",
        metavar="SHARE",
        help="Each input is divided and multiplied by 1 and so much more: 0.2 or 20%.",
        panel=_PANEL,
        default="0.2",
    ),
]
SwitchOption = Annotated[
    list[str] | None,
    option(
        "--switch",
        metavar="NAME=LOW:HIGH",
        help="Find the factors on an input between these two at which the answer switches, such as "
        "price:dgx-a100=0.2:1, link-bandwidth=0.001:1, cv=1:4. Repeatable.",
        panel=_PANEL,
    ),
]
WatchOption = Annotated[
    str | None,
    option(
        "--watch",
        metavar="design|split|machines|splitting",
        help="What counts as a switch: another best design, other sizes of its pools, another number of machines, or "
        "whether the best design splits the phases.",
        panel=_PANEL,
        default="design",
    ),
]
ToleranceOption = Annotated[
    str | None,
    option("--tolerance", metavar="SHARE", help="How near a switch is found.", panel=_PANEL, default="0.01"),
]
ProbesOption = Annotated[
    str | None,
    option(
        "--probes",
        metavar="COUNT",
        help="Factors between the ends that are looked at before bisection.",
        panel=_PANEL,
        default="5",
    ),
]
RatesOption = Annotated[
    str | None,
    option(
        "--rates",
        metavar="RATE,...",
        help="Rates in requests/s of the map of where splitting pays; with --ratios.",
        panel=_PANEL,
    ),
]
RatiosOption = Annotated[
    str | None,
    option(
        "--ratios",
        metavar="RATIO,...",
        help="Mean prompt over mean output tokens of the map, prompts as they are.",
        panel=_PANEL,
    ),
]
DaskOption = Annotated[
    str | None,
    option(
        "--dask",
        metavar="ADDRESS",
        help="Scheduler of a Dask cluster on which plans are made, such as tcp://10.0.0.1:8786 (extra: dask).",
        panel=_PANEL,
    ),
]


def sensitivity(
    inputs: InputOption = None,
    spread: SpreadOption = None,
    switches: SwitchOption = None,
    watch: WatchOption = None,
    tolerance: ToleranceOption = None,
    probes: ProbesOption = None,
    rates: RatesOption = None,
    ratios: RatiosOption = None,
    workload: WorkloadOption = None,
    rate_rps: RateOption = None,
    headroom: HeadroomOption = None,
    trace: TraceOption = None,
    cv: CvOption = None,
    independent: IndependentOption = False,
    model: ModelOption = None,
    slo: SloOption = None,
    ttft_p50: TtftP50 = None,
    ttft_p90: TtftP90 = None,
    ttft_p99: TtftP99 = None,
    tbt_p50: TbtP50 = None,
    tbt_p90: TbtP90 = None,
    tbt_p99: TbtP99 = None,
    e2e_p50: E2eP50 = None,
    e2e_p90: E2eP90 = None,
    e2e_p99: E2eP99 = None,
    designs: DesignOption = None,
    machines: MachineOption = None,
    stock: StockOption = None,
    objective: ObjectiveOption = None,
    max_cost_usd_per_h: MaxCostOption = None,
    max_power_w: MaxPowerOption = None,
    max_machines: MaxMachinesOption = None,
    prices: PricesOption = None,
    assumptions: AssumptionsOption = None,
    scale: ScaleOption = None,
    solver: SolverOption = None,
    seed: SeedOption = None,
    fast: FastOption = False,
    sets: PlanSetsOption = None,
    duration_s: PlanDurationOption = None,
    confidence: ConfidenceOption = None,
    policy: PlanPolicyOption = None,
    time_limit_s: TimeLimitOption = None,
    cut_margin: CutMarginOption = None,
    dask: DaskOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """See how the plan moves with its inputs.

    A tornado of every input; with --switch, the points where the answer switches, found by bisection; with --rates and
    --ratios, the map of where splitting the phases pays. Every value is a plan of its own.
    """
    given = locals()
    fields = plan_fields({k: v for k, v in given.items() if k not in (*_OWN, "out", "json", "debug")})
    own = _own_fields(given)
    from provisioner.report.files import check_outputs, write_outputs

    outputs = check_outputs(out or [])
    from provisioner import api
    from provisioner.report.sensitivity_document import sensitivity_document

    with on_stderr() as progress:
        found = api.sensitivity(progress=progress, **own, **fields)
    text = json_text(found.to_dict()) if json else report_text(sensitivity_document(found), outputs)
    write_outputs(found, outputs)
    emit(text)


def _own_fields(given: dict[str, Any]) -> dict[str, Any]:
    """The keywords of the study from the parameters of the command; what was not given is left out."""
    fields: dict[str, Any] = {name: given[name] for name in ("inputs", "watch", "dask") if given[name]}
    if given["spread"] is not None:
        fields["spread"] = parse_fraction(given["spread"], "--spread")
    if given["tolerance"] is not None:
        fields["tolerance"] = parse_fraction(given["tolerance"], "--tolerance")
    if given["probes"] is not None:
        fields["probes"] = parse_whole(given["probes"], "--probes", minimum=0)
    if given["switches"]:
        fields["switches"] = parse_switches(given["switches"], "--switch")
    for name, field in (("rates", "rates_rps"), ("ratios", "ratios")):
        if given[name] is not None:
            fields[field] = tuple(parse_positive(each, f"--{name}") for each in given[name].split(","))
    return fields


def parse_switches(given: Iterable[str], what: str) -> dict[str, tuple[float, float]]:
    """Inputs to search, each written NAME=LOW:HIGH.

    >>> parse_switches(["price:dgx-a100=0.2:1"], "--switch")
    {'price:dgx-a100': (0.2, 1.0)}
    """
    found: dict[str, tuple[float, float]] = {}
    for text in given:
        name, equals, bounds = text.partition("=")
        low, colon, high = bounds.partition(":")
        if not (name and equals and colon):
            raise InputError(f"{what}: must be NAME=LOW:HIGH, such as price:dgx-a100=0.2:1, got {text!r}")
        if name in found:
            raise InputError(f"{what} {name}: is given twice")
        found[name] = (parse_positive(low, f"{what} {name}"), parse_positive(high, f"{what} {name}"))
    return found
