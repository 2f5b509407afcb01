"""The commands of ``provision``: each loads, asks, and renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.main import get_command

from provisioner.cli import simulate_options as simulation
from provisioner.cli.capacity_command import capacity
from provisioner.cli.compare_command import compare
from provisioner.cli.given import Given, takes
from provisioner.cli.help import Command, CommandGroup, ShowByDefault, argument, option
from provisioner.cli.options import LIMITS, PLAN, WRITE_LP, JsonOption, OutOption
from provisioner.cli.pareto_command import pareto
from provisioner.cli.progress import on_stderr
from provisioner.cli.reproduce_command import reproduce
from provisioner.cli.run import PROGRAM, emit
from provisioner.cli.screen import hand_over, json_text, report_text
from provisioner.cli.sensitivity_command import sensitivity
from provisioner.cli.sweep_command import sweep
from provisioner.progress import worded

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
@takes(*PLAN, WRITE_LP)
def plan(given: Given, out: OutOption = None, json: JsonOption = False) -> None:
    """Find the best cluster for a workload within latency limits.

    Answers with the machines per pool, cost, power, predicted latencies beside their limits, and why each other
    design lost. Exit code 3 where nothing meets the limits.
    """
    from provisioner import api
    from provisioner.planning.plan import Plan
    from provisioner.report.files import check_outputs, check_writable
    from provisioner.report.plan_document import plan_document

    outputs = check_outputs(out or (), kind=Plan)
    if "write_lp" in given:
        check_writable(given["write_lp"], "--write-lp")
    with on_stderr() as progress:
        found = api.plan(progress=lambda text: progress(worded(text, "planning: ")), **given)
    hand_over(found, plan_document, outputs, json)


@app.command(cls=Command)
@takes(simulation.WORKLOAD, simulation.CLUSTER, LIMITS, simulation.POLICY, simulation.METHOD, simulation.FILES)
def simulate(given: Given, out: OutOption = None, json: JsonOption = False) -> None:
    """Simulate a cluster, iteration by iteration.

    Answers with the latencies beside their limits, whether the cluster keeps up, and what its machines did. A limit
    that is missed is a result: exit code 0.
    """
    from provisioner import api
    from provisioner.report.files import check_outputs
    from provisioner.report.simulation_document import simulation_document
    from provisioner.simulation.result import Simulation

    also = [given.get("records"), given.get("timeline")]
    outputs = check_outputs(out or (), also=also, kind=Simulation)
    with on_stderr() as progress:
        found = api.simulate(progress=progress, **given)
    hand_over(found, simulation_document, outputs, json, also)


for study in (compare, capacity, pareto, sweep, sensitivity, reproduce):
    app.command(cls=Command)(study)


@app.command(cls=Command)
@takes()
def machines(
    name: Annotated[str | None, argument("[NAME]", "Machine type to show; all if left out.")] = None,
    json: JsonOption = False,
) -> None:
    """List the machine types, or show one with its prices and sources."""
    from provisioner.report import specs

    _show(specs.machines_document, specs.machines_data, json, name)


@app.command(cls=Command)
@takes()
def models(
    name: Annotated[str | None, argument("[NAME]", "Model to show; all if left out.")] = None,
    json: JsonOption = False,
) -> None:
    """List the models, or show one with its memory, where it runs, and its sources."""
    from provisioner.report import specs

    _show(specs.models_document, specs.models_data, json, name)


@app.command(cls=Command)
@takes()
def curves(
    name: Annotated[
        str | None, argument("[NAME]", "Model or machine type whose curves to show in full; all in brief if left out.")
    ] = None,
    json: JsonOption = False,
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
@takes()
def show_workloads(
    name: Annotated[
        str | None, argument("[NAME|FILE]", "Workload, workload file or trace file to show; all shipped if left out.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the shipped workloads, or show one with its lengths, arrivals and sources."""
    from provisioner.report import specs

    _show(specs.workloads_document, specs.workloads_data, json, name)


@workloads_app.command("import", cls=Command)
@takes()
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
