"""Verified plans: the formulas guess, the proof proposes, the simulator judges, and the plan shows the evidence.

docs/reference/formulation.md, "Proving a plan", has the procedure; docs/explanation/design.md, "When a plan passes",
the rule.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from time import monotonic
from typing import Any, Final

import numpy as np

from provisioner.errors import InfeasibleError, InputError, Interrupted, UnknownNameError
from provisioner.judge import SimulationJudge
from provisioner.options import PlanOptions
from provisioner.options.defaults import MOST_SETS
from provisioner.planning.answer import (
    Setting,
    largest_by_formulas,
    plan_of,
    question_of,
    ranked,
    refuse_unbounded,
    with_sharing_designs,
)
from provisioner.planning.candidates import DesignLatency
from provisioner.planning.designs import Design
from provisioner.planning.explain import infeasible, why_not
from provisioner.planning.formulation import CRITERIA, Caps, Criterion
from provisioner.planning.lattice import Region, Sizes
from provisioner.planning.plan import (
    CAPACITY,
    ONLY_ONE,
    Alternative,
    BatchPlan,
    Evidence,
    LatencyFigure,
    Neighbour,
    Plan,
    PoolPlan,
)
from provisioner.planning.proof import Candidate, Judged, Problem, Proof, Verdict, prove
from provisioner.planning.proof_program import write_lp
from provisioner.planning.search import SMALLEST_RATE_RPS, Best, Search, largest_rate
from provisioner.results.simulation import Interval, Simulation
from provisioner.simulation.assemble import Scenario, assemble, observe, percentiles_of
from provisioner.simulation.policy import POLICIES
from provisioner.simulation.requests import RequestSet, drawn, from_trace
from provisioner.simulation.run import Prepared, compile_simulator, prepare
from provisioner.specs.metrics import REPORTED_PERCENTILES
from provisioner.specs.slo import LatencyLimit
from provisioner.specs.traces import Trace

METHOD: Final = "proven by simulation (docs/reference/simulation.md); the queueing formulas made the first guess"

# The work that a machine can do at best is taken as this much more: request sets differ in what they offer.
_OPTIMISM: Final = 1.1
# Pools are searched up to so many times the guess of the formulas, and at least to so many machines.
_ROOM: Final = 2.5
_LEAST_ROOM: Final = 24
# Designs in which two types share a role that are simulated, the best by the formulas: there are dozens.
_SHARING: Final = 4
_RATE_TOLERANCE: Final = 0.01
# The formulas' guess at a largest rate is found to this tolerance, and simulations step from it by this factor first.
_GUESS_TOLERANCE: Final = 0.02
_FIRST_STEP: Final = 1.05
# Rates at which a request set has fewer requests than this are not looked at.
_LEAST_REQUESTS: Final = 20.0
# A request set takes at least so many mean times of a request alone, so that growth can be told (``MIN_WINDOW``, less
# the part that is not looked at); where nothing but growth decides, three times as many; and so many times any limit.
_TOLD: Final = 7.0
_WINDOWS: Final = 20.0
_LIMITS: Final = 3.0
# but no more than this for a limit, in s: then growth alone tells what keeps up (``measure.instability``)
_SHARP_S: Final = 600.0
# However little time is left, the search for the cheapest cluster at a rate takes this long, in s.
_LEAST_TIME_S: Final = 1.0
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
    "against": None,
}
_REMEMBERED_SETS: Final = 4  # rates whose request sets are kept
BEYOND: Final = (1.01, 1.02, 1.04)
"""Multiples of the first failure at which verdicts are looked at once more: near saturation they flip."""


class RequestSets:
    """The request sets on which candidates are judged, made once each: the trace as it is, or drawn at the rate."""

    def __init__(self, setting: Setting, rate_rps: float) -> None:
        self.setting = setting
        self.rate_rps = rate_rps
        self._lock = Lock()
        self._made: dict[int, Prepared] = {}

    @property
    def count(self) -> int:
        """Sets to judge every candidate on: a trace as it is, one long set without limits, or as many as asked for.

        Without limits a cluster passes when it keeps up, and whether a delay grows is told better by one set than by
        several that are as long together.
        """
        return 1 if isinstance(self.setting.source, Trace) or not self.setting.slo.limits else self.setting.options.sets

    @property
    def set_s(self) -> float:
        """Time of one drawn set, in s: long enough to tell whether a delay grows, and to grow beyond limits.

        A limit of minutes would else be kept by clusters that never catch up.
        """
        options, job = self.setting.options, self.setting.job
        c = self.setting.traffic.classes
        alone_s = float(c.weight @ self.setting.reference.e2e_s(c.prompt_tokens, c.output_tokens))
        limits_s = [limit.value for limit in self.setting.slo.limits if limit.kind == "seconds"]
        if self.setting.slo.limits:
            beyond_s = min(_LIMITS * max(limits_s, default=0.0), _SHARP_S)
            return max(options.duration_s, _TOLD * alone_s, beyond_s)
        together_s = max(options.sets * options.duration_s, _WINDOWS * alone_s)
        return together_s if job is None else min(together_s, job.feed_s)

    def requests(self, k: int) -> RequestSet:
        """The k-th set."""
        source, options = self.setting.source, self.setting.options
        if isinstance(source, Trace):
            recorded = from_trace(source)
            factor = self.rate_rps / self.setting.rate_rps  # a headroom brings the requests closer together
            return recorded if factor == 1.0 else replace(recorded, arrival_s=recorded.arrival_s / factor)
        rng = np.random.default_rng([options.seed, k])
        cv = self.setting.traffic.cv if self.setting.job is None else 0.0
        return drawn(source, self.rate_rps, self.set_s, rng, cv=cv)

    def __call__(self, k: int) -> Prepared:
        """The k-th set, ready for runs."""
        with self._lock:
            if k not in self._made:
                self._made[k] = prepare(self.requests(k), self.setting.reference)
            return self._made[k]

    def described(self) -> str:
        """The sets in words."""
        first = self(0).requests
        if self.setting.job is not None:
            return f"the first {float(first.arrival_s[-1]):,.0f} s of the job, {first.requests:,} requests fed evenly"
        if isinstance(self.setting.source, Trace):
            faster = "" if self.rate_rps == self.setting.rate_rps else ", its requests closer together by the headroom"
            return f"the trace as it is: {first.requests:,} requests{faster}"
        options = self.setting.options
        number = "1 request set" if self.count == 1 else f"{options.sets} independent request sets"
        return f"{number} of {self.set_s:.6g} s, about {first.requests:,} requests each, the first 10 % a warm-up"

    def rule(self, confidence: float) -> str:
        """What a cluster is judged on, and when a percentile passes, in words."""
        if self.setting.job is not None:
            passes = "passes when it keeps up and the last request ends in time"
            return f"{self.described()}; a cluster {passes}, the delay growing to the end as it does in them"
        if not self.setting.slo.limits and not isinstance(self.setting.source, Trace):
            return f"{self.described()}; a cluster passes when it keeps up"
        if self.count == 1:
            return self.described()
        bound = f"the one-sided {100.0 * confidence:g} % upper bound of its mean over them is within the limit"
        most = f"with up to {MOST_SETS} sets where fewer leave it undecided"
        return f"{self.described()}; a percentile passes when {bound}, {most}"


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
    if setting.options.objective == "throughput":
        return largest_throughput(setting, progress, memory).plan
    found = proven(setting, progress, memory)
    if setting.options.write_lp is not None and found.proof.program.positions:
        write_lp(found.proof.program, setting.options.write_lp)
    plan = found.plan()
    if plan is None:
        raise found.why_none(progress)
    return plan


@dataclass(frozen=True, slots=True)
class Scope:
    """What narrows a proof beside its question.

    ``caps`` and ``time_limit_s`` are in place of the question's. ``least`` has the fewest machines of each pool of a
    design, ``starts`` sizes to begin with, ``excluded`` clusters that are known to fail clearly.
    """

    caps: Caps | None = None
    least: Mapping[Design, Sizes] = field(default_factory=dict)
    starts: Mapping[Design, Sizes] = field(default_factory=dict)
    excluded: tuple[Candidate, ...] = ()
    time_limit_s: float | None = None
    any_plan: bool = False


@dataclass(frozen=True, slots=True)
class Proven:
    """A proof with what it was made from: gives the plan, or the reason why there is none."""

    setting: Setting
    search: Search
    designs: tuple[Design, ...]
    sets: RequestSets
    judge: SimulationJudge
    proof: Proof

    def plan(self) -> Plan | None:
        """The best plan with its evidence, whole runs of it included; None where none passes."""
        best, rate_rps = self.proof.best, self.setting.rate_rps
        if best is None:
            return None
        return _plan(self.setting, self.search, self.judge, self.sets, self.proof, best, rate_rps)

    def why_none(self, progress: Callable[[str], None] = lambda _: None) -> InfeasibleError:
        """The error where nothing passes: the nearest miss, and what would do."""
        return _nothing_passes(self.setting, self.search, self.designs, self.judge, self.proof, progress)


def proven(
    setting: Setting,
    progress: Callable[[str], None] = lambda _: None,
    memory: Memory | None = None,
    scope: Scope | None = None,
    guesses: tuple[Search, tuple[Design, ...]] | None = None,
) -> Proven:
    """The proof of the best plan of a question, whose objective is not throughput, within a scope.

    ``guesses`` are those of another question at the same rate with the same machines, designs and stock.
    ``InfeasibleError`` where the formulas know that no number of machines is enough.
    """
    check_options(setting.options)
    search, designs = guesses or formulas_guess(setting, progress)
    _refuse_impossible(setting, search)
    compile_simulator(progress)
    sets, judge = _judge(setting, setting.traffic.peak_rps, memory or Memory())
    objective: Criterion = setting.options.objective  # type: ignore[assignment]
    proof = _prove(setting, search, designs, judge, objective, progress, scope or Scope())
    return Proven(setting, search, designs, sets, judge, proof)


def check_options(options: PlanOptions) -> None:
    """Refuse options of the verification that make no sense."""
    if not 0.5 < options.confidence < 1.0:
        raise InputError(f"--confidence: must be above 0.5 and below 1, got {options.confidence:g}")
    if not options.cut_margin > 1.0:
        raise InputError(f"--cut-margin: must be above 1 (times a limit), got {options.cut_margin:g}")
    if not 1 <= options.sets <= MOST_SETS:
        raise InputError(f"--seeds: must be from 1 to {MOST_SETS} request sets, got {options.sets}")
    if not options.duration_s > 0.0:
        raise InputError(f"--duration: must be above 0 s, got {options.duration_s:g}")
    if options.time_limit_s is not None and not options.time_limit_s > 0.0:
        raise InputError(f"--time-limit: must be above 0 s, got {options.time_limit_s}")
    if options.policy is not None and options.policy not in POLICIES:
        raise UnknownNameError("policy", options.policy, POLICIES)


def formulas_guess(setting: Setting, progress: Callable[[str], None]) -> tuple[Search, tuple[Design, ...]]:
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
        job=setting.job,
        known=known,
    )


def _prove(
    setting: Setting,
    search: Search,
    designs: Sequence[Design],
    judge: SimulationJudge,
    objective: Criterion,
    progress: Callable[[str], None],
    scope: Scope,
) -> Proof:
    caps = setting.caps if scope.caps is None else scope.caps
    guesses = {design: search.best((design,), objective, caps) for design in designs}
    problem = Problem(
        regions=tuple(_region(setting, search, design, guesses, judge, caps, scope) for design in designs),
        prices=setting.prices,
        caps=caps,
        objective=objective,
        exhaustive=setting.options.exhaustive,
        time_limit_s=setting.options.time_limit_s if scope.time_limit_s is None else scope.time_limit_s,
        solver=setting.options.solver,
        any_plan=scope.any_plan,
        excluded=scope.excluded,
    )
    try:
        return prove(problem, judge, progress)
    except KeyboardInterrupt:
        raise Interrupted(f"{judge.simulated_runs} runs simulated, the proof is not complete") from None


def _region(
    setting: Setting,
    search: Search,
    design: Design,
    guesses: dict[Design, Best | None],
    judge: SimulationJudge,
    caps: Caps,
    scope: Scope,
) -> Region:
    """The sizes of a design that could pass: enough for the prompts at best, within the caps and the scope."""
    pools = len(design.slots)
    least = scope.least.get(design, (1,) * pools)
    option = search.candidates[design]
    if option.reason or option.unattainable:  # no number of machines meets the limits
        return Region(design, least, (0,) * pools)
    guess = guesses[design]
    known = [max(found.sizes) for found in guesses.values() if found is not None]
    room = max(_LEAST_ROOM, math.ceil(_ROOM * max(guess.sizes if guess is not None else known, default=0)))
    if guess is None and not known:
        room = max(room, math.ceil(_ROOM * 2.0 * sum(_machines_at_best(setting, judge, design))))
    start = scope.starts.get(design, None if guess is None else guess.sizes)
    room += max((*least, *(start if design in scope.starts and start is not None else ()))) - 1
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
    return Region(design, least, tuple(most), _work(setting, judge, design), start)


def _machines_at_best(setting: Setting, judge: SimulationJudge, design: Design) -> tuple[float, ...]:
    """Machines of each pool's type that the prompts alone keep busy at best, one per pool."""
    requests = judge.request_sets(0).requests
    span_s = float(requests.arrival_s[-1] - requests.arrival_s[0])
    found = []
    for slot in design.slots:
        perf = setting.replicas[slot.kind]
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
        batch=None if setting.job is None else BatchPlan(setting.job, best.verdict.worst_ratio * setting.job.within_s),
        gap=proof.gap or 0.0,
        evidence=evidence,
        warnings=(*setting.warnings, *simulation.warnings, *_proof_warnings(proof)),
    )


def _simulated(
    setting: Setting, judge: SimulationJudge, sets: RequestSets, candidate: Candidate, count: int | None = None
) -> Simulation:
    """Whole runs of a candidate on the request sets that judged it, the first ``count`` of them."""
    scenario = Scenario(
        design=candidate.design.name,
        cluster=judge.cluster(candidate),
        reference=setting.reference,
        request_set=sets.requests,
        sets=sets.count if count is None else count,
        expected_requests=float(sets(0).requests.requests),
        percentiles=tuple(sorted({*REPORTED_PERCENTILES, *setting.slo.percentiles})),
        slo=setting.slo,
        workload=setting.workload,
        seed=setting.options.seed,
    )
    observations = []
    for done in judge.runs(candidate, count):
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
            each for each in simulation.latency if each.metric == old.metric and each.percentile == old.percentile
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
    if verdict.late is not None:
        names.append(f"done after {verdict.late:.3g} times the time that there is")
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
    counts = proof.counts
    return Evidence(
        rule=sets.rule(judge.confidence),
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
        free = _prove(setting, search, designs, judge, proof.program.order[0], progress, Scope(caps=Caps()))
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
                f"--{each.limit.metric}-p{each.limit.percentile:g} {_typed(each.limit, each.value)}" for each in known
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


@dataclass(frozen=True, slots=True)
class Throughput:
    """The largest rate at which some cluster passes, with the cheapest such cluster as a plan.

    At ``failed_rps`` none passes, the first failure to 1 %; at ``passes_again_rps``, rates somewhat above it, some do
    all the same. ``complete`` unless a time limit ended the search.
    """

    plan: Plan
    rate_rps: float
    failed_rps: float | None
    passes_again_rps: tuple[float, ...]
    complete: bool = True

    @property
    def note(self) -> str:
        """How sharp the largest rate is, in words."""
        passes = f"throughput: {self.rate_rps:.4g} requests/s pass"
        if self.failed_rps is None:
            return f"{passes}; the time limit was reached before a rate at which none does"
        if not self.complete:
            beyond = "the time limit was reached before rates beyond were tried"
        elif self.passes_again_rps:
            beyond = f"verdicts flip up to {max(self.passes_again_rps):.4g}"
        else:
            beyond = f"nor does any tried up to {self.failed_rps * BEYOND[-1]:.4g}"
        return f"{passes}, {self.failed_rps:.4g} do not, the first failure to 1 %; {beyond}"


class TimeIsUp(Exception):
    """The time limit of a search over rates is reached."""


class Rates:
    """What passes at which rate, for a question whose rate is open. Of lower rates it keeps what fails clearly there.

    ``setting`` has a traffic that is scaled to each rate. ``tried`` has the clusters judged by themselves with their
    verdicts, and ``passed`` all that were found to pass, by rate. ``TimeIsUp``: the question's time limit is reached.
    """

    def __init__(
        self, setting: Setting, progress: Callable[[str], None] = lambda _: None, memory: Memory | None = None
    ) -> None:
        check_options(setting.options)
        if setting.job is not None:
            raise InputError("--backlog: has its own rate; ask for the capacity of a cluster with --slo batch alone")
        self.setting = setting
        self.progress = progress
        self.memory = memory or Memory()
        self.tried: list[tuple[float, Candidate, Verdict]] = []
        self.passed: list[tuple[float, Candidate]] = []
        limit_s = setting.options.time_limit_s
        self._ends_at = math.inf if limit_s is None else monotonic() + limit_s
        self._unit = setting.traffic.scaled(1.0 / setting.traffic.peak_rps)
        self._clear: list[tuple[float, Candidate]] = []

    def at(self, rate_rps: float) -> Setting:
        """The question at a rate, which has the headroom in it."""
        served = rate_rps / (1.0 + self.setting.options.headroom)
        return replace(self.setting, traffic=self._unit.scaled(rate_rps), rate_rps=served)

    @property
    def time_left_s(self) -> float:
        """Time left of the limit, in s; infinite without one."""
        return self._ends_at - monotonic()

    def verdict(self, candidate: Candidate, rate_rps: float) -> Verdict:
        """The verdict on one cluster at a rate."""
        if self.time_left_s <= 0.0:
            raise TimeIsUp
        self.progress(f"does {candidate} hold {rate_rps:.4g} requests/s?")
        found = self.judge(rate_rps)[1].judge(candidate)
        self.tried.append((rate_rps, candidate, found))
        if found.passes:
            self.passed.append((rate_rps, candidate))
        if found.clear:
            self._clear.append((rate_rps, candidate))
        return found

    def judge(self, rate_rps: float) -> tuple[RequestSets, SimulationJudge]:
        """The request sets at a rate, and the judge on them."""
        return _judge(self.at(rate_rps), rate_rps, self.memory)

    def simulation(self, candidate: Candidate, rate_rps: float) -> Simulation:
        """Whole runs of a cluster at a rate, on as many request sets as it takes to decide about every limit."""
        sets, judge = self.judge(rate_rps)
        count = judge.sets
        while True:
            found = _simulated(self.at(rate_rps), judge, sets, candidate, count)
            outcomes = {each.met for each in found.latency}
            if "undecided" not in outcomes or "fail" in outcomes or count in (1, MOST_SETS):
                return found
            count = min(count + judge.sets, MOST_SETS)

    def largest(self, candidate: Candidate, start_rps: float) -> tuple[float, float]:
        """The largest rate of one cluster below its first failure, and that failure, to 1 %; from a start nearby."""
        return largest_rate(
            lambda rate_rps: self.verdict(candidate, rate_rps).passes,
            start_rps,
            _RATE_TOLERANCE,
            _FIRST_STEP,
            self.smallest_rps,
        )

    @property
    def smallest_rps(self) -> float:
        """The smallest rate looked at: below, a request set has too few requests to say anything."""
        return max(SMALLEST_RATE_RPS, _LEAST_REQUESTS / self.setting.options.duration_s)

    def some(self, rate_rps: float, starts: Mapping[Design, Sizes]) -> Candidate | None:
        """A cluster within the caps that passes at a rate; None where it is proven that there is none.

        What fails clearly at a lower rate is taken to fail at this one, as smaller clusters are.
        """
        if self.time_left_s <= 0.0:
            raise TimeIsUp
        self.progress(f"is {rate_rps:.4g} requests/s possible?")
        excluded = tuple(candidate for rate, candidate in self._clear if rate <= rate_rps)
        limit_s = None if math.isinf(self._ends_at) else self.time_left_s
        scope = Scope(starts=starts, excluded=excluded, time_limit_s=limit_s, any_plan=True)
        proof = self._proven(rate_rps, scope).proof
        if proof.best is not None:
            self.passed.append((rate_rps, proof.best.candidate))
            return proof.best.candidate
        if not proof.optimal:
            raise TimeIsUp
        self._clear += [(rate_rps, each) for each in proof.cuts]
        return None

    def cheapest(self, rate_rps: float, start: Candidate) -> Proven:
        """The cheapest cluster within the caps that passes at a rate, beginning with one that does."""
        limit_s = None if math.isinf(self._ends_at) else max(self.time_left_s, _LEAST_TIME_S)
        scope = Scope(starts={start.design: start.sizes}, time_limit_s=limit_s)
        return self._proven(rate_rps, scope)

    def _proven(self, rate_rps: float, scope: Scope) -> Proven:
        there, designs = self.at(rate_rps), self.setting.designs
        search = there.search()
        sets, judge = self.judge(rate_rps)
        proof = _prove(there, search, designs, judge, "cost", lambda _: None, scope)
        return Proven(there, search, designs, sets, judge, proof)


def largest_throughput(
    setting: Setting, progress: Callable[[str], None] = lambda _: None, memory: Memory | None = None
) -> Throughput:
    """The largest rate at which some cluster within the caps passes, to 1 %, and the cheapest such cluster at it.

    From a cluster that the formulas think best: its own largest rate, then any cluster that passes at 1 % more, its
    largest rate, and so on until it is proven that none does.
    """
    if setting.options.write_lp is not None:
        raise InputError("--write-lp: --objective throughput solves many programs; write the one of --objective cost")
    if isinstance(setting.source, Trace):
        raise InputError("--objective throughput: a --trace has its own rate; give its file to --workload")
    refuse_unbounded(setting)
    compile_simulator(progress)
    rates = Rates(setting, progress, memory)
    failed: float | None = None
    flips: list[float] = []
    complete = False
    candidate, rate = None, 0.0
    try:
        candidate, rate = _some_rate(rates)
        while candidate is not None:
            beyond = rate * (1.0 + _RATE_TOLERANCE)
            better = rates.some(beyond, {candidate.design: candidate.sizes})
            if better is None:
                failed = beyond
                flips += [at for factor in BEYOND if rates.some(at := factor * failed, {}) is not None]
                break
            candidate, (rate, _) = better, rates.largest(better, beyond)
        complete = True
    except TimeIsUp:
        if failed is None and not rates.passed:
            raise InfeasibleError(
                "the time limit was reached before any rate was found to pass",
                binding="--time-limit",
                relaxations=("a longer --time-limit, or --fast for the formulas' answer",),
            ) from None
        if failed is None:
            rate, candidate = max(rates.passed, key=lambda each: each[0])
    if candidate is None:
        unit = setting.traffic.scaled(1.0 / setting.traffic.peak_rps)
        raise infeasible(setting, setting.search(unit.scaled(SMALLEST_RATE_RPS)), "cost")
    progress(f"the cheapest cluster at {rate:.4g} requests/s")
    plan = rates.cheapest(rate, candidate).plan()
    assert plan is not None
    found = Throughput(plan, rate, failed, tuple(flips), complete)
    warnings = (*plan.warnings, found.note)
    plan = replace(plan, objective="throughput", question=question_of(setting.options), warnings=warnings)
    return replace(found, plan=plan)


def _some_rate(rates: Rates) -> tuple[Candidate | None, float]:
    """A cluster that passes at some rate, by the formulas the best, and its largest rate; (None, 0) without any."""
    setting = rates.setting
    guesses = []
    for design in setting.designs:
        rates.progress(f"a first guess by the formulas: {design.name}")
        guess = largest_by_formulas(setting, (design,), setting.traffic.peak_rps, tolerance=_GUESS_TOLERANCE)
        if guess is not None:
            guesses.append((guess[0], Candidate(design, guess[1].sizes)))
    guesses.sort(key=lambda guess: -guess[0])
    rate = setting.traffic.peak_rps
    if guesses:
        rate, candidate = guesses[0]
        low, _ = rates.largest(candidate, rate)
        if low > 0.0:
            return candidate, low
    starts = {candidate.design: candidate.sizes for _, candidate in guesses}
    while rate >= rates.smallest_rps:
        some = rates.some(rate, starts)
        if some is not None:
            return some, rates.largest(some, rate)[0]
        rate /= 2.0
    return None, 0.0
