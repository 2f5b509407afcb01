"""The judge of plans: a cluster passes when simulations of it meet every limit.

The rule is in docs/explanation/design.md, "When a plan passes".
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from itertools import product
from operator import and_
from threading import Lock
from typing import Any, Final, TypeVar

import numpy as np

from provisioner.deadline import TimeIsUp, check_time
from provisioner.options.defaults import (
    CONFIDENCE,
    CUT_MARGIN,
    DEFAULT_POLICY,
    ENGINE_POLICIES,
    MOST_SETS,
    Assumptions,
    PolicyName,
    policies,
)
from provisioner.perf.assumptions import ReplicaPerf, slo_strict, with_batch_tokens
from provisioner.planning.designs import Design, ReplicaKey
from provisioner.planning.lattice import Sizes
from provisioner.planning.proof import Candidate, Outcome, Verdict
from provisioner.planning.setting import Setting
from provisioner.simulation import window
from provisioner.simulation.assemble import Observation, observe, of_cluster, percentiles_of
from provisioner.simulation.cluster import Cluster, Outage, Pool
from provisioner.simulation.measure import (
    Floats,
    attained,
    interval,
    percentiles,
    quantile_over_sets,
    student_t,
    verdict,
)
from provisioner.simulation.policy import Policy
from provisioner.simulation.records import LIMITED
from provisioner.simulation.run import Prepared, Run, StopLimit, run
from provisioner.simulation.stability import Backlog, observed_backlog, stability
from provisioner.specs.batch_job import BatchJob
from provisioner.specs.metrics import REPORTED_PERCENTILES
from provisioner.specs.slo import SLO, LatencyLimit
from provisioner.verify.prompt_stage import prompt_stage, prompts_alone
from provisioner.verify.request_sets import RequestSets

_REMEMBERED_SETS: Final = 4  # rates whose request sets are kept
_REMEMBERED_PASSING: Final = 32  # rates at which the observations of what passed are kept

_LONG: Final = Lock()  # runs of long traces take turns, for their memory

Kept = TypeVar("Kept")

SURE: Final = 0.998
"""Confidence of the interval beyond a limit with which the starts of request sets show a failure: 0.999 on one side."""

CLEARLY_GROWING: Final = 0.1
"""Growth of the delay, in s/s, beyond which an unstable cluster is so by a clear margin: a load of 1.1."""


class Stopped(Exception):
    """The caller was interrupted: runs in other threads end."""


@dataclass(slots=True)
class SimulationJudge:
    """Judges candidates on the same request sets, several at a time on threads.

    With one set (a trace as it is), a limit is met when the percentile is within it. With several, when the one-sided
    upper confidence bound of the mean over the sets is; a candidate that ``sets`` sets leave undecided gets more, up to
    ``MOST_SETS``. A cluster must also be stable, and a batch ``job`` end in time; sets that do not tell are doubled in
    time, ``doublings`` times at most. If ``screens``, what surely fails on the sets' starts is not simulated further. A
    run stops early when its set alone is certain to put the mean beyond ``cut_margin`` times a limit. ``known`` keeps
    the verdicts, ``alike`` those of clusters that differ in nothing but how many of their replicas are on a machine:
    one runs for all of them. A cluster passes if it does whole and with any ``survive`` machines lost, with one choice
    of the token budgets ``batch_tokens`` of its pools.
    """

    replicas: Mapping[ReplicaKey, ReplicaPerf]
    slo: SLO
    request_sets: Callable[[int, int], Prepared]
    sets: int
    doublings: int = 0
    screens: bool = False
    policy: PolicyName = DEFAULT_POLICY["measured"]
    survive: int = 0
    batch_tokens: tuple[int, ...] = ()
    confidence: float = CONFIDENCE
    cut_margin: float = CUT_MARGIN
    job: BatchJob | None = None
    threads: int = 2
    stopped: bool = False
    passing: dict[Hashable, list[Observation]] = field(default_factory=dict)  # of whole runs, as ``alike``
    simulated_runs: int = 0
    known: dict[Candidate, Verdict] = field(default_factory=dict)
    alike: dict[Hashable, Verdict] = field(default_factory=dict)
    simulated: dict[Candidate, Verdict] = field(default_factory=dict, init=False)  # whatever their failures exclude
    with_budget: dict[tuple[ReplicaKey, int | None], ReplicaPerf] = field(default_factory=dict, init=False)
    missed: dict[Hashable, list[LatencyLimit] | None] = field(default_factory=dict, init=False)  # by prompt pools alone
    prompts: dict[int, Prepared | None] = field(default_factory=dict, init=False)  # request sets of prompts alone
    lock: Lock = field(default_factory=Lock, init=False)  # of ``missed``, each of which is found once

    @property
    def assumptions(self) -> Assumptions:
        """The assumptions of all replicas."""
        return next(iter(self.replicas.values())).assumptions

    def __call__(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """The verdict on each candidate."""
        if len(candidates) < 2 or self.threads < 2:
            return [self.judge(candidate) for candidate in candidates]
        with ThreadPoolExecutor(self.threads) as executor:
            try:
                judging = [executor.submit(copy_context().run, self.judge, candidate) for candidate in candidates]
                return [each.result() for each in judging]
            except TimeIsUp:  # of every run
                raise
            except BaseException:
                self.stopped = True  # the runs in progress end at their next pause
                raise

    def cluster(self, candidate: Candidate) -> Cluster:
        """The cluster that a candidate describes."""
        policy, slots = self.policy_of(candidate.design), candidate.design.slots
        budgets: Sequence[int | None] = candidate.batch_tokens or self._engines_own(candidate.design)
        pools = tuple(
            Pool(
                slot.role,
                self.replica(slot.replica, tokens),
                machines,
                slot.min_prompt_tokens,
                slot.max_prompt_tokens,
                tokens,
            )
            for slot, machines, tokens in zip(slots, candidate.sizes, budgets, strict=True)
        )
        first, out = 0, []
        for machines, lost in zip(candidate.sizes, candidate.lost, strict=False):
            out += [Outage(first + k, 0.0) for k in range(lost)]
            first += machines
        return Cluster(pools, policy, tuple(out))

    def _engines_own(self, design: Design) -> tuple[int | None, ...]:
        """The token budget of each pool that its engine has by itself; None under the paper's policies."""
        by_engine = self.policy_of(design).name in ENGINE_POLICIES
        return tuple(self.replicas[slot.replica].batch.batch_tokens if by_engine else None for slot in design.slots)

    def tokens_of(self, candidate: Candidate) -> tuple[int | None, ...]:
        """The token budget of each pool of a candidate; None under the paper's policies."""
        return self.decided(candidate).batch_tokens or self._engines_own(candidate.design)

    def shown_tokens_of(self, candidate: Candidate) -> tuple[int | None, ...]:
        """The token budget of each pool as results have it: None also for a pool that only decodes."""
        pairs = zip(candidate.design.slots, self.tokens_of(candidate), strict=True)
        return tuple(tokens if slot.role != "token" else None for slot, tokens in pairs)

    def replica(self, key: ReplicaKey, batch_tokens: int | None) -> ReplicaPerf:
        """A replica with the KV memory that a token budget leaves; the engine's own if it is None."""
        perf = self.replicas[key]
        if batch_tokens in (None, perf.batch.batch_tokens):
            return perf
        if (key, batch_tokens) not in self.with_budget:
            self.with_budget[key, batch_tokens] = with_batch_tokens(perf, batch_tokens)
        return self.with_budget[key, batch_tokens]

    def budgets(self, design: Design) -> list[Sizes]:
        """The choices of token budgets for the pools of a design, those nearest to the engine's own first.

        Pools that only decode keep the engine's own. A budget whose activations leave no room for the longest request
        is no choice. One choice without any, (), where there is nothing to choose.
        """
        own = self._engines_own(design)
        if not self.batch_tokens or None in own:
            return [()]
        requests = self.request_sets(0, 0).requests
        longest = int((requests.prompt_tokens + requests.output_tokens).max())
        choices = []
        for slot, tokens in zip(design.slots, own, strict=True):
            assert tokens is not None
            fit = [each for each in self.batch_tokens if self.replica(slot.replica, each).kv_capacity_tokens >= longest]
            fit.sort(key=lambda each, of=tokens: abs(math.log(each / of)))  # type: ignore[misc]
            choices.append((tokens,) if slot.role == "token" else tuple(fit or (tokens,)))
        return list(product(*choices))

    def policy_of(self, design: Design) -> Policy:
        """The policy that a design is simulated with: its side of the one asked for.

        Machines that serve by prompt length cannot be lent: theirs is ``split`` in place of ``splitwise``.
        """
        split, colocated = policies(self.policy)
        name = split if design.splits else colocated
        name = "split" if name == "splitwise" and design.shares_role else name
        policy = Policy(name).as_published() if self.assumptions == "splitwise-sim" else Policy(name)
        return policy.under(self.replicas[slot.replica] for slot in design.slots)

    def lends(self, design: Design) -> bool:
        """Whether the pools of a design lend machines to each other."""
        return self.policy_of(design).name == "splitwise"

    @property
    def percentiles(self) -> tuple[float, ...]:
        """The percentiles that are shown."""
        return tuple(sorted({*REPORTED_PERCENTILES, *self.slo.percentiles}))

    def observations(self, candidate: Candidate, sets: int) -> list[Observation]:
        """Observations of the candidate's whole runs on the first sets that judged it."""
        cluster = self.cluster(candidate)
        known = self.passing.get(cluster.behaviour, ())
        if len(known) < sets:
            known = [self._observed(each) for each in self.runs(candidate, sets)]
        return [of_cluster(each, cluster) for each in known[:sets]]

    def _observed(self, run: Run) -> Observation:
        return observe(run, percentiles_of(run.latencies, self.percentiles), run.wall_s, self.slo.attainment)

    def prompts_anywhere(self, design: Design) -> bool:
        """Whether prompts may be computed on token machines too."""
        return self.policy_of(design).name in ("splitwise", "deflect")

    def runs(self, candidate: Candidate, sets: int | None = None) -> list[Run]:
        """The candidate's runs on the first sets that judged it, whole."""
        cluster, wanted = self.cluster(candidate), range(self.sets if sets is None else sets)
        longer = self.known[candidate].longer if candidate in self.known else 0
        with ThreadPoolExecutor(self.threads) as executor:
            running = [
                executor.submit(copy_context().run, self.whole, cluster, self.request_sets(k, longer)) for k in wanted
            ]
            return [each.result() for each in running]

    def whole(self, cluster: Cluster, prepared: Prepared) -> Run:
        """The run of a cluster to its end, or to that of the time."""
        return run(cluster, prepared, progress=self._in_time)

    def _in_time(self, now_s: float, done: int) -> None:
        if self.stopped:
            raise Stopped
        check_time()

    def judge(self, candidate: Candidate) -> Verdict:
        """The verdict on one candidate: with the first token budgets with which it passes, or those nearest to it."""
        choices = [candidate.batch_tokens] if candidate.batch_tokens else self.budgets(candidate.design)
        failing = []
        for tokens in choices:
            found = replace(self._with_losses(replace(candidate, batch_tokens=tokens)), batch_tokens=tokens)
            if found.passes:
                return found
            failing.append(found)
        nearest = min(failing, key=lambda each: (each.outcome == "fail", each.early, each.worst_ratio))
        return replace(nearest, clear=all(each.clear for each in failing))

    def decided(self, candidate: Candidate) -> Candidate:
        """A candidate with the token budgets that its verdict is about."""
        if candidate.batch_tokens or not self.batch_tokens:
            return candidate
        return replace(candidate, batch_tokens=self.judge(candidate).batch_tokens)

    def _with_losses(self, candidate: Candidate) -> Verdict:
        """The verdict on the first of a candidate's losses that does not pass, or on the whole of it."""
        worst = 0.0
        ways = losses(candidate.sizes, self.survive)
        for lost in sorted(ways, key=lambda way: all(n > away for n, away in zip(candidate.sizes, way, strict=True))):
            found = self.alone(self.without(candidate, lost))
            if not found.passes:
                return replace(found, losses=replace(candidate, lost=lost).losses)
            worst = max(worst, found.worst_ratio)
        found = self.alone(candidate)
        return replace(found, worst_ratio=max(worst, found.worst_ratio)) if found.passes else found

    def without(self, candidate: Candidate, lost: Sizes) -> Candidate:
        """A cluster that has lost machines: a smaller one, or where pools lend machines one with some out of service.

        A pool that is left without a machine and cannot borrow any is kept, with all of its machines out of service.
        """
        smaller = candidate.smaller(lost)
        return replace(candidate, lost=lost) if self.lends(candidate.design) or not all(smaller.sizes) else smaller

    def stood_in(self, candidate: Candidate) -> bool:
        """Whether machines that are left do the work of pools that are lost whole.

        Pools that lend do, and token machines of strict pools compute the prompts if no prompt machine is there.
        """
        out = [lost == n for lost, n in zip(candidate.lost, candidate.sizes, strict=True)]
        tokens = [slot.role == "token" for slot in candidate.design.slots]
        strict = self.policy_of(candidate.design).of_engines
        return not all(out) if self.lends(candidate.design) else strict and not any(map(and_, out, tokens))

    def alone(self, candidate: Candidate) -> Verdict:
        """The verdict on one candidate as it is, known or simulated; a pool that is lost whole is not simulated."""
        if candidate.lost and (candidate.lost == candidate.sizes or not self.lends(candidate.design)):
            return Verdict("fail", math.inf, stable=False, clear=True)
        if candidate not in self.known and (kind := self.cluster(candidate).behaviour) in self.alike:
            self.known[candidate] = self.alike[kind]
        if candidate not in self.known:
            found = self.by_itself(candidate)
            excludes = found.clear and self._excludes_smaller(candidate, found)
            self.known[candidate] = self.alike[kind] = replace(found, clear=excludes)
        return self.known[candidate]

    def by_itself(self, candidate: Candidate) -> Verdict:
        """The verdict on one candidate by its own runs; a clear failure may be of this one alone."""
        if candidate not in self.simulated and (missed := self._missed_by_prompts(candidate)):
            self.simulated[candidate] = self._rejected(missed)
        if candidate not in self.simulated:
            for longer in range(-1 if self.screens else 0, self.doublings + 1):
                with turn(self.request_sets(0, longer)):
                    found = self._simulated(candidate, longer)
                if found.clear or (
                    found.stable is not None if longer >= 0 else found.outcome == "fail" and found.stable
                ):
                    break
            self.simulated[candidate] = replace(found, longer=longer)
        return self.simulated[candidate]

    def _rejected(self, broken: Sequence[LatencyLimit]) -> Verdict:
        """The verdict on a cluster of which nothing but clearly missed limits is known."""
        least = tuple((limit, self.cut_margin * limit.value) for limit in broken)
        return Verdict("fail", self.cut_margin, least, early=True, clear=True)

    def _excludes_smaller(self, candidate: Candidate, found: Verdict) -> bool:
        """Whether every smaller cluster of the design fails too where one fails clearly.

        Behind fewer prompt machines, prompts reach the token machines of strict pools more evenly: TBT P99 of one token
        machine was 88 ms behind 4, 136 ms behind 6. So a limit on tokens excludes smaller clusters only if the one with
        the fewest prompt machines that keep up, found by halving, fails clearly too.
        """
        policy = self.policy_of(candidate.design)
        margin = self.cut_margin if policy.first_token == "prompt" else math.inf  # of a TTFT that prompts decide
        if not policy.of_engines or _for_prompts(found, margin):
            return True
        if candidate.design.shares_role:
            return False
        prompts, *others = candidate.sizes

        def with_prompts(machines: int) -> Candidate:
            return replace(candidate, sizes=(machines, *others))

        low, high = 0, prompts
        while high - low > 1:
            middle = (low + high) // 2
            missed = self._missed_by_prompts(with_prompts(middle))
            few = missed is None and _for_prompts(self.by_itself(with_prompts(middle)), margin)
            low, high = (middle, high) if missed or few else (low, middle)
        while high < prompts and _for_prompts(self.by_itself(with_prompts(high)), margin):
            high += 1
        return self.by_itself(with_prompts(high)).clear

    def _missed_by_prompts(self, candidate: Candidate) -> list[LatencyLimit] | None:
        """The limits on TTFT that prompt pools miss clearly whatever the token pools; None if nothing can tell.

        They are found once for all token pools, and reject every cluster with these prompt pools.
        """
        limits = [limit for limit in self.slo.limits if limit.parts == (limit,) and limit.metric == "ttft"]
        alone = prompt_stage(self.cluster(candidate)) if limits else None
        if alone is None:
            return None
        with self.lock:
            if alone.behaviour not in self.missed:
                self.missed[alone.behaviour] = self._missed_alone(alone, limits)
            return self.missed[alone.behaviour]

    def _missed_alone(self, alone: Cluster, limits: Sequence[LatencyLimit]) -> list[LatencyLimit] | None:
        """The limits that prompt pools miss clearly, on further request sets as long as they miss one in each.

        On their starts where these are simulated first.
        """
        values: dict[LatencyLimit, list[float]] = {limit: [] for limit in limits}
        for k in range(self.sets):
            check_time()
            if k not in self.prompts:
                self.prompts[k] = prompts_alone(self.request_sets(k, -1 if self.screens else 0))
            if (prepared := self.prompts[k]) is None:
                return None
            stops = self._stop_limits(prepared, values, ())
            done = run(alone, prepared, stop=tuple(stops.values()), progress=self._in_time)
            self.simulated_runs += 1
            if done.status == "rejected":
                return _broken(stops, done)
            _measure(done.latencies.both, values)
            if all(found[-1] <= limit.value for limit, found in values.items()):
                break
        return []

    def _simulated(self, candidate: Candidate, longer: int) -> Verdict:
        """Simulate one candidate on sets of one length until its verdict is known."""
        cluster = self.cluster(candidate)
        values: dict[LatencyLimit, list[float]] = {limit: [] for limit in self.slo.limits if limit.parts == (limit,)}
        ratios: list[Floats] = []  # to the limits to be held at once
        whole: list[Run] = []
        backlogs: list[Backlog] = []
        ends: list[tuple[float, float]] = []
        wanted = self.sets
        while True:
            for k in range(len(backlogs), wanted):
                check_time()
                prepared = self.request_sets(k, longer)
                stops = self._stop_limits(prepared, values, ratios) if k < self.sets else {}
                done = run(cluster, prepared, stop=tuple(stops.values()), progress=self._in_time)
                self.simulated_runs += 1
                if done.status == "rejected":
                    return self._rejected(_broken(stops, done))
                if done.status == "stuck":
                    return Verdict("fail", math.inf, stable=False)
                whole.append(done)
                latencies = done.latencies
                _measure(latencies.both, values)
                ratios.append(latencies.ratios(self.slo.attainment.limits if self.slo.attainment else ()))
                backlogs.append(observed_backlog(done))
                ends.append((float(latencies.arrival_s[-1]), float(np.nanmax(latencies.last_s))))
            found = self._verdict(values, ratios, backlogs, surely=longer < 0)
            if found.passes:
                self.passing[cluster.behaviour] = [self._observed(each) for each in whole]
            if self.job is not None and found.outcome != "fail":
                ended = ends[0][0] > self.job.feed_s - 2.0 / self.job.rate_rps  # the end is seen, whatever grows
                return self._done_in_time(self.job, backlogs, ends) if found.stable or ended else found
            most = MOST_SETS if longer >= 0 else self.sets
            if found.outcome != "undecided" or found.stable is None or self.sets == 1 or wanted >= most:
                return replace(found, sets=wanted)
            wanted = min(wanted + self.sets, MOST_SETS)

    def _stop_limits(
        self, prepared: Prepared, values: Mapping[LatencyLimit, list[float]], ratios: Sequence[Floats]
    ) -> dict[LatencyLimit, StopLimit]:
        """The excesses of limits in a set that put the mean over the sets beyond the margin, whatever the others show.

        Of the limits whose failure excludes smaller clusters: a run that another one stopped would not show whether
        one of these fails clearly too. With n values, the percentile at rank h = (n - 1) q is beyond x for certain when
        at least n - floor(h) of them are; the sets to come add nothing below zero. Of an attainment, the mean share
        within the margin is too small if all requests of the sets to come are within it.
        """
        stops = {}
        for limit in values:
            if limit.falls_with_machines and limit.metric in LIMITED and (count := measured(prepared, limit.metric)):
                beyond = self.sets * self.cut_margin * limit.value - sum(filter(math.isfinite, values[limit]))
                most = count - math.floor((count - 1) * limit.quantile) - 1
                stops[limit] = StopLimit(limit.metric, limit.kind, beyond, most)
        joint = self.slo.attainment
        if joint is not None and joint.falls_with_machines and (count := measured(prepared, joint.metric)):
            allowed = self.sets * (1.0 - joint.quantile)  # shares beyond, summed over the sets
            allowed -= math.fsum(float(np.mean(each > self.cut_margin)) for each in ratios if each.size)
            most = math.floor(count * allowed + 1e-6)
            stops[joint] = StopLimit(joint.metric, joint.kind, self.cut_margin, most, joint.limits)
        return stops

    def _done_in_time(self, job: BatchJob, backlogs: Sequence[Backlog], ends: Sequence[tuple[float, float]]) -> Verdict:
        """The verdict on a cluster with a batch job: whether its last request ends in time, by sets' means."""
        fed_s, done_s = (math.fsum(each) / len(ends) for each in zip(*ends, strict=True))
        growth = math.fsum(each.growth for each in backlogs) / len(backlogs)
        ratio = job.done_s(fed_s, growth, done_s - fed_s) / job.within_s
        if ratio <= 1.0:
            return Verdict("pass", ratio)
        return Verdict("fail", ratio, clear=ratio > self.cut_margin, late=ratio)

    def _verdict(
        self,
        values: Mapping[LatencyLimit, list[float]],
        ratios: Sequence[Floats],
        backlogs: Sequence[Backlog],
        surely: bool = False,
    ) -> Verdict:
        """The verdict from the measures of whole runs; ``surely``: with a failure only if nearly certain."""
        strict = slo_strict(self.assumptions)
        broken: list[tuple[LatencyLimit, float]] = []
        outcomes: list[Outcome] = []
        bounds: dict[LatencyLimit, float] = {}
        for limit, found in values.items():
            outcome = verdict(limit.value, found, strict, self.confidence)
            if surely and outcome == "fail" and (interval(found, SURE).low or 0.0) <= limit.value:
                outcome = "undecided"
            mean = interval(found).mean
            outcomes.append(outcome)
            bounds[limit] = mean / limit.value
            if bounds[limit] > 1.0:
                broken.append((limit, mean))
            if outcome == "undecided":
                known = list(filter(math.isfinite, found))
                error = float(np.std(known, ddof=1)) / math.sqrt(len(known))
                bounds[limit] = (mean + student_t(self.confidence, len(known) - 1) * error) / limit.value
        if (joint := self.slo.attainment) is not None:
            outcomes.append("undecided" if surely else attained(joint, ratios, strict, self.confidence).met)
            bounds[joint] = quantile_over_sets(ratios, joint.quantile)
            if outcomes[-1] == "fail":
                broken.append((joint, bounds[joint]))
        worst, stable = max([0.0, *bounds.values()]), stability(backlogs)[0]
        unstable = stable is False
        if unstable or "fail" in outcomes:
            growth = sum(each.growth for each in backlogs) / len(backlogs)
            beyond = [limit for limit, bound in bounds.items() if bound > self.cut_margin]
            excluding = any(limit.falls_with_machines for limit in beyond)
            clear = excluding or (unstable and growth > CLEARLY_GROWING)
            return Verdict("fail", math.inf if unstable else worst, tuple(broken), stable=not unstable, clear=clear)
        undecided = "undecided" in outcomes or stable is None
        return Verdict("undecided" if undecided else "pass", worst, tuple(broken), stable=stable)


def turn(prepared: Prepared) -> AbstractContextManager[Any]:
    """The time in which a thread may run a request set and measure it: long ones take turns."""
    return _LONG if prepared.requests.requests > window.LONG else nullcontext()


def losses(sizes: Sizes, count: int) -> list[Sizes]:
    """The ways to lose ``count`` machines of pools of these sizes, or all machines if there are no more.

    >>> losses((3, 1), 2), losses((3,), 0)
    ([(2, 0), (1, 1)], [])
    """
    ways = product(*(range(min(n, count), -1, -1) for n in sizes))
    return [way for way in ways if sum(way) == min(count, sum(sizes))] if count else []


def _for_prompts(found: Verdict, margin: float) -> bool:
    """Whether a clear failure is for want of prompt machines: unstable, late, or a TTFT beyond the margin."""
    late = not found.stable or not found.broken
    return found.clear and (late or any(x.metric == "ttft" and value >= margin * x.value for x, value in found.broken))


def _measure(both: Callable[[str], Sequence[Any]], values: dict[LatencyLimit, list[float]]) -> None:
    """Add the percentiles of one run."""
    for metric, kind in dict.fromkeys((limit.metric, limit.kind) for limit in values):
        limits = [limit for limit in values if (limit.metric, limit.kind) == (metric, kind)]
        found = percentiles(both(metric)[kind == "slowdown"], [limit.percentile for limit in limits])
        for limit, value in zip(limits, found, strict=True):
            values[limit].append(value)


def _broken(stops: Mapping[LatencyLimit, StopLimit], done: Run) -> list[LatencyLimit]:
    """The limits for which a run was stopped early."""
    watched = zip(stops.items(), done.limits_beyond, strict=False)
    return [limit for (limit, stop), beyond in watched if beyond > stop.most]


def measured(prepared: Prepared, metric: str) -> int:
    """Requests of a set whose metric is measured."""
    counted = prepared.requests.counted
    if metric == "gap" or (metric == "tbt" and prepared.reference.replica.assumptions == "measured"):
        counted = counted & (prepared.requests.output_tokens > 1)
    return int(np.count_nonzero(counted))


def _remembered(latest: OrderedDict[Hashable, Kept], key: Hashable, make: Callable[[], Kept], most: int) -> Kept:
    """The value kept under a key, made if there is none; the ``most`` asked for last are kept."""
    found = latest.pop(key) if key in latest else make()
    latest[key] = found
    if len(latest) > most:
        latest.popitem(last=False)
    return found


class Verdicts:
    """Verdicts and request sets, for questions that differ in prices, caps, objective or designs only.

    A cluster that was simulated for one of them is not simulated for another. Another process begins without any.
    """

    def __init__(self) -> None:
        self._verdicts: dict[Hashable, tuple[dict[Candidate, Verdict], dict[Hashable, Verdict]]] = {}
        self._sets: OrderedDict[Hashable, RequestSets] = OrderedDict()
        self._passing: OrderedDict[Hashable, dict[Hashable, list[Observation]]] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> "tuple[type[Verdicts], tuple[()]]":
        return Verdicts, ()

    def judge(self, setting: Setting, rate_rps: float) -> tuple[RequestSets, SimulationJudge]:
        """The request sets of a question at a rate, and the judge on them, who knows the earlier verdicts."""
        judging = setting.judging
        key = (rate_rps, setting.slo, judging, setting.verdicts_rest_on)
        with self._lock:
            sets = _remembered(self._sets, key, lambda: RequestSets(setting, rate_rps), _REMEMBERED_SETS)
            passing = _remembered(self._passing, key, dict[Hashable, list[Observation]], _REMEMBERED_PASSING)
            known, alike = self._verdicts.setdefault(key, ({}, {}))
        return sets, SimulationJudge(
            setting.replicas,
            setting.slo,
            sets,
            sets.count,
            sets.doublings,
            sets.screening_s is not None,
            policy=judging.policy,
            survive=judging.survive,
            batch_tokens=judging.batch_tokens,
            confidence=judging.confidence,
            cut_margin=judging.cut_margin,
            job=setting.job,
            known=known,
            alike=alike,
            passing=passing,
        )
