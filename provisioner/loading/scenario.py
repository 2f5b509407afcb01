"""From the options of a simulation to its scenario: the cluster, its requests, and their limits."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from provisioner.errors import InputError, UnknownNameError
from provisioner.loading.common import Loading, arrival_remarks
from provisioner.loading.factors import Factors
from provisioner.options import WARM_UP, SimulateOptions, spelled
from provisioner.options.defaults import BATCH_TOKENS, ENGINE_POLICIES, PolicyName
from provisioner.perf.assumptions import ReplicaPerf
from provisioner.planning.designs import baseline, choose, designs
from provisioner.simulation.assemble import Scenario
from provisioner.simulation.cluster import Cluster, Outage, Pool
from provisioner.simulation.policy import SETTINGS, Policy
from provisioner.simulation.requests import RequestSet, check_count, closed_loop, default_s, drawn, from_trace, sets
from provisioner.simulation.stability import doublings
from provisioner.specs import catalog
from provisioner.specs.arrivals import Arrivals
from provisioner.specs.metrics import REPORTED_PERCENTILES
from provisioner.specs.roles import ROLES
from provisioner.specs.traces import Trace, check_seed
from provisioner.specs.units import parse_duration, parse_whole
from provisioner.specs.workload import Workload
from provisioner.version import versions

_SHOWN_VERSIONS: Final = ("provisioner", "numpy", "scipy", "numba")
_POOL: Final = re.compile(r"\s*([^:=\s]+):([^:=\s]+)(?::([^:=\s]+))?=(\S+)\s*")
_FAILURE: Final = re.compile(r"\s*([a-z]+):([^@\s]+)@([^-\s]+)(?:-(\S+))?\s*")


def load_scenario(options: SimulateOptions, times: float = 1.0) -> Scenario:
    """Check the options and load what they name; unless their time is given, sets take ``times`` their default."""
    loading = Loading.of(options)
    factors = loading.factors
    factors.refuse(("price", "power"), "changes no latency; leave it out of a simulation")
    slo = loading.slo()
    requests = _requests(options, factors, times)
    loading = loading.serving(requests.source)
    design, pools, policy = _pools(loading)
    cluster = Cluster(pools, _with_thresholds(policy, options, pools), _outages(options.failures, pools))
    fixed = options.duration_s or options.rates_rps or options.in_flight or options.trace is not None
    room = not fixed and doublings(requests.arrivals.duration_s, requests.arrivals.rate_rps)
    replicas = {pool.perf.machine.name: pool.perf for pool in pools}
    against, reference_notes = loading.reference(slo, replicas.values())
    remarks = loading.remarks(requests.workload, replicas.values(), design.startswith("Splitwise"), "simulated")
    curves = {source: None for perf in replicas.values() for source in perf.curve.sources}
    return Scenario(
        design=design,
        cluster=cluster,
        reference=against,
        context_tokens=loading.context_tokens,
        request_set=requests.make,
        sets=requests.sets,
        expected_requests=requests.expected,
        percentiles=tuple(sorted({*REPORTED_PERCENTILES, *slo.percentiles, *options.percentiles})),
        slo=slo,
        workload=requests.workload.name,
        arrivals=requests.arrivals,
        seed=options.seed,
        sources=(*curves, *requests.workload.sources),
        warnings=(*factors.notes(), *requests.notes, *reference_notes, *remarks),
        question={each.name: getattr(options, each.name) for each in dataclasses.fields(SimulateOptions)},
        longer=partial(load_scenario, options, 2.0 * times) if room else None,
        versions=versions(_SHOWN_VERSIONS),
        engine=loading.served_by(replicas.values()),
    )


def _pools(loading: Loading[SimulateOptions]) -> tuple[str, tuple[Pool, ...], PolicyName]:
    """The name of the design, its pools with their sizes, and the policy asked for or its own."""
    options, known = loading.options, loading.known
    degrees = {"prompt": options.prompt_tensor_parallel, "token": options.token_tensor_parallel}
    if options.pools:
        slots = [_pool(text, known) for text in options.pools]
        name = _design_name(slots, known)
    elif options.design is None:
        design, prompt, token = (spelled(name) for name in ("design", "prompt_machines", "token_machines"))
        raise InputError(
            f"{design}: is missing: name one, such as {design} splitwise-hh {prompt} 27 {token} 3, or give each "
            f"{spelled('pools')}"
        )
    else:
        name, slots = _designed(options.design, options, known)
        if ":" in options.design and any((options.tensor_parallel, *degrees.values())):
            leave_out = spelled("tensor_parallel")
            raise InputError(f"{spelled('design')} {options.design}: has its tensor parallelism; leave out {leave_out}")
    for role, degree in degrees.items():
        if degree is not None and role not in [role for role, *_ in slots]:
            raise InputError(f"{spelled(f'{role}_tensor_parallel')}: design {name} has no {role} machines")

    policy: PolicyName = options.policy or loading.policies[any(ROLES[role].name == "mixed" for role, *_ in slots)]  # type: ignore[assignment]
    given = {} if options.batch_tokens is None else options.batch_tokens
    budgets = given if isinstance(given, Mapping) else dict.fromkeys(ROLES, given)
    for role in budgets if given is budgets else ():
        if role not in [role for role, *_ in slots]:
            raise InputError(f"{spelled('batch_tokens')} {role}: design {name} has no {role} machines")

    @cache
    def perf(machine: str, tensor_parallel: int | None, batch_tokens: int) -> ReplicaPerf:
        return loading.factors.replica(loading.replica(machine, tensor_parallel, batch_tokens))

    def pool(role: str, machine: str, degree: int | None, count: int) -> Pool:
        at, tokens = degree or degrees.get(role) or options.tensor_parallel, budgets.get(role)
        if tokens is None:
            batch = loading.engine.batch(known.machine(machine))
            tokens = batch.batch_tokens if policy in ENGINE_POLICIES else BATCH_TOKENS
        return Pool(ROLES[role].name, perf(machine, at, tokens), count, batch_tokens=tokens)

    return name, tuple(pool(*slot) for slot in slots), policy


_Slot = tuple[str, str, "int | None", int]


def _designed(name: str, options: SimulateOptions, known: catalog.Catalog) -> tuple[str, list[_Slot]]:
    """A named design with its numbers of machines; Splitwise-HH70 is of machines at a power cap of 70 %."""
    family, _, typed = name.partition(":")
    machines = dict(known.machines)
    for cap in (int(digits) / 100 for digits in re.findall(r"(?<!\d)\d\d(?!\d)", family)):
        if cap >= known.power_caps.lowest:
            capped = [known.at_cap(machine, cap) for machine in known.machines.values() if machine.power_cap == 1.0]
            machines |= {machine.name: machine for machine in capped}
    (design,) = choose(designs(machines.values()), (family,))
    roles = [slot.role for slot in design.slots]
    what = f"{spelled('design')} {name}"
    degrees: list[int | None] = [None] * len(roles)
    if typed:
        degrees = [parse_whole(each, f"{what}: tensor parallelism", "GPUs") for each in typed.split("+")]
        if len(degrees) != len(roles):
            raise InputError(f"{what}: must have the tensor parallelism of {' and '.join(roles)}, got {typed!r}")
    shown = f"{design.name}:{typed}" if typed else design.name
    counts = {role: getattr(options, f"{role}_machines") for role in ("prompt", "token", "mixed")}
    for role in roles:
        if counts[role] is None:
            missing = spelled(f"{role}_machines")
            raise InputError(f"{missing}: is missing: design {shown} needs a number of {role} machines")
    for other, count in counts.items():
        if count is not None and other not in roles:
            raise InputError(f"{spelled(f'{other}_machines')}: design {shown} has no {other} machines")
    slots = zip(design.slots, degrees, strict=True)
    return shown, [(slot.role, slot.machine.name, degree, counts[slot.role]) for slot, degree in slots]


def _pool(text: str, known: catalog.Catalog) -> _Slot:
    """A pool written ``ROLE:MACHINE=COUNT`` or ``ROLE:MACHINE:TP=COUNT``."""
    match = _POOL.fullmatch(str(text))
    if match is None:
        raise InputError(f"{spelled('pools')}: must be ROLE:MACHINE=COUNT, such as prompt:dgx-h100=20, got {text!r}")
    role, machine, degree, count = match.groups()
    if role not in ROLES:
        raise UnknownNameError("role", role, ROLES)
    name, what = known.machine(machine).name, f"{spelled('pools')} {text}"
    tensor_parallel = None if degree is None else parse_whole(degree, f"{what}: tensor parallelism", "GPUs")
    return role, name, tensor_parallel, parse_whole(count, what, "machines")


def _design_name(slots: Iterable[_Slot], known: catalog.Catalog) -> str:
    """The design that pools make, by the rule of ``planning.designs``: Splitwise-HA, Splitwise-(H+A)A."""
    letters: dict[str, dict[str, None]] = {}
    for role, machine, *_ in slots:
        letters.setdefault(role, {})[known.machine(machine).letter] = None
    shown = {role: "+".join(names) if len(names) == 1 else f"({'+'.join(names)})" for role, names in letters.items()}
    if set(shown) == {"mixed"}:
        types = {machine for _, machine, *_ in slots}
        return baseline(known.machine(types.pop())).name if len(types) == 1 else f"Baseline-{shown['mixed']}"
    return f"Splitwise-{shown.get('prompt', '')}{shown.get('token', '')}{shown.get('mixed', '')}"


def _with_thresholds(name: PolicyName, options: SimulateOptions, pools: tuple[Pool, ...]) -> Policy:
    """A policy with the thresholds asked for."""
    policy = Policy(name)
    names = [each.name for each in dataclasses.fields(Policy)[1:] if hasattr(options, each.name)]  # without an engine's
    for threshold in names:
        if getattr(options, threshold) is not None and threshold not in SETTINGS[policy.name]:
            having = ", ".join(known for known in SETTINGS if threshold in SETTINGS[known])
            raise InputError(f"{spelled(threshold)}: is of {spelled('policy')} {having}, not of {name}; leave it out")
    if options.assumptions == "splitwise-sim":
        policy = policy.as_published()
    thresholds = {threshold: getattr(options, threshold) for threshold in names}
    thresholds["batch_tokens"] = None  # each pool has its own
    policy = policy.under(pool.perf for pool in pools)
    return dataclasses.replace(policy, **{name: value for name, value in thresholds.items() if value is not None})


def _outages(failures: Iterable[str], pools: tuple[Pool, ...]) -> tuple[Outage, ...]:
    """Failures written ``ROLE:NUMBER@FROM-UNTIL``; machines of a role count from 1 through its pools in order."""
    fail = spelled("failures")
    roles = [pool.role for pool in pools for _ in range(pool.machines)]
    at = {role: [k for k, other in enumerate(roles) if other == role] for role in dict.fromkeys(roles)}
    outages = []
    for text in failures:
        match = _FAILURE.fullmatch(str(text))
        if match is None:
            raise InputError(f"{fail}: must be ROLE:NUMBER@FROM-UNTIL, such as prompt:3@30s-60s, got {text!r}")
        role, number, start, end = match.groups()
        what = f"{fail} {text}"
        if role not in at:
            raise InputError(f"{what}: the cluster has no {role} machines, it has {' and '.join(at)} machines")
        machine = parse_whole(number, f"{what}: machine")
        if machine > len(at[role]):
            raise InputError(f"{what}: the cluster has {role} machines 1 to {len(at[role])}")
        at_s = 0.0 if start in ("0", "0s") else parse_duration(start, what)
        until_s = None if end is None else parse_duration(end, what)
        if until_s is not None and until_s <= at_s:
            raise InputError(f"{what}: must end after it begins")
        outages.append(Outage(at[role][machine - 1], at_s, until_s))
    by_machine = sorted(outages, key=lambda outage: (outage.machine, outage.at_s))
    for before, after in pairwise(by_machine):
        if before.machine == after.machine and (before.until_s is None or after.at_s < before.until_s):
            raise InputError(f"{fail}: a machine fails again before it is back; give it one failure at a time")
    return tuple(outages)


@dataclasses.dataclass(frozen=True, slots=True)
class _Requests:
    """Request sets as functions of their numbers; ``expected`` is the approximate number of requests of each."""

    make: Callable[[int], RequestSet]
    sets: int
    expected: float
    workload: Workload
    source: Workload | Trace
    arrivals: Arrivals
    notes: tuple[str, ...] = ()


def _requests(options: SimulateOptions, factors: Factors, times: float) -> _Requests:
    """The request sets: of a trace, a closed loop, rates by minute, or one rate, as the options ask."""
    warm_up, cool_down = WARM_UP if options.warm_up is None else options.warm_up, options.cool_down
    if not warm_up + cool_down < 1.0:
        raise InputError(f"{spelled('warm_up')} and {spelled('cool_down')}: must leave a part to measure")
    if options.trace is not None:
        check_seed(options.trace, options.seed)
        trace = factors.trace(options.trace, options)
        return _as_recorded(trace, factors, options.warm_up or 0.0, cool_down)
    if options.in_flight is not None:
        factors.refuse(("rate", "cv"), f"a closed loop ({spelled('in_flight')}) has no arrival times")
    workload, source = _workload(options, factors)
    notes: tuple[str, ...] = ()
    draw: Callable[[np.random.Generator], RequestSet]
    if options.in_flight is not None:
        count = options.requests or max(2_000, 20 * options.in_flight)
        check_count(count, spelled("requests"))
        expected, arrivals = float(count), Arrivals(in_flight=options.in_flight)
        draw = partial(closed_loop, workload, options.in_flight, count, warm_up=warm_up)
    else:
        cv = factors.of("cv") * (workload.cv if options.cv is None else options.cv)
        by_minute = bool(options.rates_rps)
        rates = [factors.of("rate") * rate for rate in options.rates_rps or (options.rate_rps or workload.rate_rps,)]
        notes = arrival_remarks(workload, max(rates), factors.of("rate"), cv, "simulated")
        window_s = 60.0 if by_minute else options.duration_s or times * default_s(rates[0], cv)
        arrivals = Arrivals(sum(rates) / len(rates), window_s * len(rates), by_minute)
        expected = window_s * sum(rates)
        check_count(expected, spelled("rates_rps") if by_minute else str(arrivals))
        lengths = workload if by_minute else source
        draw = partial(drawn, lengths, rates, arrivals.duration_s, cv=cv, warm_up=warm_up, cool_down=cool_down)

    def make(number: int) -> RequestSet:
        return sets(draw, options.seed, 1, first=number)[0]

    return _Requests(make, options.sets, expected, workload, workload, arrivals, notes)


def _as_recorded(trace: Trace, factors: Factors, warm_up: float, cool_down: float) -> _Requests:
    factors.refuse(("cv",), f"changes a workload; a {spelled('trace')} is taken as it is")
    if trace.waiting and cool_down:
        raise InputError(f"{spelled('cool_down')}: {trace.untimed}, so that no end is known; leave it out")
    span_s = float(trace.arrival_s[-1] - trace.arrival_s[0])
    one = from_trace(trace, warm_up * span_s, cool_down * span_s)
    workload = trace.workload(Path(trace.path).stem, rate_rps=one.rate_rps if span_s > 0.0 else 1.0)
    arrivals = Arrivals(trace=trace.path, waiting=trace.waiting)
    return _Requests(lambda _: one, 1, trace.requests, workload, trace, arrivals, trace.warnings)


def _workload(options: SimulateOptions, factors: Factors) -> tuple[Workload, Workload | Trace]:
    """The workload, and the source of lengths: the trace if the name is that of a trace file whose pairs are kept."""
    name, trace = options.workload, None
    if name in catalog.workloads() or Path(name).suffix in (".yaml", ".yml") or not Path(name).exists():
        workload = factors.workload(catalog.workload(name, options))
    else:
        trace = factors.trace(name, options, rate=False, times=False)
        workload = trace.workload(Path(name).stem)
    if options.independent:
        workload, trace = workload.independent(), None
    return workload, trace or workload
