"""The commands of ``provision``: each loads, asks, and renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.main import get_command

from provisioner.cli import simulate_options as simulation
from provisioner.cli.capacity_command import capacity
from provisioner.cli.compare_command import compare
from provisioner.cli.help import Command, CommandGroup, ShowByDefault, argument, option
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
    WriteLpOption,
    plan_fields,
)
from provisioner.cli.pareto_command import pareto
from provisioner.cli.progress import on_stderr, on_terminal
from provisioner.cli.reproduce_command import reproduce
from provisioner.cli.run import PROGRAM, emit
from provisioner.cli.screen import json_text, report_text
from provisioner.cli.sensitivity_command import sensitivity
from provisioner.cli.sweep_command import sweep

_APP = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["--help", "-h"]},
}

app = typer.Typer(cls=CommandGroup, **_APP)  # type: ignore[arg-type]
workloads_app = typer.Typer(cls=ShowByDefault, **_APP)  # type: ignore[arg-type]


def command() -> Any:
    """The whole command line, as the object that parses it."""
    return get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        emit(f"provisioner {version('provisioner')}")
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)]


@app.callback()
def provision(version: VersionOption = False) -> None:
    """Capacity planning for LLM inference.

    For a model, a workload, a load and latency limits: which machines to buy or rent, and how to split them
    between the prompt and the token phase.
    """


@app.command(cls=Command)
def plan(
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
    exhaustive: ExhaustiveOption = False,
    time_limit_s: TimeLimitOption = None,
    cut_margin: CutMarginOption = None,
    write_lp: WriteLpOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the best cluster for a workload within latency limits.

    Answers with the machines per pool, cost, power, predicted latencies beside their limits, and why each other
    design lost. Exit code 3 where nothing meets the limits.
    """
    # every other parameter is named as the field of PlanOptions that it gives
    given = {name: value for name, value in locals().items() if name not in ("out", "json", "debug")}
    fields = plan_fields(given)
    from provisioner.report.files import check_outputs, check_writable, write_outputs

    outputs = check_outputs(out or [])
    if write_lp is not None:
        check_writable(write_lp, "--write-lp")
    from provisioner import api

    with (on_terminal if fast else on_stderr)() as progress:
        found = api.plan(progress=lambda text: progress(f"planning: {text}"), **fields)
    text = json_text(found.to_dict()) if json else _plan_text(found, outputs)
    write_outputs(found, outputs)
    emit(text)


def _plan_text(found: Any, outputs: Any) -> str:
    from provisioner.report.plan_document import plan_document

    return report_text(plan_document(found), outputs)


@app.command(cls=Command)
def simulate(
    workload: WorkloadOption = None,
    rate_rps: simulation.RateOption = None,
    rates_rps: simulation.RatesOption = None,
    duration_s: simulation.DurationOption = None,
    sets: simulation.SeedsOption = None,
    trace: simulation.TraceOption = None,
    cv: CvOption = None,
    independent: IndependentOption = False,
    in_flight: simulation.InFlightOption = None,
    requests: simulation.RequestsOption = None,
    warm_up: simulation.WarmUpOption = None,
    cool_down: simulation.CoolDownOption = None,
    model: ModelOption = None,
    design: simulation.DesignOption = None,
    prompt_machines: simulation.PromptOption = None,
    token_machines: simulation.TokenOption = None,
    mixed_machines: simulation.MixedOption = None,
    pools: simulation.PoolOption = None,
    tensor_parallel: simulation.TpOption = None,
    prompt_tensor_parallel: simulation.PromptTpOption = None,
    token_tensor_parallel: simulation.TokenTpOption = None,
    failures: simulation.FailOption = None,
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
    policy: simulation.PolicyOption = None,
    max_pending_tokens: simulation.MaxPendingTokensOption = None,
    batch_tokens: simulation.BatchTokensOption = None,
    batch_requests: simulation.BatchRequestsOption = None,
    max_preemptions: simulation.MaxPreemptionsOption = None,
    transfer_retry_s: simulation.TransferRetryOption = None,
    share_links: simulation.LinksOption = None,
    percentiles: simulation.PercentileOption = None,
    assumptions: AssumptionsOption = None,
    scale: ScaleOption = None,
    seed: SeedOption = None,
    repeat: simulation.RepeatOption = None,
    records: simulation.RecordsOption = None,
    timeline: simulation.TimelineOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Simulate a cluster, iteration by iteration.

    Answers with the latencies beside their limits, whether the cluster keeps up, and what its machines did. A limit
    that is missed is a result: exit code 0.
    """
    # every other parameter is named as the field of SimulateOptions that it gives
    given = {name: value for name, value in locals().items() if name not in ("out", "json", "debug")}
    fields = simulation.simulate_fields(given)
    from provisioner.report.files import check_outputs, write_outputs

    outputs = check_outputs(out or [], also=(records, timeline))
    from provisioner import api

    with on_stderr() as progress:
        found = api.simulate(progress=progress, **fields)
    written = [name for name in (records, timeline, *map(str, outputs)) if name is not None]
    text = json_text(found.to_dict()) if json else _simulation_text(found, written)
    write_outputs(found, outputs)
    emit(text)


def _simulation_text(found: Any, written: list[str]) -> str:
    from provisioner.report.simulation_document import simulation_document

    return report_text(simulation_document(found), written)


for study in (compare, capacity, pareto, sweep, sensitivity, reproduce):
    app.command(cls=Command)(study)


@app.command(cls=Command)
def machines(
    name: Annotated[str | None, argument("[NAME]", "Machine type to show; all if left out.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the machine types, or show one with its prices and sources."""
    from provisioner.report import specs

    _show(specs.machines_document, specs.machines_data, json, name)


@app.command(cls=Command)
def models(
    name: Annotated[str | None, argument("[NAME]", "Model to show; all if left out.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the models, or show one with its memory, where it runs, and its sources."""
    from provisioner.report import specs

    _show(specs.models_document, specs.models_data, json, name)


@app.command(cls=Command)
def curves(
    name: Annotated[
        str | None, argument("[NAME]", "Model or machine type whose curves to show in full; all in brief if left out.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the latency curves, or show those of a model or machine with their evidence.

    The evidence: measured points, those refused and why, dips levelled, ranges, errors on points held out, and where
    the data came from.
    """
    from provisioner.report import curves as report

    _show(report.curves_document, report.curves_data, json, name)


app.add_typer(
    workloads_app,
    name="workloads",
    help="""List the workloads, show one, or import a trace.

    provision workloads NAME is provision workloads show NAME.""",
)


@workloads_app.command("show", cls=Command)
def show_workloads(
    name: Annotated[
        str | None, argument("[NAME|FILE]", "Workload, workload file or trace file to show; all shipped if left out.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the shipped workloads, or show one with its lengths, arrivals and sources."""
    from provisioner.report import specs

    _show(specs.workloads_document, specs.workloads_data, json, name)


@workloads_app.command("import", cls=Command)
def import_workload(
    file: Annotated[str, argument("FILE", "Trace file: CSV with a header, or JSON lines.")],
    name: Annotated[
        str | None, option("--name", metavar="NAME", help="Name of the workload.", default="the file's")
    ] = None,
    rate: Annotated[
        str | None,
        option("--rate", metavar="RATE", help="Rate to plan for in requests/s.", default="the trace's mean"),
    ] = None,
    out: Annotated[
        str | None,
        option(
            "--out",
            metavar="FOLDER|FILE.yaml",
            help="Write the workload as a pair of files NAME.yaml and NAME.csv that --workload takes.",
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read a trace: say which format it has, what is in it, and write it as a workload.

    Recognised by their columns: Azure LLM inference (CSV), Mooncake (JSON lines), SplitwiseSim, Vidur, and
    arrival_s,prompt_tokens,output_tokens.
    """
    from provisioner.cli.imports import import_trace
    from provisioner.report.imports import import_data, import_document

    found = import_trace(file, name, rate, out)
    _show(import_document, import_data, json, found.trace, found.workload, found.written)


def _show(document: Callable[..., Any], data: Callable[..., Any], json: bool, *subject: Any) -> None:
    emit(json_text(data(*subject)) if json else report_text(document(*subject)))


__all__ = ["PROGRAM", "app", "command"]
