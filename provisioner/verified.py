"""Verified plans: the formulas guess, the proof proposes, the simulator judges, and the plan shows the evidence.

docs/formulation.md, "Proving a plan", has the procedure; docs/design.md, "When a plan passes", the rule.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import numpy as np

from provisioner.errors import InfeasibleError, InputError, UnknownNameError
from provisioner.judge import MOST_SETS, SimulationJudge
from provisioner.options import PlanOptions
from provisioner.planning.answer import Setting, plan_of, question_of, ranked, refuse_unbounded, with_sharing_designs
from provisioner.planning.candidates import DesignLatency
from provisioner.planning.designs import Design
from provisioner.planning.explain import infeasible, why_not
from provisioner.planning.formulation import CRITERIA, Caps, Criterion
from provisioner.planning.lattice import Region, Sizes
from provisioner.planning.plan import (
    CAPACITY,
    ONLY_ONE,
    Alternative,
    Evidence,
    LatencyFigure,
    Neighbour,
    Plan,
    PoolPlan,
)
from provisioner.planning.proof import Candidate, Judged, Problem, Proof, Verdict, prove
from provisioner.planning.proof_program import write_lp
from provisioner.planning.search import SMALLEST_RATE_RPS, Best, Search, largest_rate
from provisioner.simulation.assemble import Scenario, assemble, observe, percentiles_of
from provisioner.simulation.policy import POLICIES
from provisioner.simulation.requests import RequestSet, drawn, from_trace
from provisioner.simulation.result import Interval, Simulation
from provisioner.simulation.run import Prepared, compile_simulator, prepare
from provisioner.specs.slo import PERCENTILES, QUANTILE, LatencyLimit
from provisioner.specs.traces import Trace

METHOD: Final = "proven by simulation (docs/simulation.md); the queueing formulas made the first guess"

# The work that a machine can do at best is taken as this much more: request sets differ in what they offer.
_OPTIMISM: Final = 1.1
# Pools are searched up to so many times the guess of the formulas, and at least to so many machines.
_ROOM: Final = 2.5
_LEAST_ROOM: Final = 24
# Designs in which two types share a role that are simulated, the best by the formulas: there are dozens.
_SHARING: Final = 4
_RATE_TOLERANCE: Final = 0.01
# Options on which no verdict depends.
_CHOOSES: Final[Mapping[str, Any]] = {
    "designs": (),
    "machines": (),
    "objective": "cost",
    "max_cost_usd_per_h": None,
    "max_power_w": None,
    "max_machines": None,
    "stock": {},
    "prices": "",
    "solver": "",
    "write_lp": None,
    "fast": False,
    "exhaustive": False,
    "time_limit_s": None,
}
_REMEMBERED_SETS: Final = 4  # rates whose request sets are kept
# Multiples of the first failure at which verdicts are looked at once more: near saturation they flip.
_BEYOND: Final = (1.01, 1.02, 1.04)


class RequestSets:
    """The request sets on which candidates are judged, made once each: the trace as it is, or drawn at the rate."""

    def __init__(self, setting: Setting, rate_rps: float) -> None:
        self.setting = setting
        self.rate_rps = rate_rps
        self._lock = Lock()
        self._made = lru_cache(maxsize=MOST_SETS)(self._make)

    @property
    def count(self) -> int:
        """Sets on which every candidate is judged: one trace as it is, or as many as asked for."""
        return 1 if isinstance(self.setting.source, Trace) else self.setting.options.sets

    def requests(self, k: int) -> RequestSet:
        """The k-th set."""
        source, options = self.setting.source, self.setting.options
        if isinstance(source, Trace):
            recorded = from_trace(source)
            factor = self.rate_rps / self.setting.rate_rps  # a headroom brings the requests closer together
            return recorded if factor == 1.0 else replace(recorded, arrival_s=recorded.arrival_s / factor)
        rng = np.random.default_rng([options.seed, k])
        return drawn(source, self.rate_rps, options.duration_s, rng, cv=self.setting.traffic.cv)

    def _make(self, k: int) -> Prepared:
        return prepare(self.requests(k), self.setting.reference)

    def __call__(self, k: int) -> Prepared:
        """The k-th set, ready for runs."""
        with self._lock:
            return self._made(k)

    def described(self) -> str:
        """The sets in words."""
        first = self(0).requests
        if isinstance(self.setting.source, Trace):
            faster = "" if self.rate_rps == self.setting.rate_rps else ", its requests closer together by the headroom"
            return f"the trace as it is: {first.requests:,} requests{faster}"
        options = self.setting.options
        number = "1 request set" if options.sets == 1 else f"{options.sets} independent request sets"
        return f"{number} of {options.duration_s:g} s, about {first.requests:,} requests each, the first 10 % a warm-up"


class Memory:
    """Verdicts and request sets, for questions that differ in prices, caps, objective or designs only.

    A cluster that was simulated for one of them is not simulated for another.
    """

    def __init__(self) -> None:
        self._verdicts: dict[str, dict[Candidate, Verdict]] = {}
        self._sets: OrderedDict[str, RequestSets] = OrderedDict()
        self._lock = Lock()

    def judged(self, setting: Setting, rate_rps: float) -> tuple[RequestSets, dict[Candidate, Verdict]]:
        """The request sets of a question at a rate, and the verdicts that are known on them."""
        key = self._key(setting, rate_rps)
        with self._lock:
            sets = self._sets.pop(key, None) or RequestSets(setting, rate_rps)
            self._sets[key] = sets
            if len(self._sets) > _REMEMBERED_SETS:
                self._sets.popitem(last=False)
            return sets, self._verdicts.setdefault(key, {})

    @staticmethod
    def _key(setting: Setting, rate_rps: float) -> str:
        """What verdicts depend on: every option but those that only choose among clusters, or how to search them."""
        options = setting.options
        scale = {name: factor for name, factor in options.scale.items() if name.split(":")[0] not in ("price", "power")}
        same = replace(options, scale=scale, **_CHOOSES)
        return f"{rate_rps!r} {setting.slo} {same}"


def verified(setting: Setting, progress: Callable[[str], None] = lambda _: None, memory: Memory | None = None) -> Plan:
    """The best plan that the simulator accepts, with the proof; ``InfeasibleError`` with the nearest miss for none.

    ``memory`` has what was simulated for other questions, and keeps what is simulated for this one.
    """
    _check(setting.options)
    memory = memory or Memory()
    if setting.options.objective == "throughput":
        return _largest_throughput(setting, progress, memory)
    search, designs = _guesses(setting, progress)
    _refuse_impossible(setting, search)
    compile_simulator(progress)
    sets, judge = _judge(setting, setting.traffic.peak_rps, memory)
    proof = _prove(setting, search, designs, judge, setting.options.objective, progress)
    if setting.options.write_lp is not None and proof.program.positions:
        write_lp(proof.program, setting.options.write_lp)
    if proof.best is None:
        raise _nothing_passes(setting, search, designs, judge, proof, progress)
    return _plan(setting, search, judge, sets, proof, proof.best, setting.rate_rps)


def _check(options: PlanOptions) -> None:
    """Refuse options of the verification that make no sense."""
    if not 0.5 < options.confidence < 1.0:
        raise InputError(f"--confidence: must be above 0.5 and below 1, got {options.confidence:g}")
    if not options.cut_margin > 1.0:
        raise InputError(f"--cut-margin: must be above 1 (times a limit), got {options.cut_margin:g}")
    if not 1 <= options.sets <= MOST_SETS:
        raise InputError(f"--seeds: must be from 1 to {MOST_SETS} request sets, got {options.sets}")
    if options.policy is not None and options.policy not in POLICIES:
        raise UnknownNameError("policy", options.policy, POLICIES)


def _guesses(setting: Setting, progress: Callable[[str], None]) -> tuple[Search, tuple[Design, ...]]:
    """The formulas' search, and the designs to prove over: with those that share a role where stock is short."""
    search = setting.search()
    objective: Criterion = "cost" if setting.options.objective == "throughput" else setting.options.objective
    sharing = with_sharing_designs(setting, search, objective, progress)
    best = [found for design in sharing if (found := search.best((design,), objective)) is not None]
    best.sort(key=lambda found: tuple(found.totals.values()))
    return search, (*setting.designs, *(found.design for found in best[:_SHARING]))


def _refuse_impossible(setting: Setting, search: Search) -> None:
    """Raise what the formulas know for certain: no design meets the limits even without any queue."""
    if all(not option.feasible and (option.reason or option.unattainable) for option in search.candidates.values()):
        raise infeasible(setting, search, "cost")


def _judge(setting: Setting, rate_rps: float, memory: Memory) -> tuple[RequestSets, SimulationJudge]:
    options = setting.options
    sets, known = memory.judged(setting, rate_rps)
    for k in range(sets.count):
        sets(k)
    return sets, SimulationJudge(
        setting.replicas,
        setting.slo,
        sets,
        sets.count,
        policy=options.policy,  # type: ignore[arg-type]
        confidence=options.confidence,
        cut_margin=options.cut_margin,
        known=known,
    )


def _prove(
    setting: Setting,
    search: Search,
    designs: Sequence[Design],
    judge: SimulationJudge,
    objective: Criterion,
    progress: Callable[[str], None],
    caps: Caps | None = None,
    any_plan: bool = False,
) -> Proof:
    caps = setting.caps if caps is None else caps
    guesses = {design: search.best((design,), objective, caps) for design in designs}
    problem = Problem(
        regions=tuple(_region(setting, search, design, guesses, judge, caps) for design in designs),
        prices=setting.prices,
        caps=caps,
        objective=objective,
        exhaustive=setting.options.exhaustive,
        time_limit_s=setting.options.time_limit_s,
        solver=setting.options.solver,
        any_plan=any_plan,
    )
    try:
        return prove(problem, judge, progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{judge.simulated_runs} runs simulated, the proof is not complete") from None


def _region(
    setting: Setting,
    search: Search,
    design: Design,
    guesses: dict[Design, Best | None],
    judge: SimulationJudge,
    caps: Caps,
) -> Region:
    """The sizes of a design that could pass: enough for the prompts at best, and within the caps."""
    pools = len(design.slots)
    option = search.candidates[design]
    if option.reason or option.unattainable:  # no number of machines meets the limits
        return Region(design, (1,) * pools, (0,) * pools)
    guess = guesses[design]
    known = [max(found.sizes) for found in guesses.values() if found is not None]
    room = max(_LEAST_ROOM, math.ceil(_ROOM * max(guess.sizes if guess is not None else known, default=0)))
    if guess is None and not known:
        room = max(room, math.ceil(_ROOM * 2.0 * sum(_machines_at_best(setting, judge, design))))
    most = []
    for slot in design.slots:
        name = slot.machine.name
        bounds = [room, caps.stock.get(name, room)]
        for criterion, unit in (
            ("cost", setting.prices.cost_usd_per_h[name]),
            ("power", setting.prices.power_w[name]),
            ("machines", 1.0),
        ):
            cap = caps.of(criterion)  # type: ignore[arg-type]
            if cap is not None:
                bounds.append(math.floor(cap / unit * (1.0 + 1e-9)))
        most.append(min(bounds))
    start = None if guess is None else guess.sizes
    return Region(design, (1,) * pools, tuple(most), _work(setting, judge, design), start)


def _machines_at_best(setting: Setting, judge: SimulationJudge, design: Design) -> tuple[float, ...]:
    """Machines of each pool's type that the prompts alone keep busy at best, one per pool."""
    requests = judge.request_sets(0).requests
    span_s = float(requests.arrival_s[-1] - requests.arrival_s[0])
    found = []
    for slot in design.slots:
        perf = setting.replicas[slot.machine.name]
        prompt = requests.prompt_tokens
        inside = prompt >= slot.min_prompt_tokens
        if slot.max_prompt_tokens is not None:
            inside &= prompt <= slot.max_prompt_tokens
        limit = judge.policy_of(design).batch_tokens
        tokens = np.arange(1.0, limit + 1.0)
        least_s = float(np.min(np.asarray(perf.prompt_s(tokens)) / tokens))
        alone_s = np.asarray(perf.prompt_s(prompt[inside].astype(np.float64)))
        each_s = np.minimum(alone_s, least_s * prompt[inside])
        found.append(float(each_s.sum()) / max(span_s, 1e-9) / perf.replicas_per_machine / _OPTIMISM)
    return tuple(found)


def _work(setting: Setting, judge: SimulationJudge, design: Design) -> tuple[tuple[float, ...], ...]:
    """Rows of the optimistic bound: the prompts' work must fit the machines that may run prompts.

    With a mixed pool every machine may; the work of tokens is left out, since they may ride along with prompts.
    """
    needed = _machines_at_best(setting, judge, design)
    lends = judge.policy_of(design).name == "splitwise"
    runs = [lends or slot.role != "token" for slot in design.slots]
    if design.shares_role:
        return ()
    return (tuple(1.0 / n if may and n > 0.0 else 0.0 for n, may in zip(needed, runs, strict=True)),)


def _plan(
    setting: Setting,
    search: Search,
    judge: SimulationJudge,
    sets: RequestSets,
    proof: Proof,
    best: Judged,
    rate_rps: float,
) -> Plan:
    """The plan with its evidence: figures from whole runs of the chosen cluster on all its request sets."""
    candidate = best.candidate
    simulation = _simulated(setting, judge, sets, candidate)
    traffic = setting.traffic.scaled(sets.rate_rps / setting.traffic.peak_rps)
    objective: Criterion = proof.program.order[0]
    as_best = Best(
        candidate.design, candidate.sizes, dict(best.totals), DesignLatency(search.question, candidate.design)
    )
    alternatives = [
        _alternative(setting, search, proof, design, objective)
        for design in setting.designs
        if design != candidate.design
    ]
    base = plan_of(setting, traffic, as_best, ranked(alternatives, objective), rate_rps)
    evidence = _evidence(judge, sets, proof, candidate.design)
    bindings = [_binding(proof, candidate, position) for position in range(len(candidate.sizes))]
    pools = tuple(
        replace(
            pool,
            utilization=found.utilization,
            mean_batch=found.mean_batch if pool.role != "prompt" else None,
            binding=binding,
        )
        for pool, found, binding in zip(base.pools, simulation.pools, bindings, strict=True)
    )
    return replace(
        base,
        pools=pools,
        latency=_figures(setting, simulation, pools, base.latency),
        method=METHOD,
        gap=proof.gap or 0.0,
        evidence=evidence,
        warnings=(*setting.warnings, *simulation.warnings, *_proof_warnings(proof)),
    )


def _simulated(setting: Setting, judge: SimulationJudge, sets: RequestSets, candidate: Candidate) -> Simulation:
    """Whole runs of a candidate on the request sets that judged it."""
    scenario = Scenario(
        design=candidate.design.name,
        cluster=judge.cluster(candidate),
        reference=setting.reference,
        request_set=sets.requests,
        sets=sets.count,
        expected_requests=float(sets(0).requests.requests),
        percentiles=tuple(100.0 * QUANTILE[p] for p in PERCENTILES),
        slo=setting.slo,
        workload=setting.workload,
        seed=setting.options.seed,
    )
    observations = []
    for done in judge.runs(candidate):
        observations.append(observe(done, percentiles_of(done.latencies, scenario.percentiles), done.wall_s))
    return assemble(scenario, observations)


def _figures(
    setting: Setting, simulation: Simulation, pools: tuple[PoolPlan, ...], predicted: Sequence[LatencyFigure]
) -> tuple[LatencyFigure, ...]:
    """The simulated percentiles beside their limits, with their intervals."""
    binding = {name for pool in pools for name in pool.binding}
    figures = []
    for old in predicted:
        found = next(
            each
            for each in simulation.latency
            if each.metric == old.metric and math.isclose(each.percentile, 100.0 * QUANTILE[old.percentile])  # type: ignore[index]
        )
        limit = old.limit
        value = found.seconds.mean if limit is not None and limit.kind == "seconds" else found.slowdown.mean
        figures.append(
            replace(
                old,
                seconds=found.seconds.mean,
                slowdown=found.slowdown.mean,
                slack=None if limit is None else 1.0 - value / limit.value,
                binding=limit is not None and limit.label in binding,
                seconds_range=_range(found.seconds),
                slowdown_range=_range(found.slowdown),
                predicted_seconds=old.seconds,
                predicted_slowdown=old.slowdown,
            )
        )
    return tuple(figures)


def _range(interval: Interval) -> tuple[float, float] | None:
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


def _broken(verdict: Verdict) -> tuple[str, ...]:
    """What a verdict breaks, in words."""
    names = [
        f"{each.limit.label} {'at least ' if verdict.early else ''}{each.limit.format(each.value)} of "
        f"{each.limit.format(each.limit.value)}"
        for each in sorted(verdict.ratios, key=lambda each: -each.ratio)
        if each.ratio > 1.0
    ]
    if not verdict.stable:
        names.append("not stable")
    if verdict.outcome == "undecided":
        names.append("undecided (a confidence bound is beyond its limit)")
    return tuple(names)


def _binding(proof: Proof, best: Candidate, position: int) -> tuple[str, ...]:
    """What breaks when one pool loses a machine: limits by name, or its capacity."""
    sizes = tuple(n - (i == position) for i, n in enumerate(best.sizes))
    if sizes[position] == 0:
        return (ONLY_ONE,)
    for judged in proof.simulated:
        if judged.candidate.design == best.design and judged.candidate.sizes == sizes:
            labels = [each.limit.label for each in judged.verdict.ratios if each.ratio > 1.0]
            return tuple(labels) if labels and judged.verdict.stable else (CAPACITY,)
    return (CAPACITY,)


def _neighbour(judged: Judged) -> Neighbour:
    candidate, verdict = judged.candidate, judged.verdict
    slots = zip(candidate.design.slots, candidate.sizes, strict=True)
    return Neighbour(
        design=candidate.design.name,
        pools=tuple((slot.role, slot.machine.name, n) for slot, n in slots),
        cost_usd_per_h=judged.totals["cost"],
        power_w=judged.totals["power"],
        machines=int(judged.totals["machines"]),
        breaks=_broken(verdict),
        worst_ratio=verdict.worst_ratio,
        at_least=verdict.early,
    )


def _evidence(judge: SimulationJudge, sets: RequestSets, proof: Proof, design: Design) -> Evidence:
    rule = sets.described()
    if sets.count > 1:
        bound = f"the one-sided {100.0 * judge.confidence:g} % upper bound of its mean over them is within the limit"
        rule += f"; a percentile passes when {bound}, with up to {MOST_SETS} sets where fewer leave it undecided"
    counts = proof.counts
    return Evidence(
        rule=rule,
        policy=judge.policy_of(design).name,
        optimal=proof.optimal and proof.ties_judged,
        lower_bound=proof.lower_bound,
        gap=proof.gap or 0.0,
        simulated=counts.simulated,
        runs=judge.simulated_runs,
        rejected_early=counts.rejected_early,
        near_misses=counts.near_misses,
        undecided=counts.undecided,
        cut=counts.cut,
        cut_margin=judge.cut_margin,
        exhaustive=proof.exhaustive,
        neighbours=tuple(map(_neighbour, proof.failing_neighbours)),
        violations=tuple(f"{each.passes.candidate} passes, {each.fails.candidate} fails" for each in proof.violations),
        by_design=tuple((each.design.name, each.candidates, each.simulated, each.cut) for each in counts.designs),
    )


def _alternative(setting: Setting, search: Search, proof: Proof, design: Design, objective: Criterion) -> Alternative:
    """Another design: its best simulated plan, or what the formulas find if that is worse, or why it has none."""
    assert proof.best is not None
    best = proof.best.totals
    judged = [each for each in proof.simulated if each.candidate.design == design]
    passed = [each for each in judged if each.verdict.passes]
    if passed:
        least = min(passed, key=lambda each: tuple(each.totals.values()))
        return _as_alternative(design, least.candidate.sizes, least.totals, best, "simulated")
    guess = search.best((design,), objective)
    if guess is not None and tuple(guess.totals.values()) > tuple(best.values()):
        return _as_alternative(design, guess.sizes, guess.totals, best, "formulas")
    option = search.candidates[design]
    reasons = (
        [why_not(search, design)] if guess is None and (option.reason or option.unattainable or not judged) else []
    )
    known = next((each for each in proof.counts.designs if each.design == design), None)
    if known is not None and known.candidates:
        reasons.append(f"none of its {known.candidates:,} clusters that would be as good passes")
    near = _nearest(judged)
    if near:
        reasons.append(f"nearest {near}")
    return Alternative(design.name, False, (), None, None, None, None, "; ".join(reasons), basis="simulated")


def _as_alternative(
    design: Design, sizes: Sizes, totals: Mapping[Criterion, float], best: Mapping[Criterion, float], basis: str
) -> Alternative:
    """A design with its sizes, and by how much it loses in the first criterion that differs."""
    reason = "equal in every criterion; less slack"
    for criterion in best:
        ratio = totals[criterion] / best[criterion]
        if abs(ratio - 1.0) > 1e-9:
            reason = f"{100.0 * (ratio - 1.0):.1f} % more {criterion}"
            break
    return Alternative(
        design=design.name,
        feasible=True,
        pools=tuple((slot.role, slot.machine.name, n) for slot, n in zip(design.slots, sizes, strict=True)),
        cost_usd_per_h=totals["cost"],
        power_w=totals["power"],
        machines=int(totals["machines"]),
        rate_rps=None,
        reason=reason if basis == "simulated" else f"{reason} (formulas)",
        basis=basis,
    )


def _nearest(failed: Sequence[Judged]) -> str:
    """The nearest miss among simulated candidates, in words; "" without any."""
    known = [each for each in failed if not each.verdict.early and math.isfinite(each.verdict.worst_ratio)] or failed
    if not known:
        return ""
    near = min(known, key=lambda each: each.verdict.worst_ratio)
    return f"{' + '.join(map(str, near.candidate.sizes))}: {', '.join(_broken(near.verdict)[:1])}"


def _proof_warnings(proof: Proof) -> tuple[str, ...]:
    notes = []
    if not (proof.optimal and proof.ties_judged):
        criterion = proof.program.order[0]
        notes.append(
            f"the time limit was reached before the proof was complete: no plan has less {criterion} than "
            f"{proof.lower_bound:g}, so this one is at most {proof.gap or 0.0:.1%} from the best"
        )
    return tuple(notes)


def _nothing_passes(
    setting: Setting,
    search: Search,
    designs: Sequence[Design],
    judge: SimulationJudge,
    proof: Proof,
    progress: Callable[[str], None],
) -> InfeasibleError:
    """The error where no candidate passes: the nearest miss, and what would do."""
    miss = proof.nearest_miss
    texts: list[str] = []
    binding = "the limits together"
    caps = setting.caps
    if caps.any:
        progress("nothing within the limits passes; looking for what would")
        free = _prove(setting, search, designs, judge, proof.program.order[0], progress, caps=Caps())
        if free.best is not None:
            flags: dict[Criterion, str] = {"cost": "--max-cost", "power": "--max-power", "machines": "--max-machines"}
            needed = []
            for criterion in CRITERIA:
                cap = caps.of(criterion)
                value = free.best.totals[criterion]
                if cap is not None and value > cap * (1.0 + 1e-9):
                    needed.append(f"{flags[criterion]} {math.ceil(value * (1.0 - 1e-9))}")
                    if binding == "the limits together":
                        binding = f"{flags[criterion]} {cap:g}"
            for name, available in caps.stock.items():
                slots = zip(free.best.candidate.design.slots, free.best.candidate.sizes, strict=True)
                used = sum(n for slot, n in slots if slot.machine.name == name)
                if used > available:
                    needed.append(f"--stock {name}={used}")
                    binding = "--stock" if binding == "the limits together" else binding
            texts.append(f"{' '.join(needed)} ({free.best.candidate}, which passes)")
    if miss is not None:
        broken = _broken(miss.verdict)
        known = [each for each in miss.verdict.ratios if each.ratio > 1.0 and math.isfinite(each.value)]
        if known and not miss.verdict.early and miss.verdict.stable:
            changes = " ".join(
                f"--{each.limit.metric}-{each.limit.percentile} {_typed(each.limit, each.value)}" for each in known
            )
            texts.append(f"{changes} ({miss.candidate})")
            binding = known[0].limit.label if binding == "the limits together" else binding
        nearest = f"; the nearest miss is {miss.candidate}: {', '.join(broken)}"
    else:
        nearest = ""
    done = proof.counts.simulated
    how = "it is proven that none does" if proof.optimal else "the time limit was reached"
    return InfeasibleError(
        f"no plan passes simulation ({done} simulated; {how}){nearest}", binding=binding, relaxations=tuple(texts)
    )


def _typed(limit: LatencyLimit, value: float) -> str:
    """A limit just above a simulated value, as it is typed."""
    value *= 1.01
    return f"{value:.4g}x" if limit.kind == "slowdown" else f"{math.ceil(value * 1e4) / 10.0:.1f}ms"


def _largest_throughput(setting: Setting, progress: Callable[[str], None], memory: Memory) -> Plan:
    """The largest rate at which some cluster within the caps passes, to 1 %, and the cheapest such cluster at it."""
    if setting.options.write_lp is not None:
        raise InputError("--write-lp: --objective throughput solves many programs; write the one of --objective cost")
    if isinstance(setting.source, Trace):
        raise InputError("--objective throughput: a --trace has its own rate; give its file to --workload")
    refuse_unbounded(setting)
    compile_simulator(progress)
    unit = setting.traffic.scaled(1.0 / setting.traffic.peak_rps)

    def at(rate_rps: float, any_plan: bool) -> tuple[Search, RequestSets, SimulationJudge, Proof]:
        there = replace(setting, traffic=unit.scaled(rate_rps))
        search = there.search()
        sets, judge = _judge(there, rate_rps, memory)
        proof = _prove(there, search, setting.designs, judge, "cost", lambda _: None, any_plan=any_plan)
        return search, sets, judge, proof

    def feasible_at(rate_rps: float) -> bool:
        progress(f"is {rate_rps:.4g} requests/s possible?")
        return at(rate_rps, True)[3].best is not None

    rate, failed = largest_rate(feasible_at, setting.traffic.peak_rps, _RATE_TOLERANCE)
    if rate < SMALLEST_RATE_RPS:
        raise infeasible(setting, setting.search(unit.scaled(SMALLEST_RATE_RPS)), "cost")
    flips = [factor * failed for factor in _BEYOND if feasible_at(factor * failed)]
    progress(f"the cheapest cluster at {rate:.4g} requests/s")
    search, sets, judge, proof = at(rate, False)
    assert proof.best is not None
    served = rate / (1.0 + setting.options.headroom)
    there = replace(setting, traffic=unit.scaled(rate))
    plan = _plan(there, search, judge, sets, proof, proof.best, served)
    beyond = (
        f"verdicts flip up to {max(flips):.4g}" if flips else f"nor does any tried up to {failed * _BEYOND[-1]:.4g}"
    )
    note = f"throughput: {rate:.4g} requests/s pass, {failed:.4g} do not, the first failure to 1 %; {beyond}"
    return replace(plan, objective="throughput", question=question_of(setting.options), warnings=(*plan.warnings, note))
