"""From the options of a plan to its setting: the values that they name, loaded and checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from provisioner.errors import InputError, ModelDoesNotFitError, UnknownNameError
from provisioner.loading.common import (
    burstier,
    check_predicted,
    latency_limits,
    load_machines,
    load_model,
    load_reference,
    remarks,
    versions,
)
from provisioner.loading.factors import Factors, load_factors
from provisioner.options import ASSUMPTIONS, OBJECTIVES, PlanOptions
from provisioner.specs import catalog
from provisioner.specs.batch_job import BatchJob, batch_job
from provisioner.specs.power_caps import parse_caps
from provisioner.specs.slo import SLO, LatencyLimit, load_slo
from provisioner.specs.units import parse_non_negative, parse_positive, parse_whole

if TYPE_CHECKING:
    from provisioner.perf.assumptions import Reference, ReplicaPerf
    from provisioner.planning.answer import Setting
    from provisioner.queueing.traffic import Traffic
    from provisioner.specs.hardware import Machine
    from provisioner.specs.model import ModelArchitecture
    from provisioner.specs.prices import PriceList
    from provisioner.specs.traces import Trace
    from provisioner.specs.workload import Workload

# Arrivals within a minute that are burstier than this are beyond what the formulas were found to describe well.
_CLUSTERED_CV = 2.0
_SHOWN_VERSIONS = ("provisioner", "numpy", "scipy", "numba", "pulp", "highspy")


def load_setting(options: PlanOptions) -> Setting:
    """Check the options and load what they name."""
    from provisioner.planning.answer import Setting
    from provisioner.planning.designs import choose, designs, kind_of
    from provisioner.planning.formulation import Caps
    from provisioner.planning.search import Prices
    from provisioner.planning.solver import solver

    if options.objective not in OBJECTIVES:
        raise UnknownNameError("objective", options.objective, OBJECTIVES)
    if options.assumptions not in ASSUMPTIONS:
        raise UnknownNameError("set of assumptions", options.assumptions, ASSUMPTIONS)
    solver(options.solver)
    known = catalog.with_own(options.specs)
    model = load_model(options, known)
    factors = load_factors(options.scale, known)
    slo = load_slo(options.slo).with_limits((*latency_limits(options.limits), *_deadline(options)))
    if factors.of("slo") != 1.0:
        slo = slo.scaled(factors.of("slo"))
    if options.fast:
        check_predicted(slo)
    _check_backlog(options, slo)
    workload, source, traffic, rate_rps, notes = _traffic(options, factors)
    price_list = known.price_list(options.prices)
    found, left_out = _replicas(options, model, known, price_list)
    machines = {perf.machine.name: perf.machine for perf in found}
    degrees = {name: tuple(perf.tensor_parallel for perf in found if perf.machine.name == name) for name in machines}
    several = any(len(each) > 1 for each in degrees.values())
    replicas = {
        kind_of(perf.machine.name, perf.tensor_parallel if several else None): factors.replica(perf) for perf in found
    }
    prices = {name: known.price(price_list, name) for name in machines}
    every = designs(machines.values(), degrees)
    chosen = choose(every, options.designs) if options.designs else every
    stock = {name: parse_whole(count, f"--stock {name}", minimum=0) for name, count in options.stock.items()}
    for name in stock:
        if known.machine(name).name not in machines:
            raise InputError(f"--stock {name}: is not among the machines considered ({', '.join(machines)})")
    caps = Caps(
        cost_usd_per_h=_positive(options.max_cost_usd_per_h, "--max-cost", "$/h"),
        power_w=_positive(options.max_power_w, "--max-power", "W"),
        machines=None if options.max_machines is None else parse_whole(options.max_machines, "--max-machines"),
        stock=stock,
    )
    against, reference_notes = load_reference(options, model, known, slo, found)
    job = _job(options, traffic, against)
    if job is not None:
        rate_rps = job.rate_rps / (1.0 + options.headroom)
        traffic = traffic.scaled(job.rate_rps / traffic.peak_rps)
    used = {slot.kind: replicas[slot.kind] for design in chosen for slot in design.slots}
    curves = {source: None for perf in used.values() for source in perf.curve.sources}
    price_sources = {f"{name}: {prices[name].source}": None for name in (p.machine.name for p in used.values())}
    return Setting(
        options=options,
        workload=workload.name,
        source=source,
        rate_rps=rate_rps,
        traffic=traffic,
        slo=slo,
        job=job,
        reference=against,
        replicas=replicas,
        designs=chosen,
        prices=Prices(
            {name: factors.of("price", name) * price.cost_usd_per_h for name, price in prices.items()},
            {name: factors.of("power", name) * price.provisioned_power_w for name, price in prices.items()},
        ),
        caps=caps,
        sources=(
            *curves,
            *workload.sources,
            f"prices: {price_list.title} ({price_list.date})",
            *price_sources,
        ),
        warnings=(*factors.notes(), *notes, *left_out, *reference_notes, *remarks(model, workload, used)),
        versions=versions(_SHOWN_VERSIONS),
    )


def _positive(value: float | None, what: str, unit: str) -> float | None:
    return None if value is None else parse_positive(value, what, unit)


def _replicas(
    options: PlanOptions, model: ModelArchitecture, known: catalog.Catalog, prices: PriceList
) -> tuple[list[ReplicaPerf], tuple[str, ...]]:
    """Replicas of the machines asked for, or of all that have curves of the model, at each degree that holds it."""
    from provisioner.perf.assumptions import replica
    from provisioner.perf.curves import no_curves

    machine = load_machines(options, known)
    names = _names(options, known)
    degrees = _degrees(options, model, known, names)
    given = (options.tensor_parallel,) if isinstance(options.tensor_parallel, int) else options.tensor_parallel
    if isinstance(given, str) and given not in ("largest", "all"):
        raise InputError(f"--tp: must be largest, all or a number of GPUs, got {given!r}")
    wanted = [] if isinstance(given, str) else [parse_whole(degree, "--tp", "GPUs") for degree in given]
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
    caps = parse_caps(options.power_caps)
    if options.assumptions != "measured":
        raise InputError(f"--power-caps: is of the measured assumptions; {options.assumptions} has its own curves")
    found: dict[str, None] = {}
    for machine in map(known.machine, names):
        if machine.power_cap == 1.0:
            found |= {known.at_cap(machine, cap).name: None for cap in caps}
        elif options.machines:
            found[machine.name] = None
    return list(found)


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
    from provisioner.options.defaults import EVIDENCE
    from provisioner.perf.curves import curve_groups
    from provisioner.perf.evidence import degrees_of

    accepted = options.evidence
    if accepted is not None and accepted not in EVIDENCE:
        raise UnknownNameError("kind of evidence", accepted, EVIDENCE)
    if options.assumptions != "measured":
        if accepted is not None:
            raise InputError(f"--evidence: is of the measured assumptions; {options.assumptions} has its own curves")
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
) -> tuple[Workload, Workload | Trace, Traffic, float, tuple[str, ...]]:
    """The workload, the source of request sets, the traffic with headroom, the rate without, and warnings."""
    from provisioner.queueing.traffic import Classes, Traffic

    headroom = parse_non_negative(options.headroom, "--headroom")
    notes: tuple[str, ...] = ()
    source: Workload | Trace
    if options.trace is not None:
        if options.rate_rps is not None:
            raise InputError(
                "--rate: a --trace is planned at its own times; give its file to --workload to plan at a rate"
            )
        if options.independent or options.cv is not None:
            raise InputError("--independent and --cv change a workload; a --trace is taken as it is")
        factors.refuse(("cv",), "a --trace is taken at its own times")
        workload, source, windows, cv, notes = _trace(options.trace, factors)
    else:
        workload = catalog.workload(options.workload)
        rate = (
            workload.rate_rps if options.rate_rps is None else parse_positive(options.rate_rps, "--rate", "requests/s")
        )
        windows = ((factors.of("rate") * rate, 1.0),)
        cv = factors.of("cv") * (workload.cv if options.cv is None else parse_non_negative(options.cv, "--cv"))
        workload = _longer(workload, factors)
        if options.backlog_requests is None:
            notes = burstier(workload, cv)
        else:
            cv = 0.0  # fed evenly
        if options.independent:
            workload = workload.independent()
        source = workload
    classes = Classes(workload.prompt_tokens, workload.output_tokens, workload.weight)
    traffic = Traffic(classes, windows, cv)
    return workload, source, traffic.scaled(1.0 + headroom), traffic.peak_rps, notes


def _deadline(options: PlanOptions) -> tuple[LatencyLimit, ...]:
    """A deadline as a limit: 99 % of the requests end within it."""
    if options.deadline_s is None:
        return ()
    if "e2e_p99" in options.limits:
        raise InputError("--deadline: is a limit on E2E P99, and so is --e2e-p99; give one of them")
    return (LatencyLimit("e2e", 99.0, parse_positive(options.deadline_s, "--deadline", "s"), "seconds"),)


def _check_backlog(options: PlanOptions, slo: SLO) -> None:
    """Refuse a backlog with options that mean nothing beside it, or without its time."""
    if options.backlog_requests is None:
        if options.within_s is not None:
            raise InputError("--within: is the time for a --backlog; give its number of requests, or --deadline")
        return
    if options.within_s is None:
        raise InputError("--backlog: in what time? give --within, such as --within 8h")
    for given, flag in ((options.rate_rps, "--rate"), (options.trace, "--trace"), (options.cv, "--cv")):
        if given is not None:
            raise InputError(f"--backlog: its requests are all there at the start; leave out {flag}")
    if options.objective == "throughput":
        raise InputError("--backlog: has its throughput; ask for --objective cost, power or machines")
    if slo.limits:
        raise InputError(
            f"--backlog: requests wait for hours, so that limits on latency ({slo.limits[0]}) mean nothing; add --slo "
            "batch, and leave out other limits"
        )


def _job(options: PlanOptions, traffic: Traffic, reference: Reference) -> BatchJob | None:
    """The backlog, with its headroom, and the rate at which it is fed."""
    if options.backlog_requests is None:
        return None
    requests = parse_whole(options.backlog_requests, "--backlog", "requests")
    within_s = parse_positive(options.within_s or 0.0, "--within", "s")
    c = traffic.classes
    longest_s = float(np.max(reference.e2e_s(c.prompt_tokens, c.output_tokens)))
    return batch_job(math.ceil(requests * (1.0 + options.headroom)), within_s, longest_s)


def _longer(workload: Workload, factors: Factors) -> Workload:
    prompt, output = factors.of("prompt-tokens"), factors.of("output-tokens")
    return workload if prompt == output == 1.0 else workload.scaled(prompt, output)


def _trace(
    path: str, factors: Factors
) -> tuple[Workload, Trace, tuple[tuple[float, float], ...], float, tuple[str, ...]]:
    """A trace as it is: its requests, its rates window by window, and its burstiness within them."""
    from provisioner.queueing.traffic import windows_of
    from provisioner.specs.traces import read_trace

    trace = read_trace(path).scaled(*(factors.of(name) for name in ("rate", "prompt-tokens", "output-tokens")))
    if trace.requests < 2 or not trace.arrival_s[-1] > trace.arrival_s[0]:
        raise InputError(
            f"{path}: needs at least two requests at different times to have a rate; give --workload and --rate"
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
