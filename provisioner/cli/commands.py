"""The commands of ``provision``: each loads, asks, and renders."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.main import get_command

from provisioner.cli import simulate_options as simulation
from provisioner.cli.capacity_command import capacity
from provisioner.cli.catalog_commands import SETTINGS, curves_app, machines, models_app, workloads_app
from provisioner.cli.compare_command import compare
from provisioner.cli.given import Given, takes
from provisioner.cli.help import Command, CommandGroup
from provisioner.cli.options import AGAINST, LIMITS, PLAN, WRITE_LP, JsonOption, OutOption
from provisioner.cli.pareto_command import pareto
from provisioner.cli.profile_command import profile
from provisioner.cli.progress import on_stderr
from provisioner.cli.reproduce_command import reproduce
from provisioner.cli.run import PROGRAM, emit
from provisioner.cli.screen import hand_over
from provisioner.cli.sensitivity_command import sensitivity
from provisioner.cli.sweep_command import sweep
from provisioner.progress import worded

app = typer.Typer(cls=CommandGroup, **SETTINGS)


def command() -> Any:
    """The whole command line, as the object that parses it."""
    return get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        import provisioner

        emit(f"provisioner {provisioner.__version__}")
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)]


@app.callback()
def provision(version: VersionOption = False) -> None:
    """Capacity planning for LLM inference.

    For a model, a workload, a load and latency limits: which machines to buy or rent, and how to split them
    between the prompt and the token phase.
    """


@app.command(cls=Command)
@takes(*PLAN, AGAINST, WRITE_LP)
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


app.command(cls=Command)(profile)
app.command(cls=Command)(machines)
app.add_typer(models_app, name="models")
app.add_typer(curves_app, name="curves")
app.add_typer(workloads_app, name="workloads")

__all__ = ["PROGRAM", "app", "command"]
