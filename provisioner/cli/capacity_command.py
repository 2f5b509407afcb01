"""``provision capacity``: what a cluster in hand holds, and what to add for more."""

from __future__ import annotations

from typing import Annotated, Final

from provisioner.cli.help import option
from provisioner.cli.options import (
    AssumptionsOption,
    ConfidenceOption,
    CutMarginOption,
    CvOption,
    DebugOption,
    E2eP50,
    E2eP90,
    E2eP99,
    ExhaustiveOption,
    HeadroomOption,
    IndependentOption,
    JsonOption,
    MachineOption,
    MaxCostOption,
    MaxMachinesOption,
    MaxPowerOption,
    ModelOption,
    PlanDurationOption,
    PlanPolicyOption,
    PlanSetsOption,
    PricesOption,
    ScaleOption,
    SeedOption,
    SloOption,
    SolverOption,
    StockOption,
    TbtP50,
    TbtP90,
    TbtP99,
    TimeLimitOption,
    TtftP50,
    TtftP90,
    TtftP99,
    WorkloadOption,
    plan_fields,
)
from provisioner.cli.progress import on_stderr
from provisioner.cli.run import emit
from provisioner.cli.screen import json_text, report_text
from provisioner.cli.sweep_options import OutOption
from provisioner.errors import InputError
from provisioner.options import PlanOptions
from provisioner.specs.units import parse_positive, parse_whole

_IN_HAND: Final = "Cluster in hand"
_MORE: Final = "More machines"
# Parameters of the command that are no field of ``PlanOptions``.
_OWN: Final = ("design", "prompt", "token", "mixed", "to", "no_additions", "out", "json", "debug")

InHandOption = Annotated[
    str | None,
    option(
        "--design",
        metavar="NAME",
        help="Design of the cluster in hand, such as splitwise-hh or baseline-h100.",
        panel=_IN_HAND,
    ),
]
PromptOption = Annotated[
    str | None, option("--prompt", metavar="COUNT", help="Prompt machines in hand.", panel=_IN_HAND)
]
TokenOption = Annotated[str | None, option("--token", metavar="COUNT", help="Token machines in hand.", panel=_IN_HAND)]
MixedOption = Annotated[
    str | None, option("--mixed", metavar="COUNT", help="Machines in hand of a colocated design.", panel=_IN_HAND)
]
ToOption = Annotated[
    list[str] | None,
    option(
        "--to",
        metavar="RATE",
        help="Rate in requests/s to find the least additions for. Repeatable.",
        panel=_MORE,
        default="1.1, 1.25 and 1.5 times the capacity",
    ),
]
NoAdditionsOption = Annotated[
    bool, option("--no-additions", help="Find what the cluster holds, not what to add for more.", panel=_MORE)
]
AddObjectiveOption = Annotated[
    str | None,
    option(
        "--objective",
        metavar="cost|power|machines",
        help="What to add least of.",
        panel=_MORE,
        default=PlanOptions().objective,
    ),
]


def capacity(
    design: InHandOption = None,
    prompt: PromptOption = None,
    token: TokenOption = None,
    mixed: MixedOption = None,
    to: ToOption = None,
    no_additions: NoAdditionsOption = False,
    objective: AddObjectiveOption = None,
    workload: WorkloadOption = None,
    headroom: HeadroomOption = None,
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
    machines: MachineOption = None,
    stock: StockOption = None,
    max_cost_usd_per_h: MaxCostOption = None,
    max_power_w: MaxPowerOption = None,
    max_machines: MaxMachinesOption = None,
    prices: PricesOption = None,
    assumptions: AssumptionsOption = None,
    scale: ScaleOption = None,
    solver: SolverOption = None,
    seed: SeedOption = None,
    sets: PlanSetsOption = None,
    duration_s: PlanDurationOption = None,
    confidence: ConfidenceOption = None,
    policy: PlanPolicyOption = None,
    exhaustive: ExhaustiveOption = False,
    time_limit_s: TimeLimitOption = None,
    cut_margin: CutMarginOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the largest rate that a cluster in hand holds.

    Answers with that rate and the first at which the cluster fails, what breaks there and by how much, the latencies
    beside their limits, and the least machines to add for higher rates. Limits on cost, power and machines, and stock,
    are of the whole cluster. Exit code 3 where it holds no rate at all.
    """
    # every other parameter is named as the field of PlanOptions that it gives
    given = {name: value for name, value in locals().items() if name not in _OWN}
    fields = plan_fields(given)
    if design is None:
        raise InputError("--design: is needed: the design of the cluster in hand, such as splitwise-hh")
    from provisioner.report.files import check_outputs, write_outputs

    outputs = check_outputs(out or [])
    from provisioner.report.capacity_document import capacity_document
    from provisioner.studies.capacity import capacity as study

    with on_stderr() as progress:
        found = study(
            PlanOptions(**fields, designs=(design,)),
            prompt=_count(prompt, "--prompt"),
            token=_count(token, "--token"),
            mixed=_count(mixed, "--mixed"),
            to=tuple(parse_positive(rate, "--to", "requests/s") for rate in to or ()),
            additions=not no_additions,
            progress=lambda text: progress(f"capacity: {text}"),
        )
    text = json_text(found.to_dict()) if json else report_text(capacity_document(found), outputs)
    write_outputs(found, outputs)
    emit(text)


def _count(text: str | None, what: str) -> int | None:
    return None if text is None else parse_whole(text, what, "machines")
