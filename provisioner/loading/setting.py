"""From the options of a plan to its setting: the values that they name, loaded and checked."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.loading.common import Loading, arrival_remarks
from provisioner.loading.factors import Factors
from provisioner.options import PlanOptions, spelled
from provisioner.options.defaults import CONFIDENCE, ENGINE_POLICIES, EVIDENCE, SPLITTING, TOKEN_BUDGETS
from provisioner.perf.assumptions import ReplicaPerf, scaled
from provisioner.perf.curves import curve_groups, no_curves
from provisioner.perf.evidence import degrees_of, gpu_of, why_not_derived
from provisioner.perf.summary import stated_error
from provisioner.planning.designs import ReplicaKey, choose, designs
from provisioner.planning.formulation import Caps
from provisioner.planning.setting import Judging, Searching, Setting
from provisioner.planning.solver import solver
from provisioner.progress import Progress, Step
from provisioner.queueing.traffic import Classes, Traffic
from provisioner.specs import catalog
from provisioner.specs.batch_job import batch_job
from provisioner.specs.engine import BY_HAND
from provisioner.specs.hardware import Machine
from provisioner.specs.metrics import METRICS
from provisioner.specs.power_caps import parse_caps
from provisioner.specs.prices import PriceList
from provisioner.specs.rate_levels import NO_PEAK, rate_levels
from provisioner.specs.slo import SLO, LatencyLimit, load_slo
from provisioner.specs.traces import Trace, check_seed
from provisioner.specs.units import format_rate
from provisioner.specs.workload import Workload
from provisioner.version import versions

_Requests = tuple[Workload, Workload | Trace, tuple[tuple[float, float], ...], float, tuple[str, ...]]

# Arrivals within a minute that are burstier than this are beyond what the formulas were found to describe well.
_CLUSTERED_CV = 2.0
# Options on which no verdict depends, or which are in the limits and in how clusters are judged; scale only in part.
_NO_VERDICT = (
    *("slo", "limits", "attainment", "deadline_s", "sets", "duration_s", "seed", "confidence", "cut_margin", "policy"),
    *("batch_tokens", "survive", "designs", "machines", "instances", "objective", "max_cost_usd_per_h", "max_power_w"),
    *("max_machines", "stock", "prices", "solver", "write_lp", "fast", "exhaustive", "time_limit_s", "against"),
    "scale",
)
_SHOWN_VERSIONS = ("provisioner", "numpy", "scipy", "numba", "pulp", "highspy")


def load_setting(options: PlanOptions, progress: Progress = lambda _: None) -> Setting:
    """Check the options and load what they name."""
    solver(options.solver)
    loading = Loading.of(options)
    known, factors = loading.known, loading.factors
    deadline_s = options.deadline_s
    slo = loading.slo(*([] if deadline_s is None else [LatencyLimit("e2e", 99.0, deadline_s, "seconds")]))
    _check_limits(options, slo)
    workload, source, windows, cv, notes = _requests(options, factors)
    loading = loading.serving(source)
    traffic = Traffic(Classes(workload.prompt.tokens, workload.output.tokens, workload.weight), windows, cv)
    rate_rps, headroom_factor = traffic.peak_rps, 1.0 + options.headroom
    traffic = traffic.scaled(headroom_factor)
    price_list = known.price_list(options.prices)
    loaded, left_out = _replicas(loading, price_list, float(workload.prompt.tokens.max()), progress)
    if options.robust:
        loaded, of_errors = _longer_by_errors(loaded)
        left_out = (*left_out, *of_errors)
    machines = {perf.machine.name: perf.machine for perf in loaded}
    degrees = {name: tuple(perf.tensor_parallel for perf in loaded if perf.machine.name == name) for name in machines}
    replicas = {ReplicaKey(perf.machine.name, perf.tensor_parallel): factors.replica(perf) for perf in loaded}
    prices = {name: known.price(price_list, name) for name in machines}
    every = designs(machines.values(), degrees, within_clouds=not options.machines)
    chosen = choose(every, options.designs) if options.designs else every
    of_scale = () if options.power_caps else (name.partition(":")[2] for name in options.scale if ":" in name)
    for option, name in (*(("stock", name) for name in options.stock), *(("scale", name) for name in of_scale)):
        if known.machine(name).name not in machines:
            raise InputError(f"{spelled(option)} {name}: is not among the machines considered ({', '.join(machines)})")
    against, reference_notes = loading.reference(slo, loaded)
    job = None
    if options.backlog_requests is not None and options.within_s is not None:
        longest_s = float(np.max(against.e2e_s(workload.prompt.tokens, workload.output.tokens)))
        job = batch_job(math.ceil(options.backlog_requests * headroom_factor), options.within_s, longest_s)
        rate_rps = job.rate_rps / headroom_factor
        traffic = traffic.scaled(job.rate_rps / traffic.peak_rps)
    splits, whole = (any(design.splits == split for design in chosen) for split in (True, False))
    policy, _ = loading.policies
    if options.batch_tokens and policy not in ENGINE_POLICIES:
        raise InputError(
            f"{spelled('batch_tokens')}: is of the policies of engines; give {spelled('policy')} "
            f"{', '.join(ENGINE_POLICIES)} too"
        )
    if options.policy is not None and not (splits if options.policy in SPLITTING else whole):
        kind = "colocated designs" if splits else "designs that split the phases"
        raise InputError(f"{spelled('policy')} {options.policy}: is of {kind}, and none is considered; leave it out")
    slots = {id(slot): slot for design in chosen for slot in design.slots}  # of many designs each
    used = {slot.replica: replicas[slot.replica] for slot in slots.values()}
    remarks = loading.remarks(workload, used.values(), splits)
    curves = {source: None for perf in used.values() for source in perf.curve.sources}
    price_sources = {f"{key.machine}: {prices[key.machine].source}": None for key in used}
    question = asdict(options)
    scale = {name: factor for name, factor in options.scale.items() if name.split(":")[0] not in ("price", "power")}
    return Setting(
        model=options.model,
        workload=workload.name,
        source=source,
        rate_rps=rate_rps,
        headroom_factor=headroom_factor,
        traffic=traffic,
        slo=slo,
        job=job,
        reference=against,
        context_tokens=loading.context_tokens,
        replicas=replicas,
        designs=chosen,
        named=bool(options.designs),
        prices=factors.prices(prices, price_list.currency),
        caps=Caps(options.max_cost_usd_per_h, options.max_power_w, options.max_machines, options.stock),
        objective=options.objective,
        judging=_judging(loading),
        searching=Searching(**{each.name: getattr(options, each.name) for each in fields(Searching)}),
        sources=(*curves, *workload.sources, f"prices: {price_list.title} ({price_list.date})", *price_sources),
        warnings=(*factors.notes(), *notes, *left_out, *reference_notes, *remarks),
        versions=versions(_SHOWN_VERSIONS),
        smaller={name: _smaller(loading, machine, price_list) for name, machine in machines.items()},
        engine=loading.served_by(used.values()),
        question=question,
        verdicts_rest_on=repr([scale, *((name, question[name]) for name in question if name not in _NO_VERDICT)]),
    )


def _judging(loading: Loading[PlanOptions]) -> Judging:
    """The rule by which clusters are judged: with the policy and the token budgets that none asked for."""
    options, (policy, _) = loading.options, loading.policies
    tokens = options.batch_tokens
    if tokens is None:
        own = policy not in ENGINE_POLICIES or loading.engine.basis["batch_tokens"] == BY_HAND
        tokens = () if own else TOKEN_BUDGETS
    asked = {each.name: getattr(options, each.name) for each in fields(Judging)}
    return Judging(**asked | {"policy": options.policy or policy, "batch_tokens": tokens})


def _smaller(
    loading: Loading[PlanOptions], machine: Machine, price_list: PriceList
) -> tuple[tuple[Machine, float | None], ...]:
    """Machine types with fewer of a machine's GPUs, and their cost if known: the smallest, then the cheapest first.

    None if instances are considered anyway.
    """
    known, gpus = loading.known, gpu_of(machine)
    if loading.options.instances or loading.options.assumptions != "measured":
        return ()
    fewer = [each for each in known.machines.values() if each.gpus < machine.gpus and gpu_of(each) == gpus]
    priced = {each.name: price_list.machines[each.name] for each in fewer if each.name in price_list.machines}
    costs = loading.factors.prices(priced, price_list.currency).cost_usd_per_h
    ranked = sorted(fewer, key=lambda each: (each.gpus, costs.get(each.name, math.inf), each.name))
    return tuple((loading.on_network(each), costs.get(each.name)) for each in ranked)


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
    asked = replace(
        options,
        slo=slo,
        limits={},
        attainment=None,
        backlog_requests=None,
        within_s=None,
        deadline_s=None,
        write_lp=None,
    )
    if options.backlog_requests is not None:  # which has its rate from its window, whatever the factor on rates
        scale = {name: factor for name, factor in options.scale.items() if name != "rate"}
        asked = replace(asked, rate_rps=rate_rps, scale=scale)
    if not load_slo(slo).limits:
        asked = replace(asked, confidence=CONFIDENCE)
    if options.objective != "throughput":
        asked = replace(asked, max_cost_usd_per_h=None, max_power_w=None, max_machines=None)
    return load_setting(asked)


def _replicas(
    loading: Loading[PlanOptions], prices: PriceList, longest: float, progress: Progress
) -> tuple[list[ReplicaPerf], tuple[str, ...]]:
    """Replicas of the machines asked for, or of all that have curves of the model, at each degree that holds it."""
    options, known, model = loading.options, loading.known, loading.model
    names = _with_caps(loading, dict.fromkeys(known.machine(name).name for name in options.machines))
    degrees = _degrees(loading, names)
    given = options.tensor_parallel
    wanted = [] if isinstance(given, str) else list(given)
    at_wanted = f" at TP {', '.join(map(str, wanted))}" if wanted else ""
    # by default machine types with a power cap of their own only with measured curves
    measured = {machine for name, machine, _ in curve_groups(known) if name == model.name}
    every = (name for name, machine in _considered(loading).items() if machine.power_cap == 1.0 or name in measured)
    replicas: list[ReplicaPerf] = []
    left_out = []
    instances: dict[str, list[str]] = {}  # that are left out, by reason
    considered = names or _with_caps(loading, filter(degrees.get, every))
    for k, name in enumerate(considered):
        progress(Step(f"latency curves: {k:,} of {len(considered):,} machine types", k, len(considered)))
        capped_from, cloud = known.machine(name).capped_from, known.machine(name).cloud
        if not names and not {name, capped_from} & set(prices.machines):
            if cloud:
                instances.setdefault(f"the price list {prices.name} has no price of them", []).append(name)
            else:
                left_out.append(f"{name} is left out: the price list {prices.name} has no price of it")
            continue
        of_machine = degrees.get(name) or degrees.get(capped_from, [])
        at = sorted(set(wanted) & set(of_machine) if wanted else of_machine, reverse=True)
        fits: list[ReplicaPerf] = []
        refused: list[InputError] = []
        if not at and names:
            refused.append(InputError(_no_curves(loading, known.machine(name), at_wanted)))
        for degree in at:
            if fits and given == "largest":
                break
            try:
                fits.append(loading.replica(name, degree))
            except ModelDoesNotFitError as error:
                refused.append(error)
        if not fits and refused:
            if len(names) == 1:
                raise refused[0]
            if cloud and not names:
                instances.setdefault(f"{model.name} does not fit on their GPUs", []).append(name)
            else:
                left_out.append(f"{name} is left out: {refused[0]}")
        # a published curve at TP 2 falls at its end, and has no time for prompts far beyond it
        ended = [perf.tensor_parallel for perf in fits if not float(perf.prompt_s(longest)) > 0.0]
        left_out += [f"{name} at TP {tp} is left out: its curve ends before {longest:,.0f} tokens" for tp in ended]
        replicas += [perf for perf in fits if perf.tensor_parallel not in ended]
    left_out += [f"instances are left out, as {why}: {', '.join(of)}" for why, of in instances.items()]
    if not replicas:
        why = "; ".join(left_out) or no_curves(model.name, f"any machine{at_wanted}", known)
        raise InputError(f"no machine can serve {model.name}: {why}")
    return replicas, tuple(left_out)


def _considered(loading: Loading[PlanOptions]) -> Mapping[str, Machine]:
    """Machine types that are considered where none is named: whole machines, and instances if asked for."""
    if loading.options.instances and loading.options.assumptions != "measured":
        raise _of_measured("instances", loading.options)
    return loading.known.machines if loading.options.instances else loading.known.whole_machines


def _longer_by_errors(replicas: Iterable[ReplicaPerf]) -> tuple[list[ReplicaPerf], tuple[str, ...]]:
    """Replicas whose times are longer by the stated errors of their curves, and notes; none without a known error."""
    longer: list[ReplicaPerf] = []
    factors: dict[str, list[str]] = {}
    unknown = []
    for perf in replicas:
        name = f"{perf.machine.name} at TP {perf.tensor_parallel}"
        error = stated_error(perf.curve, perf.model.dtype, perf.engine, perf.machine.kernels)
        if error is None:
            unknown.append(f"{name} is left out: no error of its latency curves is known ({spelled('robust')})")
            continue
        prompt, decode = 1.0 + error.prompt[1], 1.0 + error.decode[1]
        longer.append(scaled(perf, prompt_time=prompt, decode_time=decode))
        factors.setdefault(f"prompt {prompt:.2f}x and decode {decode:.2f}x", []).append(name)
    if not longer:
        raise InputError(f"{spelled('robust')}: no error of the latency curves is known; leave it out")
    taken = "; ".join(f"{factor} for {', '.join(names)}" for factor, names in factors.items())
    return longer, (*unknown, f"times are longer by the stated errors of the curves: {taken}")


def _with_caps(loading: Loading[PlanOptions], names: Iterable[str]) -> list[str]:
    """Machines at every power cap asked for; machine types with a cap of their own only if none is asked for."""
    options, known = loading.options, loading.known
    if not options.power_caps:
        return list(names)
    caps = parse_caps(options.power_caps, spelled("power_caps"))
    if options.assumptions != "measured":
        raise _of_measured("power_caps", options)
    at_caps: dict[str, None] = {}
    for machine in map(known.machine, names):
        if machine.power_cap == 1.0:
            at_caps |= {known.at_cap(machine, cap).name: None for cap in caps}
        elif options.machines:
            at_caps[machine.name] = None
    return list(at_caps)


def _of_measured(name: str, options: PlanOptions) -> InputError:
    return InputError(f"{spelled(name)}: is of the measured assumptions; {options.assumptions} has its own curves")


def _degrees(loading: Loading[PlanOptions], names: Sequence[str]) -> dict[str, list[int]]:
    """Tensor parallelism at which each machine has curves of the kinds that are accepted.

    Without ``evidence``: for named machines the best kind that each has, else the best that any has.
    """
    model, known, accepted = loading.model, loading.known, loading.options.evidence
    degrees: dict[str, list[int]] = {}
    if loading.options.assumptions != "measured":
        if accepted is not None:
            raise _of_measured("evidence", loading.options)
        for name, machine, degree in curve_groups():
            if name == model.name:
                degrees.setdefault(machine, []).append(degree)
        return degrees
    ranks = {
        name: {degree: EVIDENCE.index(kind) for degree, kind in degrees_of(model, known.machine(name), known).items()}
        for name in names or _considered(loading)
    }
    best = min((rank for each in ranks.values() for rank in each.values()), default=0)
    for name, each in ranks.items():
        worst = min(each.values(), default=0) if names else best
        worst = worst if accepted is None else EVIDENCE.index(accepted)
        degrees[name] = [degree for degree, rank in each.items() if rank <= worst]
    return degrees


def _no_curves(loading: Loading[PlanOptions], machine: Machine, at: str) -> str:
    model = loading.model
    kinds = degrees_of(model, machine, loading.known)
    if kinds:
        has = ", ".join(f"TP {degree} {kind}" for degree, kind in kinds.items())
        return f"no latency curves for {model.name} on {machine.name}{at} of the kind accepted: there are {has}"
    why = why_not_derived(model, machine)
    if why:
        return f"no latency curves for {model.name} in {model.dtype} on {machine.name}: {why}"
    return no_curves(model.name, f"{machine.name}{at}", loading.known)


def _check_limits(options: PlanOptions, slo: SLO) -> None:
    """Refuse limits that mean nothing for an answer by the formulas alone, or for a backlog."""
    if not slo.limits and options.confidence != CONFIDENCE:
        raise InputError(f"{spelled('confidence')}: is of limits on latency, and there are none; leave it out")
    for limit in slo.limits if options.fast else ():
        if not METRICS[limit.metric].by_formulas:
            raise InputError(
                f"{spelled('fast')}: {limit} is decided by simulation alone, as the formulas do not give the "
                f"{METRICS[limit.metric].what}; leave out one of them"
            )
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


def _requests(options: PlanOptions, factors: Factors) -> _Requests:
    """The workload, the source of request sets, the windows and CV of the traffic, and warnings."""
    if options.trace is not None or options.fast:
        check_seed(options.trace or options.workload, options.seed)
    if options.objective == "throughput":
        factors.refuse(("rate",), f"{spelled('objective')} throughput finds the rate; leave it out")
    if options.trace is not None:
        return _as_recorded(options, options.trace, factors)
    workload = catalog.workload(options.workload, options)
    rate = factors.of("rate") * (workload.rate_rps if options.rate_rps is None else options.rate_rps)
    cv = factors.of("cv") * (workload.cv if options.cv is None else options.cv)
    workload = factors.workload(workload)
    notes = arrival_remarks(workload, rate, factors.of("rate"), cv, "planned")
    if options.backlog_requests is not None:
        cv, notes = 0.0, ()  # fed evenly
    if options.independent:
        workload = workload.independent()
    return workload, workload, ((rate, 1.0),), cv, notes


def _as_recorded(options: PlanOptions, path: str, factors: Factors) -> _Requests:
    """A trace as it is: its requests, its rates window by window, and its burstiness within them."""
    factors.refuse(("cv",), f"a {spelled('trace')} is taken at its own times")
    trace, factor = factors.trace(path, options, rate=False), factors.of("rate")
    instead = f"{spelled('workload')} and {spelled('rate_rps')}"
    if trace.waiting and options.fast:
        raise InputError(f"{spelled('fast')}: {trace.untimed}, unknown to formulas; leave it out, or give {instead}")
    if trace.requests < 2 or not trace.arrival_s[-1] > trace.arrival_s[0]:
        raise InputError(f"{path}: needs at least two requests at different times to have a rate; give {instead}")
    notes = list(trace.warnings)
    if trace.waiting:  # only the rate of those with times of their own is scaled
        trace, factor = trace.scaled(rate=factor), 1.0
        notes.append(f"{trace.untimed}: rates are of the earliest arrivals, a first guess; simulation decides")
    levels, cv = rate_levels(trace.arrival_s)
    trace = trace.scaled(rate=factor)
    windows = tuple((factor * rate, share) for rate, share in levels)
    peak_rps = max(windows)[0]
    mean_rps = (trace.requests - 1) / float(trace.arrival_s[-1] - trace.arrival_s[0])
    if math.isclose(peak_rps, mean_rps, rel_tol=1e-9):
        notes.append(f"planned at the trace's mean rate, {format_rate(mean_rps)}: {NO_PEAK}")
    elif peak_rps > 1.2 * mean_rps:
        peak = f"the trace's peak rate is {format_rate(peak_rps)} against {mean_rps:.3g} on average"
        notes.append(f"{peak}; the plan keeps up with every minute")
    if cv > _CLUSTERED_CV:
        notes.append(
            f"the trace's requests cluster within minutes (CV {cv:.3g} around each minute's rate); for such arrivals "
            "the formulas' P99s may be too low by a factor of two (docs/explanation/queueing.md, limits of the model)"
        )
    planned_rps = peak_rps if trace.waiting else None
    return trace.workload(Path(path).stem, rate_rps=planned_rps), trace, windows, cv, tuple(notes)
