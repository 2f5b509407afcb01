"""The commands of ``provision``: each loads, asks, and renders."""

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Final

import typer
from typer.main import get_command

from provisioner.cli.catalog_commands import curves_app, engines, group, machines, models_app, workloads_app
from provisioner.cli.given import Function, Given, JsonOption, parted, takes
from provisioner.cli.help import Command, CommandGroup, TyperObject, argument
from provisioner.cli.output import emit, result_text
from provisioner.cli.profile_command import profile
from provisioner.cli.progress import on_stderr
from provisioner.errors import InfeasibleError, InputError
from provisioner.options import Options, OutputOptions, PlanOptions, SimulateOptions, flag_of, studies

app = group(
    """Capacity planning for LLM inference.

    For a model, a workload, a load and latency limits: which machines to buy or rent, and how to split them
    between the prompt and the token phase.
    """,
    CommandGroup,
)


def command() -> TyperObject:
    """The whole command line, as the object that parses it."""
    return get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        from provisioner.version import version_of

        emit(f"provisioner {version_of()}")
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)]


@app.callback()
def provision(version: VersionOption = False) -> None:
    """Take the options of the program itself."""


@dataclass(frozen=True, slots=True)
class Question:
    """A command that asks one function of ``api`` and writes its result.

    ``result`` is the class of the result with its module, loaded when it is needed. ``told_as`` begins every text of
    the progress; ``written`` are the options that name files which the function itself writes.
    """

    name: str
    options: type[Options]
    result: str
    help: str
    told_as: str = ""
    written: tuple[str, ...] = ()


QUESTIONS: Final = (
    Question(
        "plan",
        PlanOptions,
        "plan.Plan",
        """Find the best cluster for a workload within latency limits.

        Answers with the machines per pool, cost, power, predicted latencies beside their limits, and why each other
        design lost. Exit code 3 where nothing meets the limits.
        """,
        told_as="planning: ",
    ),
    Question(
        "simulate",
        SimulateOptions,
        "simulation.Simulation",
        """Simulate a cluster, iteration by iteration.

        Answers with the latencies beside their limits, whether the cluster keeps up, and what its machines did. A limit
        that is missed is a result: exit code 0.
        """,
        written=("records", "timeline"),
    ),
    Question(
        "compare",
        studies.CompareOptions,
        "comparison.Comparison",
        """Compare designs within one budget, or at one throughput.

        Answers with the largest throughput of each design within the budget (or its least cost, power or machines at
        the throughput), with its best split at its best tensor parallelism, what splitting brings, and everything
        relative to a baseline. A design without a plan is a row with the reason. Exit code 3 where none has one.
        """,
    ),
    Question(
        "capacity",
        studies.CapacityOptions,
        "capacity.Capacity",
        """Find the largest rate that a cluster in hand holds.

        Answers with that rate and the first at which the cluster fails, what breaks there and by how much, the
        latencies beside their limits, and the least machines to add for higher rates. Limits on cost, power and
        machines, and stock, are of the whole cluster. Exit code 3 where it holds no rate at all.
        """,
        told_as="capacity: ",
    ),
    Question(
        "pareto",
        studies.ParetoOptions,
        "frontier.Frontier",
        """Find the clusters that none beats in cost, power and machines at once.

        Answers with every such cluster at the rate, over all designs and sizes, each a plan proven by simulation. Exit
        code 3 where nothing meets the limits.
        """,
    ),
    Question(
        "sensitivity",
        studies.SensitivityOptions,
        "sensitivity.Sensitivity",
        """See how the plan moves with its inputs.

        A tornado of every input; with --switch, the points where the answer switches, found by bisection; with --rates
        and --ratios, the map of where splitting the phases pays. Every value is a plan of its own.
        """,
    ),
)


def _command_of(question: Question) -> Function:
    def ask(given: Given, json: JsonOption = False) -> None:
        files = OutputOptions.of(**parted(given, OutputOptions))
        options = question.options.of(**given)
        from provisioner import api
        from provisioner.files import check_writable
        from provisioner.report.files import check_outputs, write_outputs

        also = [name for each in question.written if (name := getattr(options, each)) is not None]
        module, _, name = question.result.partition(".")
        kind = getattr(import_module(f"provisioner.results.{module}"), name)
        outputs = check_outputs(files.out, kind, files.table, also)
        if "write_lp" in given:
            check_writable(str(given["write_lp"]), flag_of("write_lp"))
        with on_stderr(question.told_as) as progress:
            result = getattr(api, question.name)(options, progress=progress)
        text = result_text(result, json, [*also, *outputs])
        write_outputs(result, outputs, files.table)
        emit(text)
        if result.unanswered:
            raise InfeasibleError(result.unanswered)

    ask.__name__, ask.__doc__ = question.name, question.help
    return takes(question.options, OutputOptions)(ask)


@takes(studies.SweepOptions, studies.VaryOptions, OutputOptions)
def sweep(given: Given, json: JsonOption = False) -> None:
    """Simulate every size of a design's pools, or clusters over an input.

    Answers with the optimum, the frontier of clusters that pass, and the limit that binds in each region; the files of
    --out have every percentile of every cluster. With --vary: latency against the rate or any other input. Clusters
    that fail are part of the result: exit code 0.
    """
    if "name" in given:
        return _ask("vary", studies.VaryOptions, _at_fixed_sizes(given), json)
    if "clusters" in given:
        raise InputError("--cluster: is for --vary; give --design with ranges of its machines")
    return _ask("sweep", studies.SweepOptions, given, json)


def _ask(function: str, kind: type[Options], given: Given, json: bool) -> None:
    """Ask a function of ``api`` that writes the files itself."""
    files = OutputOptions.of(**parted(given, OutputOptions))
    options = kind.of(**given)
    from provisioner import api

    with on_stderr() as progress:
        result = getattr(api, function)(options, out=files.out, table=files.table, progress=progress)
    emit(result_text(result, json, files.out))


def _at_fixed_sizes(given: Given) -> Given:
    """The keywords of a sweep over an input, with one number where a sweep over sizes has a range."""
    if "objective" in given:
        raise InputError("--objective: is of a sweep of sizes; leave it out with --vary")
    name, _, values = (part.strip() for part in str(given["name"]).partition("="))
    if not (name and values):
        raise InputError(f"--vary: must be INPUT=FROM:TO:STEP, such as rate=30:250:10, got {given['name']!r}")
    sizes = {role: str(given[role]) for role in ("prompt", "token", "mixed") if role in given}
    for role, text in sizes.items():
        if "clusters" in given:
            raise InputError(f"--cluster: has the number of machines; leave out --{role}")
        if not text.strip().isdigit():
            raise InputError(f"--{role}: must be one number with --vary, which is at fixed sizes, got {text!r}")
    others = {key: value for key, value in given.items() if key not in sizes}
    return {**others, "name": name, "values": values, **{f"{role}_machines": text for role, text in sizes.items()}}


@takes(studies.ReproduceOptions, OutputOptions)
def reproduce(
    paper: Annotated[str, argument("PAPER", "Paper whose results are computed: splitwise.")] = "splitwise",
    *,
    given: Given,
    json: JsonOption = False,
) -> None:
    """Compute a paper's published results again.

    Each published result stands beside two computed ones: by the published simulator's rules, and with measured latency
    curves and today's colocated baseline. All experiments take about twenty minutes; each finished one is kept.
    """
    _ask("reproduce", studies.ReproduceOptions, {"paper": paper, **given}, json)


*_plans, _sensitivity = (_command_of(question) for question in QUESTIONS)
for _function in (*_plans, sweep, _sensitivity, reproduce, profile, machines, engines):
    app.command(_function.__name__, cls=Command)(_function)
for _name, _group in (("models", models_app), ("curves", curves_app), ("workloads", workloads_app)):
    app.add_typer(_group, name=_name)
