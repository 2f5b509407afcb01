"""Stability of a cluster: whether requests wait ever longer. docs/reference/metrics.md has the rule's error rates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

import numpy as np

from provisioner.simulation.measure import Floats, Latencies
from provisioner.simulation.requests import LONGEST_S, RequestSet
from provisioner.simulation.run import Run
from provisioner.specs.units import format_seconds

MAX_GROWTH: Final = 0.03  # largest growth of the delay per time at which a cluster counts as stable, in s/s
MIN_BACKLOG_REQUESTS: Final = 10.0  # growth of a backlog over the window that is chance, in requests, at least
MIN_WINDOW: Final = 5.0  # window in which growth means overload, in times of a request alone: batches fill first
MIN_AGES: Final = 6.0  # the same, in mean ages of turns: sessions grow old first, to twice that age if all are alike
CERTAIN: Final = 2.0  # growth of waits that is not chance, in standard deviations of the work that arrives
WAITING: Final = 1.0 / 3.0  # share of waits in the growth of the delay, below which batches are filling
FLATTENING: Final = 0.5  # growth of the second half over that of the first, below which a cluster is still filling
FLAT: Final = 0.01  # growth at which filling has come to its end, if it goes on to flatten as from half to half, in s/s
FILLING: Final = 0.1  # share of the arrivals' time at its start that is left out: the cluster is filling
MOST_REQUESTS: Final = 2_000_000  # requests of all sets up to which they are made longer
_POINTS: Final = 64  # times at which the delay is looked at


@dataclass(frozen=True, slots=True)
class Backlog:
    """Growth of the backlog of work while requests of one set arrived, in s of delay per s of arrivals.

    ``growth`` is 0 in a steady state, and rho - 1 for a cluster that is offered rho times its capacity; ``early`` is
    that of the first half of the window. ``requests`` is growth x requests that arrived in the window, by Little's law,
    and ``chance`` the standard deviation of the work that arrives in it, in requests. ``waiting`` is the growth of the
    part of the delay in which requests are not served, at most ``growth``. ``span_s`` is the window, ``least_s`` one in
    which growth means overload. ``in_system_at_end`` counts requests right after the last arrival, ``what`` says which
    work grows.
    """

    growth: float
    early: float
    waiting: float
    requests: float
    chance: float
    in_system_at_end: int
    unfinished: int
    arrived: int
    span_s: float = 0.0
    least_s: float = 0.0
    what: str = "requests wait"


def backlog(latencies: Latencies, closed_loop: bool = False, sessions: RequestSet | None = None) -> Backlog:
    """Growth of the backlog from the first tenth of the arrivals' time to the last arrival; 0 in a closed loop.

    The delay at time t is t - a(c(t)), a(k) the arrival of the k-th request and c(t) the number of completions until t:
    no order of service changes it, and nothing after the last arrival, when the cluster drains, is in it. Growth is the
    smaller slope of the whole window and of its second half, so that neither filling nor chance looks like overload.
    In a window too short for it, it is that of the delay to the first tokens if that is clear: prompts take less time.

    An overloaded cluster slows ``sessions``: a share (1 - slope)^k of their k-th turns is completed, so that growth is
    rho - 1 with 1 / rho the mean of these shares. The window ends with the last start of a session.
    """
    arrival_s, last_s = latencies.arrival_s, latencies.last_s
    own = slice(None) if sessions is None else sessions.follows == -1
    start_s, end_s = float(arrival_s.min()), float(arrival_s[own].max())
    left = (arrival_s <= end_s) & ~(last_s <= end_s)
    counts = int(np.count_nonzero(left)), int(np.count_nonzero(np.isnan(last_s))), int(arrival_s.size)
    from_s = max(start_s + FILLING * (end_s - start_s), float(arrival_s[latencies.counted].min(initial=end_s)))
    if closed_loop or from_s >= end_s:  # of arrivals at one time, nothing can be told
        least_s = 0.0 if closed_loop else MIN_WINDOW * float(np.nanmean(last_s - arrival_s))
        return Backlog(float(not closed_loop), 0.0, 0.0, 0.0, 0.0, *counts, 0.0, least_s)
    window = (arrival_s >= from_s) & (arrival_s <= end_s)
    number, at_s = int(np.count_nonzero(window)), np.linspace(from_s, end_s, _POINTS)

    def of(done_s: Floats, served_s: Floats, reference_s: Floats) -> Backlog:
        reference_s = np.where(np.isnan(reference_s), 1.0, reference_s)
        slowdown = ((done_s - arrival_s) / reference_s).min()
        turn, age_s = _turns(sessions, slowdown * reference_s) if sessions is not None else (np.ones(1), 0.0)
        least_s = max(MIN_WINDOW * float(reference_s.mean() * slowdown), MIN_AGES * age_s)
        growth, early = _growth(arrival_s, done_s, at_s, turn)
        waiting = min(growth, _growth(arrival_s, served_s, at_s, turn)[0])
        chance = math.sqrt(number * (_dispersion(np.diff(arrival_s[window])) + _dispersion(reference_s)))
        requests = growth * number / math.sqrt(2.0 * turn.mean() - 1.0)  # turns of a session come together
        return Backlog(growth, early, waiting, requests, chance, *counts, end_s - from_s, least_s)

    whole = of(last_s, np.minimum(last_s, latencies.first_s + latencies.largest_gap_s), latencies.reference_e2e_s)
    if whole.span_s >= whole.least_s or sessions is not None:
        return whole
    prompts = of(latencies.first_s, latencies.first_s, latencies.reference_ttft_s)
    return prompts if _grows(prompts) and prompts.span_s >= prompts.least_s else whole


def _turns(sessions: RequestSet, answer_s: Floats) -> tuple[Floats, float]:
    """Numbers of turns in their sessions, from 1, and their mean age in s there, were they answered in these times."""
    assert sessions.follows is not None and sessions.delay_s is not None
    turn, age_s = np.ones(sessions.requests), np.zeros(sessions.requests)
    for k in np.flatnonzero(sessions.follows >= 0).tolist():
        before = sessions.follows[k]
        turn[k], age_s[k] = turn[before] + 1.0, age_s[before] + answer_s[before] + sessions.delay_s[k]
    return turn, float(age_s.mean())


def _dispersion(values: Floats) -> float:
    """Squared coefficient of variation."""
    return float(values.var()) / float(values.mean()) ** 2 if values.any() else 0.0


def _growth(arrival_s: Floats, done_s: Floats, at_s: Floats, turn: Floats) -> tuple[float, float]:
    """Growth of the delay at times, and that of their first half, in s per s of arrivals; NaN: not done."""
    done_s = np.sort(np.where(np.isnan(done_s), np.inf, done_s), kind="stable")  # nearly in order: twice as fast
    delay_s = at_s - arrival_s[np.minimum(np.searchsorted(done_s, at_s, side="right"), arrival_s.size - 1)]
    parts = slice(_POINTS // 2), slice(_POINTS // 2, None), slice(None)
    early, late, whole = (float(np.polyfit(at_s[part], delay_s[part], 1)[0]) for part in parts)  # 1 - 1 / rho
    served = (float(np.mean(max(1.0 - slope, 0.0) ** turn)) for slope in (min(late, whole), early))
    growth, early = (1.0 / max(share, 1e-6) - 1.0 for share in served)
    return growth, early


def _grows(*backlogs: Backlog) -> bool:
    """Whether backlogs grow by more than is allowed and more than chance: the deviation of Poisson arrivals."""
    chance = max(MIN_BACKLOG_REQUESTS, math.sqrt(sum(each.arrived for each in backlogs)) / len(backlogs))
    return fmean(b.growth for b in backlogs) > MAX_GROWTH and fmean(b.requests for b in backlogs) > chance


def observed_backlog(run: Run) -> Backlog:
    """The backlog of a run: that of its requests, or of the KV caches that links between strict pools cannot carry."""
    requests, carried = run.prepared.requests, dict[str, float]()
    sessions = None if requests.follows is None else requests
    found = backlog(run.latencies, requests.in_flight is not None, sessions)
    if sessions is not None or run.cluster.policy.name != "split" or found.span_s >= found.least_s:
        return found
    for pool in run.cluster.pools:  # a port per GPU
        ports_s = pool.replicas * pool.perf.tensor_parallel / pool.perf.machine.gpus * found.span_s
        carried[pool.role] = carried.get(pool.role, 0.0) + ports_s * pool.perf.link_bytes_per_s
    prompts = requests.prompt_tokens[requests.arrival_s >= requests.arrival_s[-1] - found.span_s]
    growth = float(prompts.sum()) * run.cluster.pools[0].perf.kv_bytes_per_token / min(carried.values()) - 1.0
    what, size = "KV caches wait for links", growth * prompts.size
    links = replace(found, growth=growth, early=growth, waiting=growth, requests=size, least_s=0.0, what=what)
    return links if _grows(links) else found


def doublings(duration_s: float, rate_rps: float, sets: int = 1) -> int:
    """The number of times that the time of request sets may be doubled to tell whether a cluster is stable."""
    return max(int(math.log2(min(LONGEST_S, MOST_REQUESTS / (sets * rate_rps)) / duration_s)), 0)


def stability(backlogs: Sequence[Backlog]) -> tuple[bool | None, str]:
    """Whether a cluster is stable, from the backlogs of its request sets, with the reason if it is not shown to be.

    Stable: a delay that grows by no more than ``MAX_GROWTH`` of the time, or a backlog that grows by no more than
    chance, both as means over the sets, or a cluster near the end of its filling (``FLAT``). Not stable: requests left
    unfinished, or a delay that grows more, by waits for a third or more (``WAITING``), by more than ``CERTAIN``
    standard deviations of the work that arrives. None, too short to tell: what is neither, a window below ``least_s``,
    or growth that is less than ``FLATTENING`` of that before.

    >>> stability([Backlog(0.07, 0.07, 0.07, 530.0, 110.0, 700, 0, 8400, 108.0, 30.0)])[1]
    'requests wait ever longer: by 7.0 % of the time that passes (at most 3 % is stable); 700 are left when ...'
    >>> stability([Backlog(0.07, 0.2, 0.07, 530.0, 110.0, 700, 0, 8400, 108.0, 30.0)])
    (None, 'too short to tell: delays still grow; arrivals for 4 min or more would tell')
    >>> stability([Backlog(0.07, 0.07, 0.07, 53.0, 30.0, 70, 0, 840, 108.0, 30.0)])
    (None, 'too short to tell: delays grow, maybe by chance; arrivals for 4 min or more, or 2 request sets, would tell')
    """
    unfinished = sum(each.unfinished for each in backlogs)
    if unfinished:
        return False, f"{unfinished:,} of {sum(each.arrived for each in backlogs):,} requests were left unfinished"
    names = "growth", "early", "waiting", "requests", "span_s", "least_s"
    growth, early, waiting, requests, span_s, least_s = (fmean(getattr(b, name) for b in backlogs) for name in names)
    short = span_s < least_s
    if growth <= MAX_GROWTH or (not short and (growth * growth <= FLAT * early or not _grows(*backlogs))):
        return True, ""
    certain = CERTAIN * math.hypot(*(each.chance for each in backlogs)) / len(backlogs)
    if short or growth < FLATTENING * early or waiting < WAITING * growth:
        longer, how, sets = 2.0, "still grow", ""
    elif (sure := requests * waiting / growth) > certain:
        by = f"by {100.0 * growth:.1f} % of the time that passes (at most {100.0 * MAX_GROWTH:g} % is stable)"
        left = f"{fmean(each.in_system_at_end for each in backlogs):,.0f} are left when the last arrives"
        return False, f"{backlogs[0].what} ever longer: {by}; {left}"
    else:
        longer, how = max((certain / sure) ** 2, 2.0), "grow, maybe by chance"
        sets = f", or {math.ceil(longer * len(backlogs))} request sets,"
    needed_s = max(least_s, longer * span_s) / (1.0 - FILLING)
    step_s = 60.0 if needed_s > 120.0 else 1.0
    needed = format_seconds(step_s * math.ceil(needed_s / step_s - 1e-6))
    return None, f"too short to tell: delays {how}; arrivals for {needed} or more{sets} would tell"
