"""From the options of a plan to its setting: the values that they name, loaded and checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.loading.common import (
    burstier,
    check_predicted,
    latency_limits,
    load_machines,
    load_model,
    load_reference,
    remarks,
)
from provisioner.loading.factors import Factors, load_factors
from provisioner.options import PlanOptions, spelled
from provisioner.options.defaults import EVIDENCE
from provisioner.specs import catalog
from provisioner.specs.batch_job import BatchJob, batch_job
from provisioner.specs.power_caps import parse_caps
from provisioner.specs.slo import SLO, LatencyLimit, load_slo
from provisioner.version import versions

if TYPE_CHECKING:
    from provisioner.perf.assumptions import Reference, ReplicaPerf
    from provisioner.planning.setting import Load, Setting
    from provisioner.queueing.traffic import Traffic
    from provisioner.specs.hardware import Machine
    from provisioner.specs.model import ModelArchitecture
    from provisioner.specs.prices import PriceList
    from provisioner.specs.traces import Trace
    from provisioner.specs.workload import Workload

# Arrivals within a minute that are burstier than this are beyond what the formulas were found to describe well.
_CLUSTERED_CV = 2.0
# Options on which no verdict depends, or which are in the limits and in how clusters are judged.
_NO_VERDICT = frozenset(
    (
        *("slo", "limits", "deadline_s", "sets", "duration_s", "seed", "confidence", "cut_margin", "policy"),
        *("designs", "machines", "objective", "max_cost_usd_per_h", "max_power_w", "max_machines", "stock", "prices"),
        *("solver", "write_lp", "fast", "exhaustive", "time_limit_s", "against"),
    )
)
_SHOWN_VERSIONS = ("provisioner", "numpy", "scipy", "numba", "pulp", "highspy")


def load_setting(options: PlanOptions) -> Setting:
    """Check the options and load what they name."""
    from provisioner.planning.designs import ReplicaKey, choose, designs
    from provisioner.planning.formulation import Caps
    from provisioner.planning.setting import Judging, Searching, Setting
    from provisioner.planning.solver import solver

    options.check_needs()
    solver(options.solver)
    known = catalog.with_own(options.specs)
    model = load_model(options, known)
    factors = load_factors(options.scale, known)
    slo = factors.slo(load_slo(options.slo).with_limits((*latency_limits(options.limits), *_deadline(options))))
    if options.fast:
        check_predicted(slo)
    _check_backlog(options, slo)
    workload, source, traffic, load, notes = _traffic(options, factors)
    price_list = known.price_list(options.prices)
    found, left_out = _replicas(options, model, known, price_list)
    machines = {perf.machine.name: perf.machine for perf in found}
    degrees = {name: tuple(perf.tensor_parallel for perf in found if perf.machine.name == name) for name in machines}
    replicas = {ReplicaKey(perf.machine.name, perf.tensor_parallel): factors.replica(perf) for perf in found}
    prices = {name: known.price(price_list, name) for name in machines}
    every = designs(machines.values(), degrees)
    chosen = choose(every, options.designs) if options.designs else every
    for name in options.stock:
        if known.machine(name).name not in machines:
            raise InputError(f"{spelled('stock')} {name}: is not among the machines considered ({', '.join(machines)})")
    against, reference_notes = load_reference(options, model, known, slo, found)
    job = _job(options, load, traffic, against)
    if job is not None:
        load = load.planned_at(job.rate_rps)
        traffic = traffic.scaled(job.rate_rps / traffic.peak_rps)
    used = {slot.replica: replicas[slot.replica] for design in chosen for slot in design.slots}
    curves = {source: None for perf in used.values() for source in perf.curve.sources}
    price_sources = {f"{name}: {prices[name].source}": None for name in (p.machine.name for p in used.values())}
    return Setting(
        model=options.model,
        workload=workload.name,
        source=source,
        load=load,
        traffic=traffic,
        slo=slo,
        job=job,
        reference=against,
        replicas=replicas,
        designs=chosen,
        named=bool(options.designs),
        prices=factors.prices(prices),
        caps=Caps(options.max_cost_usd_per_h, options.max_power_w, options.max_machines, options.stock),
        objective=options.objective,
        judging=Judging(**{each.name: getattr(options, each.name) for each in fields(Judging)}),
        searching=Searching(**{each.name: getattr(options, each.name) for each in fields(Searching)}),
        sources=(
            *curves,
            *workload.sources,
            f"prices: {price_list.title} ({price_list.date})",
            *price_sources,
        ),
        warnings=(*factors.notes(), *notes, *left_out, *reference_notes, *remarks(model, workload, used.values())),
        versions=versions(_SHOWN_VERSIONS),
        question=asdict(options),
        verdicts_rest_on=_verdicts_rest_on(options),
    )


def promised_slo(options: PlanOptions) -> str | None:
    """The SLO whose plan is set beside that of a question: the one asked for, or ``splitwise`` for batch work.

    Batch work has no limit but a deadline; ``batch`` with own limits is a way to give these alone.
    """
    slo = options.against or ("splitwise" if options.slo == "batch" and not options.limits else "none")
    if slo == "none":
        return None
    load_slo(slo)
    return slo


def load_promise(options: PlanOptions, slo: str, rate_rps: float) -> Setting:
    """The question of the same load, ``rate_rps``, within another SLO.

    The load is the same, arriving at random, for a deadline and a batch job too; caps are dropped but where throughput
    is asked for, which is then the largest within them.
    """
    asked = replace(options, slo=slo, limits={}, backlog_requests=None, within_s=None, deadline_s=None, write_lp=None)
    if options.backlog_requests is not None:  # which has its rate from its window, whatever the factor on rates
        scale = {name: factor for name, factor in options.scale.items() if name != "rate"}
        asked = replace(asked, rate_rps=rate_rps, scale=scale)
    if options.objective != "throughput":
        asked = replace(asked, max_cost_usd_per_h=None, max_power_w=None, max_machines=None)
    return load_setting(asked)


def _verdicts_rest_on(options: PlanOptions) -> str:
    """The inputs that change a verdict on a cluster beside limits, rate and judging, as one text."""
    scale = {name: factor for name, factor in options.scale.items() if name.split(":")[0] not in ("price", "power")}
    asked = {**asdict(options), "scale": scale}
    return repr({name: value for name, value in asked.items() if name not in _NO_VERDICT})


def _replicas(
    options: PlanOptions, model: ModelArchitecture, known: catalog.Catalog, prices: PriceList
) -> tuple[list[ReplicaPerf], tuple[str, ...]]:
    """Replicas of the machines asked for, or of all that have curves of the model, at each degree that holds it."""
    from provisioner.perf.assumptions import replica
    from provisioner.perf.curves import no_curves

    machine = load_machines(options, known)
    names = _names(options, known)
    degrees = _degrees(options, model, known, names)
    given = options.tensor_parallel
    wanted = [] if isinstance(given, str) else list(given)
    found: list[ReplicaPerf] = []
    left_out = []
    for name in names or _with_caps(options, known, _by_default(model, known, degrees)):
        if not names and not _has_price(known, prices, name):
            left_out.append(f"{name} is left out: the price list {prices.name} has no price of it")
            continue
        of_machine = degrees.get(name) or degrees.get(known.machine(name).capped_from, [])
        at = sorted(set(wanted) & set(of_machine) if wanted else of_machine, reverse=True)
        if not at and names:
            raise InputError(_no_curves(model, known.machine(name), _at(wanted), known))
        fits: list[ReplicaPerf] = []
        refused: list[ModelDoesNotFitError] = []
        for degree in at:
            if fits and given == "largest":
                break
            try:
                fits.append(replica(model, machine(name), degree, options.assumptions, known))  # type: ignore[arg-type]
            except ModelDoesNotFitError as error:
                refused.append(error)
        if not fits and refused and names:
            raise refused[0]
        if not fits and refused:
            left_out.append(f"{name} is left out: {refused[0]}")
        found += fits
    if not found:
        why = "; ".join(left_out) or no_curves(model.name, f"any machine{_at(wanted)}", known)
        raise InputError(f"no machine can serve {model.name}: {why}")
    return found, tuple(left_out)


def _names(options: PlanOptions, known: catalog.Catalog) -> list[str]:
    """The machines asked for by name, each at every power cap asked for."""
    return _with_caps(options, known, dict.fromkeys(known.machine(name).name for name in options.machines))


def _with_caps(options: PlanOptions, known: catalog.Catalog, names: Iterable[str]) -> list[str]:
    """Machines at every power cap asked for; machine types with a cap of their own only if none is asked for."""
    if not options.power_caps:
        return list(names)
    caps = parse_caps(options.power_caps, spelled("power_caps"))
    if options.assumptions != "measured":
        raise _of_measured("power_caps", options)
    found: dict[str, None] = {}
    for machine in map(known.machine, names):
        if machine.power_cap == 1.0:
            found |= {known.at_cap(machine, cap).name: None for cap in caps}
        elif options.machines:
            found[machine.name] = None
    return list(found)


def _of_measured(name: str, options: PlanOptions) -> InputError:
    return InputError(f"{spelled(name)}: is of the measured assumptions; {options.assumptions} has its own curves")


def _by_default(model: ModelArchitecture, known: catalog.Catalog, degrees: Mapping[str, Sequence[int]]) -> list[str]:
    """Machines with accepted curves; machine types with a power cap of their own only with measured curves."""
    from provisioner.perf.curves import curve_groups

    measured = {machine for name, machine, _ in curve_groups(known) if name == model.name}
    return [
        name
        for name, machine in known.machines.items()
        if degrees.get(name) and (machine.power_cap == 1.0 or name in measured)
    ]


def _has_price(known: catalog.Catalog, prices: PriceList, name: str) -> bool:
    return bool({name, known.machine(name).capped_from} & set(prices.machines))


def _degrees(
    options: PlanOptions, model: ModelArchitecture, known: catalog.Catalog, names: Sequence[str]
) -> dict[str, list[int]]:
    """Tensor parallelism at which each machine has curves of the kinds that are accepted.

    Without ``evidence``: for named machines the best kind that each has, else the best that any has.
    """
    from provisioner.perf.curves import curve_groups
    from provisioner.perf.evidence import degrees_of

    accepted = options.evidence
    if options.assumptions != "measured":
        if accepted is not None:
            raise _of_measured("evidence", options)
        published: dict[str, list[int]] = {}
        for name, machine, degree in curve_groups():
            if name == model.name:
                published.setdefault(machine, []).append(degree)
        return published
    kinds = {name: degrees_of(model, known.machine(name), known) for name in names or known.machines}
    ranks = [EVIDENCE.index(kind) for each in kinds.values() for kind in each.values()]
    if not ranks:
        return {}
    found: dict[str, list[int]] = {}
    for name, each in kinds.items():
        if accepted is not None:
            worst = EVIDENCE.index(accepted)
        elif names:
            worst = min((EVIDENCE.index(kind) for kind in each.values()), default=0)
        else:
            worst = min(ranks)
        found[name] = [degree for degree, kind in each.items() if EVIDENCE.index(kind) <= worst]
    return found


def _no_curves(model: ModelArchitecture, machine: Machine, at: str, known: catalog.Catalog) -> str:
    from provisioner.perf.curves import no_curves
    from provisioner.perf.evidence import degrees_of, why_not_derived

    why = why_not_derived(model, machine)
    there = degrees_of(model, machine, known)
    if why and not there:
        return f"no latency curves for {model.name} in {model.dtype} on {machine.name}: {why}"
    if there:
        has = ", ".join(f"TP {degree} {kind}" for degree, kind in there.items())
        return f"no latency curves for {model.name} on {machine.name}{at} of the kind accepted: there are {has}"
    return no_curves(model.name, f"{machine.name}{at}", known)


def _at(degrees: Sequence[int]) -> str:
    """Degrees of tensor parallelism as text, to stand after a machine."""
    return f" at TP {', '.join(map(str, degrees))}" if degrees else ""


def _traffic(
    options: PlanOptions, factors: Factors
) -> tuple[Workload, Workload | Trace, Traffic, Load, tuple[str, ...]]:
    """The workload, the source of request sets, the traffic with headroom, the load, and warnings."""
    from provisioner.planning.setting import Load
    from provisioner.queueing.traffic import Classes, Traffic

    notes: tuple[str, ...] = ()
    source: Workload | Trace
    if options.trace is not None:
        factors.refuse(("cv",), f"a {spelled('trace')} is taken at its own times")
        workload, source, windows, cv, notes = _trace(options.trace, factors)
    else:
        workload = catalog.workload(options.workload)
        rate = workload.rate_rps if options.rate_rps is None else options.rate_rps
        windows = ((factors.of("rate") * rate, 1.0),)
        cv = factors.of("cv") * (workload.cv if options.cv is None else options.cv)
        workload = factors.workload(workload)
        if options.backlog_requests is None:
            notes = burstier(workload, cv)
        else:
            cv = 0.0  # fed evenly
        if options.independent:
            workload = workload.independent()
        source = workload
    classes = Classes(workload.prompt_tokens, workload.output_tokens, workload.weight)
    traffic = Traffic(classes, windows, cv)
    load = Load(traffic.peak_rps, options.headroom)
    return workload, source, traffic.scaled(load.factor), load, notes


def _deadline(options: PlanOptions) -> tuple[LatencyLimit, ...]:
    """A deadline as a limit: 99 % of the requests end within it."""
    if options.deadline_s is None:
        return ()
    return (LatencyLimit("e2e", 99.0, options.deadline_s, "seconds"),)


def _check_backlog(options: PlanOptions, slo: SLO) -> None:
    """Refuse a backlog with an objective or limits that mean nothing beside it."""
    if options.backlog_requests is None:
        return
    backlog = spelled("backlog_requests")
    if options.objective == "throughput":
        raise InputError(f"{backlog}: has its throughput; ask for {spelled('objective')} cost, power or machines")
    if slo.limits:
        raise InputError(
            f"{backlog}: requests wait for hours, so that limits on latency ({slo.limits[0]}) mean nothing; add "
            f"{spelled('slo')} batch, and leave out other limits"
        )


def _job(options: PlanOptions, load: Load, traffic: Traffic, reference: Reference) -> BatchJob | None:
    """The backlog, with its headroom, and the rate at which it is fed."""
    if options.backlog_requests is None or options.within_s is None:
        return None
    c = traffic.classes
    longest_s = float(np.max(reference.e2e_s(c.prompt_tokens, c.output_tokens)))
    return batch_job(math.ceil(options.backlog_requests * load.factor), options.within_s, longest_s)


def _trace(
    path: str, factors: Factors
) -> tuple[Workload, Trace, tuple[tuple[float, float], ...], float, tuple[str, ...]]:
    """A trace as it is: its requests, its rates window by window, and its burstiness within them."""
    from provisioner.queueing.traffic import windows_of

    trace = factors.trace(path)
    if trace.requests < 2 or not trace.arrival_s[-1] > trace.arrival_s[0]:
        raise InputError(
            f"{path}: needs at least two requests at different times to have a rate; give {spelled('workload')} and "
            f"{spelled('rate_rps')}"
        )
    windows, cv = windows_of(trace.arrival_s)
    notes = list(trace.warnings)
    peak, mean = (
        max(rate for rate, _ in windows),
        trace.requests / float(trace.arrival_s[-1] - trace.arrival_s[0]),
    )
    if peak > 1.2 * mean:
        notes.append(
            f"the trace's busiest minute has {peak:.3g} requests/s against {mean:.3g} on average; the plan keeps up "
            "with every minute"
        )
    if cv > _CLUSTERED_CV:
        notes.append(
            f"the trace's requests cluster within minutes (CV {cv:.3g} around each minute's rate); for such arrivals "
            "the formulas' P99s may be too low by a factor of two (docs/explanation/queueing.md, limits of the model)"
        )
    return trace.workload(Path(path).stem), trace, windows, cv, tuple(notes)
