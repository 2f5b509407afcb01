"""The request sets on which candidates are judged, and the rule that they are judged by."""

import math
from itertools import chain
from threading import Lock
from typing import Final

import numpy as np

from provisioner.errors import InputError
from provisioner.options import spelled
from provisioner.options.defaults import MOST_SETS, WARM_UP
from provisioner.planning.setting import Setting
from provisioner.simulation.requests import LONGEST_S, RequestSet, bunches_s, drawn, from_trace
from provisioner.simulation.run import Prepared, prepare
from provisioner.simulation.stability import doublings
from provisioner.specs.slo import SLO
from provisioner.specs.traces import Trace

# A request set takes at least ``_TOLD`` mean times of a request alone, so that growth can be told (``MIN_WINDOW``, less
# the part that is not looked at), ``_WINDOWS`` if growth alone decides, and ``_LIMITS`` times the largest limit.
_TOLD: Final = 7.0
_WINDOWS: Final = 20.0
_LIMITS: Final = 3.0
_MOST_KEPT: Final = 1_000_000  # requests of the sets that are kept
# What surely fails is seen in the requests that this rate brings in the time of a set, in requests/s: five times 24,000
# tell a load to 0.4 %, and the share beyond P99 to 3 % of it (standard deviations of independent requests).
_SCREENING_RPS: Final = 200.0
_SCREENING: Final = 0.5  # share of a set's time up to which its start is simulated first
# but no more than this for a limit, in s: then growth alone tells what keeps up (``simulation.stability``)
_SHARP_S: Final = 600.0

LEAST_BEYOND: Final = 10.0  # measured requests beyond a percentile in each request set, at least: fewer are chance


def needed_s(slo: SLO, rate_rps: float) -> float:
    """Time of a request set at a rate that has ``LEAST_BEYOND`` requests beyond every percentile, in whole s.

    >>> from provisioner.specs.slo import load_slo
    >>> needed_s(load_slo("p99"), 70.0), needed_s(load_slo("p99"), 5.0), needed_s(load_slo("batch"), 5.0)
    (16.0, 223.0, 0.0)
    """
    return float(math.ceil(LONGEST_S * least_rate_rps(slo) / rate_rps * (1.0 - 1e-9)))


def least_rate_rps(slo: SLO, cv: float = 1.0) -> float:
    """The rate at which the longest request set has ``LEAST_BEYOND`` requests beyond every percentile, and its CV."""
    rarest = min((1.0 - limit.quantile for limit in slo.limits), default=math.inf)
    return max(LEAST_BEYOND / (rarest * (1.0 - WARM_UP)), bunches_s(1.0, cv)) / LONGEST_S


class RequestSets:
    """The request sets on which candidates are judged, made once each: the trace as it is, or drawn at the rate.

    ``InputError`` if they cannot have ``LEAST_BEYOND`` requests beyond every percentile.
    """

    def __init__(self, setting: Setting, rate_rps: float) -> None:
        self.setting = setting
        self.rate_rps = rate_rps
        self._lock = Lock()
        self._made: dict[tuple[int, int], Prepared] = {}
        as_it_is, cv = isinstance(setting.source, Trace), setting.traffic.cv
        self._bunches_s = 0.0 if as_it_is else bunches_s(rate_rps, cv)
        if self._bunches_s > max(LONGEST_S, setting.judging.duration_s):
            raise InputError(
                f"{spelled('cv')}: arrivals with CV {cv:.4g} take {bunches_s(1.0, cv):,.0f} requests or more to tell "
                f"their rate, and {rate_rps:.4g} requests/s are fewer in {LONGEST_S:,.0f} s; give a lower "
                f"CV, or {bunches_s(1.0, cv) / LONGEST_S:.3g} requests/s"
            )
        if not setting.slo.limits:
            return
        limit, source = max(setting.slo.limits, key=lambda limit: limit.percentile), setting.source
        least = LEAST_BEYOND / (1.0 - limit.quantile)
        what = f"{limit.label} is judged on {least:,.0f} requests or more"
        if isinstance(source, Trace):
            if source.requests < least * (1.0 - 1e-9):
                raise InputError(
                    f"{spelled('trace')}: {what}, and {source.path} has {source.requests:,}; give limits on lower "
                    f"percentiles, or its file to {spelled('workload')}"
                )
        elif needed_s(setting.slo, rate_rps) > LONGEST_S:
            raise InputError(
                f"{spelled('rate_rps')}: {what}, and {rate_rps:.4g} requests/s are fewer in {LONGEST_S:,.0f} s; give "
                f"limits on lower percentiles, or {least_rate_rps(setting.slo):.3g} requests/s"
            )

    @property
    def count(self) -> int:
        """Sets to judge every candidate on: a trace as it is, one long set without limits, or as many as asked for.

        Without limits only growth of the delay decides, which one set tells better than several as long together.
        """
        return 1 if isinstance(self.setting.source, Trace) or not self.setting.slo.limits else self.setting.judging.sets

    @property
    def set_s(self) -> float:
        """Time of one drawn set, in s: long enough to tell whether a delay grows, and for it to grow beyond limits."""
        judging, job = self.setting.judging, self.setting.job
        if self.setting.slo.limits:
            return max(judging.duration_s, self._least_s)
        together_s = max(judging.sets * judging.duration_s, _WINDOWS * self._alone_s, self._bunches_s)
        return together_s if job is None else min(together_s, job.feed_s)

    @property
    def screening_s(self) -> float | None:
        """Time of the start of a set that shows what surely fails, in s; None if it is not much shorter than the set.

        Load and percentiles take a number of requests, more of them by the variance of bursts.
        """
        if isinstance(self.setting.source, Trace) or self.setting.job is not None:
            return None
        requests = self.set_s * _SCREENING_RPS * 0.5 * (1.0 + max(self.setting.traffic.cv, 1.0) ** 2)
        start_s = max(requests / self.rate_rps, self._least_s)
        return start_s if start_s <= _SCREENING * self.set_s else None

    @property
    def _alone_s(self) -> float:
        """Mean E2E time of a request alone, in s."""
        c = self.setting.traffic.classes
        return float(c.weight @ self.setting.reference.e2e_s(c.prompt_tokens, c.output_tokens))

    @property
    def _least_s(self) -> float:
        """Time in which growth and percentiles can be told, and delays can grow beyond limits, in s."""
        parts = chain.from_iterable(limit.parts for limit in self.setting.slo.limits)
        limits_s = [part.value for part in parts if part.kind == "seconds"]
        beyond_s = min(_LIMITS * max(limits_s, default=0.0), _SHARP_S)
        return max(_TOLD * self._alone_s, beyond_s, needed_s(self.setting.slo, self.rate_rps), self._bunches_s)

    @property
    def doublings(self) -> int:
        """The number of times that the sets may be doubled in time, those of a job up to its end; 0 for a trace."""
        if isinstance(self.setting.source, Trace):
            return 0
        most = doublings(self.set_s, self.rate_rps, self.count)
        return most if (job := self.setting.job) is None else min(most, math.ceil(math.log2(job.feed_s / self.set_s)))

    def requests(self, k: int, longer: int = 0) -> RequestSet:
        """The k-th set, its time doubled ``longer`` times; -1: its start of ``screening_s``."""
        source = self.setting.source
        if isinstance(source, Trace):
            factor = self.rate_rps / self.setting.rate_rps  # a headroom brings the requests closer together
            return from_trace(source if factor == 1.0 else source.scaled(rate=factor))
        rng = np.random.default_rng([self.setting.judging.seed, k])
        cv = self.setting.traffic.cv if self.setting.job is None else 0.0
        return drawn(source, self.rate_rps, self._longer_s(longer), rng, cv=cv)

    def _longer_s(self, longer: int) -> float:
        """Time of one drawn set, doubled ``longer`` times, up to the end of a job; -1: its start."""
        if longer < 0 and self.screening_s is not None:
            return self.screening_s
        most_s = math.inf if self.setting.job is None else self.setting.job.feed_s
        return min(2.0**longer * self.set_s, most_s)

    def __call__(self, k: int, longer: int = 0) -> Prepared:
        """The k-th set, as ``requests`` has it, ready for runs."""
        with self._lock:
            if (longer, k) not in self._made:
                self._made[longer, k] = prepare(self.requests(k, longer), self.setting.reference)
            made = self._made[longer, k]
            while sum(each.requests.requests for each in self._made.values()) > _MOST_KEPT:
                del self._made[max(self._made)]  # the longest, which are needed least
            return made

    def rule(self, confidence: float, longer: int = 0) -> str:
        """The rule of the verdict as text: the request sets, ``longer`` times doubled, and when a percentile passes."""
        first, slo = self(0, longer).requests, self.setting.slo
        if self.setting.job is not None:
            sets = f"the first {float(first.arrival_s[-1]):,.0f} s of the job, {first.requests:,} requests fed evenly"
            passes = "passes when it keeps up and the last request ends in time"
            return f"{sets}; a cluster {passes}, the delay growing to the end as it does in them"
        if isinstance(self.setting.source, Trace):
            faster = "" if self.rate_rps == self.setting.rate_rps else ", its requests closer together by the headroom"
            after = f", {many:,} of them after the answers before them" if (many := self.setting.source.waiting) else ""
            return f"the trace as it is: {first.requests:,} requests{after}{faster}"
        number = "1 request set" if self.count == 1 else f"{self.count} independent request sets"
        number += f" of {self._longer_s(longer):.6g} s"
        sets = f"{number}, about {first.requests:,} requests each, the first 10 % a warm-up"
        if self.count == 1:
            return sets if slo.limits else f"{sets}; a cluster passes when it keeps up"
        bound = f"the one-sided {100.0 * confidence:g} % upper bound of its mean over them is within the limit"
        most = f"with up to {MOST_SETS} sets where fewer leave it undecided"
        if self.screening_s is not None:
            most += f"; a cluster that fails for sure in their first {self.screening_s:.3g} s is simulated no longer"
        if slo.attainment is not None:
            share = f"the share within all limits passes when the one-sided {100.0 * confidence:g} % lower bound of its"
            share += " mean over them is the one asked for"
            bound = share if len(slo.limits) == 1 else f"a percentile passes when {bound}, {share}"
            return f"{sets}; {bound}, {most}"
        return f"{sets}; a percentile passes when {bound}, {most}"
