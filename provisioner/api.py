"""Everything that the command line can do, as functions: options -> what they name -> answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from functools import partial, wraps
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, TypeVar, cast

from provisioner.deadline import limited
from provisioner.files import keeping_streams
from provisioner.options import Options, PlanOptions, SimulateOptions, declared, documentation, studies
from provisioner.options.imports import TraceOptions
from provisioner.specs import catalog

if TYPE_CHECKING:
    from provisioner.results.capacity import Capacity
    from provisioner.results.comparison import Comparison
    from provisioner.results.frontier import Frontier
    from provisioner.results.grid import Grid
    from provisioner.results.plan import Plan
    from provisioner.results.reproduction import Reproduction
    from provisioner.results.sensitivity import Sensitivity
    from provisioner.results.simulation import Simulation
    from provisioner.specs.workload import Workload

Progress = Callable[[str], None] | None  # a function that is told of the progress of long work

Answer = TypeVar("Answer")
Function = TypeVar("Function", bound=Callable[..., Any])


def _silent(_: str) -> None:
    pass


def _in_time(study: Callable[..., Answer], asked: PlanOptions, progress: Progress) -> Answer:
    with limited(asked.time_limit_s, progress) as tell:
        return study(asked, progress=tell)


def _asks(kind: type[Options]) -> Callable[[Function], Function]:
    """Give a function the signature and the documentation of the options that it takes by keyword.

    A file that is a pipe may be read more than once while it runs.
    """

    def decorate(asked: Function) -> Function:
        @wraps(asked)
        def function(*given: Any, **keywords: Any) -> Any:
            with keeping_streams():
                return asked(*given, **keywords)

        types = {each.name: each.type for each in fields(kind)}
        own, of_options = inspect.signature(asked), inspect.Parameter.KEYWORD_ONLY
        parameters = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        for name, each in declared(kind).items():
            annotation = types.get(name, "str | None")
            parameters.append(inspect.Parameter(name, of_options, default=each.default, annotation=annotation))
        function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        keywords = indent(documentation(kind), "    ")
        function.__doc__ = f"{inspect.cleandoc(asked.__doc__ or '')}\n\nKeywords:\n{keywords}\n"
        return cast("Function", function)

    return decorate


@_asks(PlanOptions)
def plan(options: PlanOptions | None = None, *, progress: Progress = None, **keywords: Any) -> Plan:
    """The best cluster for a workload at a rate within latency objectives.

    Takes the options by keyword, or a ``PlanOptions``. ``progress`` is told about long work. Raises ``InputError`` for
    what cannot be understood and ``InfeasibleError`` where no plan exists. The plan is proven by simulation
    (``fast=True``: by the queueing formulas alone) and recomputed from the specs; what does not agree is among its
    warnings.

    >>> p = plan(workload="coding", slo="p99", model="llama2-70b", rate_rps=70, design="splitwise-hh")
    Traceback (most recent call last):
    provisioner.errors.UnknownNameError: unknown option 'design': did you mean 'designs'?...
    >>> p = plan(workload="coding", slo="p99", model="llama2-70b", rate_rps=70, designs=["splitwise-hh"])
    >>> p.design, p.machines, p.evidence.optimal
    ('Splitwise-HH:2+4', 9, True)
    """
    from provisioner.loading.setting import load_promise, load_setting, promised_slo
    from provisioner.verify.answer import best_plan, promise_of
    from provisioner.verify.judge import Verdicts
    from provisioner.verify.smaller import with_smaller

    asked = PlanOptions.made(options, keywords)
    with limited(asked.time_limit_s, progress) as tell:
        setting, slo = load_setting(asked, tell), promised_slo(asked)
        verdicts = Verdicts()
        answer = with_smaller(best_plan(setting, tell, verdicts, beside=True), setting, verdicts)
        if asked.robust:
            as_they_are = partial(load_setting, replace(asked, robust=False, write_lp=None))
            answer = replace(answer, nominal=promise_of(answer.slo, as_they_are, tell))
        if slo is not None:
            answer = replace(answer, promise=promise_of(slo, partial(load_promise, asked, slo, answer.rate_rps), tell))
        return answer


@_asks(SimulateOptions)
def simulate(options: SimulateOptions | None = None, *, progress: Progress = None, **keywords: Any) -> Simulation:
    """Serve requests with a cluster: latencies with their intervals, use of the pools, stability.

    Takes the options as ``plan`` does. Raises ``InputError`` for what cannot be understood or simulated; a cluster that
    cannot keep up is a result. Files that were asked for are checked before the work starts and written after it.

    >>> s = simulate(design="splitwise-hh", prompt_machines=18, token_machines=2, rate_rps=70, duration_s=30)
    >>> s.design, s.requests, s.stable
    ('Splitwise-HH', 2114, True)
    """
    from provisioner.loading.scenario import load_scenario
    from provisioner.options.command import command_of, simulate_question
    from provisioner.report.records import check_files, write_files
    from provisioner.simulation.serve import simulated

    asked, tell = SimulateOptions.made(options, keywords), progress or _silent
    records, timeline = asked.records, asked.timeline
    check_files(records, timeline)
    scenario = load_scenario(asked)
    keep = {"keep_requests": records is not None, "keep_timeline": timeline is not None}
    result, served = simulated(scenario, repeat=asked.repeat, **keep, progress=tell)
    question = simulate_question(scenario.question)
    simulation = replace(
        result,
        question=question,
        command=command_of("simulate", question, SimulateOptions),
        repeated=asked.repeat is not None,
    )
    write_files([each.run for each in served if each.run is not None], records, timeline, tell)
    return simulation


@_asks(studies.SensitivityOptions)
def sensitivity(
    options: studies.SensitivityOptions | PlanOptions | None = None, *, progress: Progress = None, **keywords: Any
) -> Sensitivity:
    """Move the inputs of a plan: a tornado, switch points found by bisection, where splitting pays.

    The question is that of ``plan``. ``inputs`` are divided and multiplied by 1 + ``spread``; ``switches`` name inputs
    with two factors between which ``watch`` (``design``, ``split``, ``machines`` or ``splitting``) is searched for
    changes, to a relative ``tolerance``; ``rates_rps`` by ``ratios`` of prompt to output tokens make the map.

    >>> s = sensitivity(rate_rps=20, fast=True, designs=["splitwise-hh", "splitwise-ha"], tensor_parallel=8,
    ...                 switches={"price:dgx-a100": (0.1, 1.0)}, watch="design")
    >>> [(w.before.design, w.after.design) for w in s.searches[0].switches]
    [('Splitwise-HA', 'Splitwise-HH')]
    """
    from provisioner.studies import sensitivity as study

    return _in_time(study.sensitivity, studies.SensitivityOptions.made(options, keywords), progress)


@_asks(studies.CompareOptions)
def compare(
    options: studies.CompareOptions | PlanOptions | None = None, *, progress: Progress = None, **keywords: Any
) -> Comparison:
    """Designs side by side: the largest throughput of each within a budget, or the best of each at one throughput.

    The question is that of ``plan``. A design is shown at its best over all degrees of tensor parallelism unless it is
    named with them (``"splitwise-hh:2+4"``). ``budget`` is in W, $/h or machines, or machines of a type
    (``"40 dgx-h100"``). A comparison in which no design has a plan is a result too; ``unanswered`` says why.

    >>> two = ["splitwise-hh", "baseline-h100"]
    >>> c = compare(same="throughput", rate_rps=20, tensor_parallel=8, fast=True, designs=two)
    >>> [design.label for design in c.designs]
    ['Splitwise-HH', 'Baseline-H100']
    """
    from provisioner.studies import compare as study

    return _in_time(study.compare, studies.CompareOptions.made(options, keywords), progress)


@_asks(studies.CapacityOptions)
def capacity(
    options: studies.CapacityOptions | PlanOptions | None = None, *, progress: Progress = None, **keywords: Any
) -> Capacity:
    """The largest rate that a cluster in hand holds, what binds it, and the least to add for more.

    The question is that of ``plan`` with one design, whose numbers of machines are those in hand; ``to`` are rates in
    requests/s to add for.
    """
    from provisioner.studies import capacity as study

    return _in_time(study.capacity, studies.CapacityOptions.made(options, keywords), progress)


@_asks(studies.ParetoOptions)
def pareto(
    options: studies.ParetoOptions | PlanOptions | None = None, *, progress: Progress = None, **keywords: Any
) -> Frontier:
    """The plans that no other beats in cost, power and machines together; the question is that of ``plan``.

    >>> [point.machines for point in pareto(rate_rps=20, fast=True, designs=["splitwise-hh"], tensor_parallel=8).points]
    [7]
    """
    from provisioner.studies import pareto as study

    return _in_time(study.pareto, studies.ParetoOptions.made(options, keywords), progress)


@_asks(studies.ReproduceOptions)
def reproduce(
    options: studies.ReproduceOptions | str | None = None,
    *,
    out: Iterable[str] = (),
    table: str | None = None,
    progress: Progress = None,
    **keywords: Any,
) -> Reproduction:
    """A paper's published results beside ours, by the published simulator's rules and with measured curves.

    The first argument may name the paper. ``out`` are files to write, ``table`` the one of .csv and .parquet; a journal
    beside the first keeps what is finished, and ``resume`` goes on from it.

    >>> r = reproduce(only=["machines"])
    >>> next(f for f in r.findings if "batch of 64" in f.result).measured
    '2.00x'
    """
    from provisioner.studies.splitwise import reproduce as study

    if isinstance(options, str):
        options, keywords = None, {"paper": options, **keywords}
    asked = studies.ReproduceOptions.made(options, keywords)
    return study.reproduce(asked, out=tuple(out), table=table, progress=progress or _silent)


@_asks(studies.SweepOptions)
def sweep(
    options: studies.SweepOptions | SimulateOptions | None = None,
    *,
    out: Iterable[str] = (),
    table: str | None = None,
    progress: Progress = None,
    **keywords: Any,
) -> Grid:
    """Every size of a design's pools, each simulated whole: what passes, which limit binds where, the optimum.

    The scenario is that of ``simulate`` without its sizes, which are ranges: ``"1:40"``, ``"10:40:5"``, or numbers.
    ``out`` are files to write, ``table`` the one of .csv and .parquet; points are kept in a journal beside the first as
    they come, and ``resume`` goes on from it.

    >>> s = sweep(design="splitwise-hh", prompt="5:6", token=[1, 2], rate_rps=20, duration_s=15)
    >>> len(s.to_frame())
    4
    """
    from provisioner.studies import grid as study

    asked = studies.SweepOptions.made(options, keywords)
    return study.sweep(asked, out=tuple(out), table=table, progress=progress or _silent)


@_asks(studies.VaryOptions)
def vary(
    options: studies.VaryOptions | SimulateOptions | None = None,
    *,
    out: Iterable[str] = (),
    table: str | None = None,
    progress: Progress = None,
    **keywords: Any,
) -> Grid:
    """Clusters over an input: latency against the rate, or any other input, and how full their batches are.

    ``name`` is a number of a simulation under its flag's name (``rate``, ``batch-tokens``, ``duration``), or an input
    that ``scale`` multiplies; ``values`` is a range such as ``"30:250:10"``, or numbers; ``clusters`` are written
    ``splitwise-hh=35+5``.

    >>> v = vary(name="rate", values=[10, 20], clusters=["splitwise-hh=6+1"], duration_s=15)
    >>> len(v.to_frame())
    2
    """
    from provisioner.studies import grid as study

    asked = studies.VaryOptions.made(options, keywords)
    return study.vary(asked, out=tuple(out), table=table, progress=progress or _silent)


def load_workload(name_or_path: str | Path, **keywords: Any) -> Workload:
    """A shipped workload by name, or one from a workload file (.yaml) or a trace, read by the rules of ``keywords``."""
    return catalog.workload(name_or_path, TraceOptions.of(**keywords))
