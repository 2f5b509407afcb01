"""The loss of a machine during a run: the requests that start again, and the time until the limits hold again.

docs/reference/metrics.md, "Time to recover", has the definition.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.assumptions import slo_strict
from provisioner.progress import Progress
from provisioner.results.plan import Plan
from provisioner.results.robustness import Failure, Loss
from provisioner.simulation.cluster import Outage
from provisioner.simulation.measure import Floats
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import Prepared, Run, compile_simulator
from provisioner.specs.slo import LatencyLimit
from provisioner.verify.evidence import Proven
from provisioner.verify.judge import turn
from provisioner.verify.request_sets import LEAST_BEYOND
from provisioner.verify.robustness import side_by_side


@dataclass(frozen=True, slots=True, eq=False)
class Aftermath:
    """Requests that arrive after a failure (n,): the time from it to each arrival, in s.

    ``has`` and ``beyond`` (limits, n) mark those that have the metric of a limit, and those that are beyond it;
    ``restarts`` counts the requests that were on the machine, ``unserved`` those left when nothing can serve them.
    """

    restarts: int
    unserved: int
    after_s: Floats
    has: NDArray[np.bool_]
    beyond: NDArray[np.bool_]


def with_failures(plan: Plan, proven: Proven, progress: Progress = lambda _: None) -> Plan:
    """A plan with what happens where the first machine of a pool fails during the run, one pool at a time.

    Raises ``TimeIsUp`` at the time limit.
    """
    progress("a machine that fails during the run")
    judge, best = proven.case.judge, proven.proof.best
    if plan.robustness is None or best is None:
        return plan
    compile_simulator(progress)
    candidate = judge.decided(best.candidate)
    verdict, cluster = judge.alone(candidate), judge.cluster(candidate)
    sets = [judge.request_sets(k, verdict.longer) for k in range(verdict.sets or judge.sets)]

    def run_without(machine: int, prepared: Prepared) -> Aftermath:
        outage = Outage(machine, failure_times(prepared.requests)[0])
        with turn(prepared):
            return aftermath_of(judge.whole(replace(cluster, outages=(outage,)), prepared), judge.slo.limits)

    firsts = [sum(candidate.sizes[:position]) for position in range(len(candidate.sizes))]
    runs = side_by_side(judge.threads, [partial(run_without, *each) for each in product(firsts, sets)])
    losses = tuple(
        replace(loss, failure=_failure(loss, each, judge.slo.limits, sets[0].requests))
        for loss, each in zip(plan.robustness.losses, zip(*[iter(runs)] * len(sets), strict=True), strict=True)
    )
    return replace(plan, robustness=replace(plan.robustness, losses=losses))


def failure_times(requests: RequestSet) -> tuple[float, float]:
    """The time at which a machine fails in a request set, and the time from then in which limits hold again, in s."""
    drawn = math.isfinite(requests.until_s)
    start_s, end_s = (0.0, requests.until_s) if drawn else map(float, requests.arrival_s[[0, -1]])
    third_s = (end_s - start_s) / 3.0
    return start_s + third_s, third_s


def aftermath_of(run: Run, limits: Sequence[LatencyLimit]) -> Aftermath:
    """The requests of a run that arrive after its one failure."""
    latencies, at_s = run.latencies, run.cluster.outages[0].at_s
    strict = slo_strict(run.cluster.pools[0].perf.assumptions)
    counted = latencies.counted
    after = latencies.arrival_s[counted] > at_s
    has = np.zeros((len(limits), np.count_nonzero(after)), dtype=np.bool_)
    beyond = has.copy()
    for k, limit in enumerate(limits):
        ratios = latencies.ratios(limit.parts)[after]
        has[k] = latencies.has(limit.metric)[counted][after]
        beyond[k] = has[k] & (ratios >= 1.0 if strict else ratios > 1.0)
    restarts, unserved = int(run.requests["restarts"].sum()), int(np.isnan(latencies.last_s).sum())
    return Aftermath(restarts, unserved, latencies.arrival_s[counted][after] - at_s, has, beyond)


def _failure(loss: Loss, runs: Sequence[Aftermath], limits: Sequence[LatencyLimit], requests: RequestSet) -> Failure:
    """The failure of a machine over the runs of all request sets, of which ``requests`` is the first."""
    at_s, within_s = failure_times(requests)
    restarted, unserved = (fmean(getattr(each, name) for each in runs) for name in ("restarts", "unserved"))
    found = Failure(at_s, within_s, restarted, unserved)
    after_s = np.concatenate([each.after_s for each in runs])
    if not limits or not after_s.size:
        return found
    has, beyond = (np.concatenate([getattr(each, name) for each in runs], axis=1) for name in ("has", "beyond"))
    allowed = np.array([1.0 - limit.quantile for limit in limits])
    shares = beyond.sum(axis=1) / np.maximum(has.sum(axis=1), 1)
    most = int(np.argmax(shares / allowed))
    recovery = None if loss.breaks else recovery_s(after_s, has, beyond, allowed, within_s)
    return replace(found, missed=limits[most], beyond_share=float(shares[most]), recovery_s=recovery)


def recovery_s(
    after_s: Floats, has: NDArray[np.bool_], beyond: NDArray[np.bool_], allowed: Floats, within_s: float
) -> float | None:
    """Shortest time after a failure from which on the limits hold, in s; None if it is more than ``within_s``.

    From then on no stretch of arrivals has ``LEAST_BEYOND`` requests more beyond a limit than the share ``allowed``
    (limits,) of those that have its metric. Arrays as in ``Aftermath``, in any order.

    >>> late = np.array([30 * [True] + 70 * [False]])
    >>> recovery_s(np.arange(1.0, 101.0), np.ones_like(late), late, np.array([0.01]), 50.0)
    20.0
    """
    order = np.argsort(after_s, kind="stable")
    since_s = np.concatenate(([0.0], after_s[order]))
    more = np.cumsum(beyond[:, order] - allowed[:, np.newaxis] * has[:, order], axis=1)
    more = np.concatenate((np.zeros((allowed.size, 1)), more), axis=1)  # than allowed among the first n arrivals
    most = np.maximum.accumulate(more[:, ::-1], axis=1)[:, ::-1]
    holds: NDArray[np.bool_] = np.all(most - more < LEAST_BEYOND - 1e-6, axis=0)  # but for rounding
    first = np.flatnonzero(holds[:-1] & (since_s[1:] > since_s[:-1]) & (since_s[:-1] <= within_s))
    return float(since_s[first[0]]) if first.size else None
