"""``provision compare``: designs side by side within one budget, or at one throughput."""

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
from provisioner.cli.sweep_options import DaskOption, OutOption
from provisioner.options import PlanOptions

_COMPARISON: Final = "Comparison"
# Parameters of the command that are no field of ``PlanOptions``.
_OWN: Final = ("same", "budget", "baseline", "chunked", "dask", "out", "json", "debug")

SameOption = Annotated[
    str | None,
    option(
        "--same",
        metavar="power|cost|machines|throughput",
        help="What all designs have in common: a --budget of power, cost or machines, or the throughput of --rate.",
        panel=_COMPARISON,
        default="power, or throughput with --rate or --trace",
    ),
]
BudgetOption = Annotated[
    str | None,
    option(
        "--budget",
        metavar="AMOUNT",
        help="What a design may use at most: 400kW, '1500 $/h', 40 (machines), or as much as so many machines of a "
        "type: '40 dgx-h100'.",
        panel=_COMPARISON,
    ),
]
BaselineOption = Annotated[
    str | None,
    option(
        "--baseline",
        metavar="NAME",
        help="Design that the others are measured against.",
        panel=_COMPARISON,
        default="the first colocated one",
    ),
]
ChunkedOption = Annotated[
    bool,
    option(
        "--chunked",
        help="Add every colocated design with chunked prefill, as rows of their own.",
        panel=_COMPARISON,
    ),
]
LeastOption = Annotated[
    str | None,
    option(
        "--objective",
        metavar="cost|power|machines",
        help="What each design has least of with --same throughput.",
        panel=_COMPARISON,
        default=PlanOptions().objective,
    ),
]


def compare(
    same: SameOption = None,
    budget: BudgetOption = None,
    baseline: BaselineOption = None,
    chunked: ChunkedOption = False,
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
    objective: LeastOption = None,
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
    time_limit_s: TimeLimitOption = None,
    cut_margin: CutMarginOption = None,
    dask: DaskOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare designs within one budget, or at one throughput.

    Answers with the largest throughput of each design within the budget (or its least cost, power or machines at the
    throughput), with its best split, and everything relative to a baseline. A design without a plan is a row with the
    reason: exit code 0.
    """
    # every other parameter is named as the field of PlanOptions that it gives
    given = {name: value for name, value in locals().items() if name not in _OWN}
    fields = plan_fields(given)
    from provisioner.report.files import check_outputs, write_outputs

    outputs = check_outputs(out or [])
    from provisioner.report.compare_document import compare_document
    from provisioner.studies.compare import compare as study

    at_a_rate = budget is None and (rate_rps is not None or trace is not None)
    with on_stderr() as progress:
        found = study(
            PlanOptions(**fields),
            same=same or ("throughput" if at_a_rate else "power"),  # type: ignore[arg-type]
            budget=budget,
            baseline=baseline,
            chunked=chunked,
            dask=dask,
            progress=progress,
        )
    text = json_text(found.to_dict()) if json else report_text(compare_document(found), outputs)
    write_outputs(found, outputs)
    emit(text)
