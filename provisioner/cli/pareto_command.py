"""``provision pareto``: the frontier of cost, power and machines at a rate."""

from __future__ import annotations

from typing import Annotated, Final

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
    ExhaustiveOption,
    FastOption,
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
    RateOption,
    ScaleOption,
    SeedOption,
    SloOption,
    SolverOption,
    StockOption,
    TbtP50,
    TbtP90,
    TbtP99,
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
from provisioner.cli.sweep_options import OutOption
from provisioner.options import PlanOptions

# Parameters of the command that are no field of ``PlanOptions``.
_OWN: Final = ("out", "json", "debug")

WholeTimeOption = Annotated[
    str | None,
    option(
        "--time-limit",
        metavar="TIME",
        help="Stop after this time, such as 60s, with the points found so far and what was left open.",
        panel="Proof by simulation",
        default="no limit",
    ),
]


def pareto(
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
    exhaustive: ExhaustiveOption = False,
    time_limit_s: WholeTimeOption = None,
    cut_margin: CutMarginOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the clusters that none beats in cost, power and machines at once.

    Answers with every such cluster at the rate, over all designs and sizes, each a plan proven by simulation. Exit code
    3 where nothing meets the limits.
    """
    # every other parameter is named as the field of PlanOptions that it gives
    given = {name: value for name, value in locals().items() if name not in _OWN}
    fields = plan_fields(given)
    from provisioner.report.files import check_outputs, write_outputs

    outputs = check_outputs(out or [])
    from provisioner.report.pareto_document import pareto_document
    from provisioner.studies.pareto import pareto as study

    with on_stderr() as progress:
        found = study(PlanOptions(**fields), progress=progress)
    text = json_text(found.to_dict()) if json else report_text(pareto_document(found), outputs)
    write_outputs(found, outputs)
    emit(text)
