"""Everything that the command line can do, as functions: options -> what they name -> answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from provisioner.errors import InputError
from provisioner.loading.common import options_of
from provisioner.loading.setting import load_setting
from provisioner.options import DURATION_S, PlanOptions, SimulateOptions
from provisioner.specs import catalog

if TYPE_CHECKING:
    from provisioner.planning.plan import Plan
    from provisioner.results.grid import Grid
    from provisioner.results.reproduction import Reproduction
    from provisioner.results.simulation import Simulation
    from provisioner.specs.workload import Workload
    from provisioner.studies.capacity import Capacity
    from provisioner.studies.compare import Comparison
    from provisioner.studies.pareto import Frontier
    from provisioner.studies.sensitivity import Sensitivity

__all__ = [
    "capacity",
    "compare",
    "load_setting",
    "load_workload",
    "pareto",
    "plan",
    "reproduce",
    "sensitivity",
    "simulate",
    "sweep",
    "vary",
]


def plan(options: PlanOptions | None = None, *, progress: Callable[[str], None] | None = None, **fields: Any) -> Plan:
    """The best cluster for a workload at a rate within latency objectives.

    Takes the fields of ``PlanOptions`` by keyword, or a ``PlanOptions``. ``progress`` is told about long work.
    Raises ``InputError`` for what cannot be understood and ``InfeasibleError`` where no plan exists. Every plan is
    recomputed from the specs before it is returned; what does not agree is among its warnings. The plan is proven by
    simulation; ``fast=True`` gives the answer of the queueing formulas.

    >>> p = plan(workload="coding", slo="p99", model="llama2-70b", rate_rps=70, design="splitwise-hh")
    Traceback (most recent call last):
    provisioner.errors.UnknownNameError: unknown option 'design': did you mean 'designs'?...
    >>> p = plan(workload="coding", slo="p99", model="llama2-70b", rate_rps=70, designs=["splitwise-hh"])
    >>> p.design, p.machines, p.evidence.optimal
    ('Splitwise-HH:2+4', 8, True)
    """
    from provisioner.planned import against, planned, with_promise

    asked, told = _plan_options(options, fields), progress or (lambda _: None)
    setting, slo = load_setting(asked), against(asked)
    found = planned(setting, told)
    return found if slo is None else with_promise(found, slo, asked, told)


def simulate(
    options: SimulateOptions | None = None, *, progress: Callable[[str], None] | None = None, **fields: Any
) -> Simulation:
    """What happens when a cluster serves requests: latencies with their intervals, use of the pools, stability.

    Takes the fields of ``SimulateOptions`` by keyword, or a ``SimulateOptions``. ``progress`` is told about long work.
    Raises ``InputError`` for what cannot be understood or simulated; a cluster that cannot keep up is a result.
    Files that were asked for are checked before the work starts and written after it.

    >>> s = simulate(design="splitwise-hh", prompt_machines=18, token_machines=2, rate_rps=70, duration_s=30)
    >>> s.design, s.requests, s.stable
    ('Splitwise-HH', 2114, True)
    """
    from provisioner.loading.scenario import load_scenario
    from provisioner.report.command_line import simulate_command, simulate_question
    from provisioner.report.records import check_files, write_files
    from provisioner.simulation.assemble import assemble
    from provisioner.simulation.serve import serve

    asked = _simulate_options(options, fields)
    check_files(asked.records, asked.timeline)
    scenario = load_scenario(asked)
    served = serve(
        scenario,
        repeat=asked.repeat,
        keep_requests=asked.records is not None,
        keep_timeline=asked.timeline is not None,
        progress=progress or (lambda _: None),
    )
    found = replace(
        assemble(scenario, [each.observation for each in served]),
        question=simulate_question(scenario.question),
        command=simulate_command(scenario.question),
        repeated=asked.repeat is not None,
    )
    runs = [each.run for each in served if each.run is not None]
    write_files(runs, asked.records, asked.timeline, progress or (lambda _: None))
    return found


def sensitivity(
    options: PlanOptions | None = None,
    *,
    inputs: Iterable[str] | None = None,
    spread: float = 0.2,
    switches: Mapping[str, tuple[float, float]] | None = None,
    watch: str = "design",
    tolerance: float = 0.01,
    probes: int = 5,
    rates_rps: Iterable[float] = (),
    ratios: Iterable[float] = (),
    dask: str | None = None,
    progress: Callable[[str], None] | None = None,
    **fields: Any,
) -> Sensitivity:
    """How the plan moves with its inputs: a tornado, switch points found by bisection, where splitting pays.

    The question is that of ``plan``. ``inputs`` are divided and multiplied by 1 + ``spread``; ``switches`` name inputs
    with two factors between which ``watch`` (``design``, ``split``, ``machines`` or ``splitting``) is searched for
    changes, to a relative ``tolerance``; ``rates_rps`` by ``ratios`` of prompt to output tokens make the map.
    ``studies.sensitivity.sensitivity`` says more.

    >>> s = sensitivity(rate_rps=20, fast=True, designs=["splitwise-hh", "splitwise-ha"], tensor_parallel=8,
    ...                 switches={"price:dgx-a100": (0.1, 1.0)}, watch="design")
    >>> [(w.before.design, w.after.design) for w in s.searches[0].switches]
    [('Splitwise-HA', 'Splitwise-HH')]
    """
    from provisioner.studies import sensitivity as study

    return study.sensitivity(
        _plan_options(options, fields),
        inputs=None if inputs is None else tuple(inputs),
        spread=spread,
        switches=switches,
        watch=watch,
        tolerance=tolerance,
        probes=probes,
        rates_rps=tuple(rates_rps),
        ratios=tuple(ratios),
        dask=dask,
        progress=progress or (lambda _: None),
    )


def compare(
    options: PlanOptions | None = None,
    *,
    same: Literal["power", "cost", "machines", "throughput"] = "power",
    budget: str | float | None = None,
    baseline: str | None = None,
    chunked: bool = False,
    dask: str | None = None,
    progress: Callable[[str], None] | None = None,
    **fields: Any,
) -> Comparison:
    """Designs side by side: the largest throughput of each within a budget, or the best of each at one throughput.

    The question is that of ``plan``, but ``tensor_parallel`` is ``"largest"`` unless given or named in ``designs``: a
    row for every combination of degrees hides the designs. ``budget`` is in W, $/h or machines, or machines of a type
    (``"40 dgx-h100"``). ``studies.compare.compare`` says more.

    >>> two = ["splitwise-hh", "baseline-h100"]
    >>> c = compare(same="throughput", rate_rps=20, tensor_parallel=8, fast=True, designs=two)
    >>> [row.label for row in c.rows]
    ['Splitwise-HH', 'Baseline-H100']
    """
    from provisioner.studies import compare as study

    names = fields.get("designs", ())
    if options is None and not any(":" in str(name) for name in ([names] if isinstance(names, str) else names)):
        fields = {"tensor_parallel": "largest", **fields}
    return study.compare(
        _plan_options(options, fields),
        same=same,
        budget=budget,
        baseline=baseline,
        chunked=chunked,
        dask=dask,
        progress=progress or (lambda _: None),
    )


def capacity(
    options: PlanOptions | None = None,
    *,
    prompt: int | None = None,
    token: int | None = None,
    mixed: int | None = None,
    to: Iterable[float] = (),
    additions: bool = True,
    progress: Callable[[str], None] | None = None,
    **fields: Any,
) -> Capacity:
    """The largest rate that a cluster in hand holds, what binds it, and the least to add for more.

    The question is that of ``plan`` with one design, of which the cluster has so many machines; ``to`` are rates in
    requests/s to add for. ``studies.capacity.capacity`` says more.
    """
    from provisioner.studies import capacity as study

    return study.capacity(
        _plan_options(options, fields),
        prompt=prompt,
        token=token,
        mixed=mixed,
        to=tuple(to),
        additions=additions,
        progress=progress or (lambda _: None),
    )


def pareto(
    options: PlanOptions | None = None, *, progress: Callable[[str], None] | None = None, **fields: Any
) -> Frontier:
    """The plans that no other beats in cost, power and machines together; the question is that of ``plan``.

    >>> [point.machines for point in pareto(rate_rps=20, fast=True, designs=["splitwise-hh"], tensor_parallel=8).points]
    [7]
    """
    from provisioner.studies import pareto as study

    return study.pareto(_plan_options(options, fields), progress=progress or (lambda _: None))


def reproduce(
    paper: str = "splitwise",
    *,
    only: Iterable[str] = (),
    sets: int = 5,
    duration_s: float = DURATION_S,
    seed: int = 0,
    out: Iterable[str] = (),
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Reproduction:
    """A paper's published results beside ours, by the published simulator's rules and with measured curves.

    ``only`` names experiments; ``studies.splitwise.reproduce`` says more.

    >>> r = reproduce(only=["machines"])
    >>> next(f for f in r.findings if "batch of 64" in f.result).measured
    '2.00x'
    """
    from provisioner.studies.splitwise import reproduce as study

    return study.reproduce(
        paper,
        only=tuple(only),
        sets=sets,
        duration_s=duration_s,
        seed=seed,
        out=tuple(out),
        resume=resume,
        progress=progress or (lambda _: None),
    )


def sweep(
    options: SimulateOptions | None = None,
    *,
    prompt: str | int | Iterable[int] | None = None,
    token: str | int | Iterable[int] | None = None,
    mixed: str | int | Iterable[int] | None = None,
    prices: str = "2026",
    objective: str = "cost",
    threads: int | None = None,
    dask: str | None = None,
    out: Iterable[str] = (),
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
    **fields: Any,
) -> Grid:
    """Every size of a design's pools, each simulated whole: what passes, which limit binds where, the optimum.

    The scenario is that of ``simulate`` without its sizes, which are ranges: ``"1:40"``, ``"10:40:5"``, or numbers.
    ``out`` are files to write; points are kept in a journal beside the first as they come, and ``resume`` goes on from
    it. ``studies.grid.sweep`` says more.

    >>> s = sweep(design="splitwise-hh", prompt="5:6", token=[1, 2], rate_rps=20, duration_s=15)
    >>> len(s.to_frame())
    4
    """
    from provisioner.studies import grid as study

    return study.sweep(
        _simulate_options(options, fields),
        prompt=prompt,
        token=token,
        mixed=mixed,
        prices=prices,
        objective=objective,
        threads=threads,
        dask=dask,
        out=tuple(out),
        resume=resume,
        progress=progress or (lambda _: None),
    )


def vary(
    options: SimulateOptions | None = None,
    *,
    name: str,
    values: str | float | Iterable[float],
    clusters: Iterable[str] = (),
    prices: str = "2026",
    threads: int | None = None,
    dask: str | None = None,
    out: Iterable[str] = (),
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
    **fields: Any,
) -> Grid:
    """Clusters over an input: latency against the rate, or any other input, and how full their batches are.

    ``name`` is a number of a simulation under its flag's name (``rate``, ``batch-tokens``, ``duration``;
    ``studies.inputs.INPUTS``) or a factor of ``options.FACTORS`` and ``MACHINE_FACTORS``; ``values`` is a range such as
    ``"30:250:10"``, or numbers; ``clusters`` are written ``splitwise-hh=35+5``. ``studies.grid.vary`` says more.

    >>> v = vary(name="rate", values=[10, 20], clusters=["splitwise-hh=6+1"], duration_s=15)
    >>> len(v.to_frame())
    2
    """
    from provisioner.studies import grid as study

    return study.vary(
        _simulate_options(options, fields),
        name=name,
        values=values,
        clusters=tuple(clusters),
        prices=prices,
        threads=threads,
        dask=dask,
        out=tuple(out),
        resume=resume,
        progress=progress or (lambda _: None),
    )


_SEVERAL = {"pools": str, "failures": str, "percentiles": float, "rates_rps": float}


def _simulate_options(options: SimulateOptions | None, fields: Mapping[str, Any]) -> SimulateOptions:
    if options is not None and fields:
        raise InputError("give options or keywords, not both")
    return options or options_of(SimulateOptions, fields, _SEVERAL)


def _plan_options(options: PlanOptions | None, fields: Mapping[str, Any]) -> PlanOptions:
    if options is not None and fields:
        raise InputError("give options or keywords, not both")
    return options or options_of(PlanOptions, fields, {"designs": str, "machines": str})


def load_workload(name_or_path: str | Path) -> Workload:
    """A shipped workload by name, or one from a workload file (.yaml) or a trace file."""
    return catalog.workload(name_or_path)
