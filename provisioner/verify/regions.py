"""The sizes of a design that could pass: an optimistic bound from below, guesses, caps and stock from above."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from provisioner.deadline import check_time
from provisioner.errors import Interrupted
from provisioner.options.defaults import ENGINE_POLICIES
from provisioner.planning.candidates import Attainable
from provisioner.planning.designs import Design
from provisioner.planning.formulation import Caps
from provisioner.planning.lattice import Region, Sizes
from provisioner.planning.proof import Candidate, Problem, Proof, prove
from provisioner.planning.search import Best, Search
from provisioner.planning.setting import Setting
from provisioner.progress import Progress, Step
from provisioner.simulation.measure import interval, percentiles
from provisioner.specs.slo import LatencyLimit
from provisioner.verify.judge import SimulationJudge
from provisioner.verify.request_sets import RequestSets
from provisioner.verify.token_work import decode_load

_OPTIMISM: Final = 1.1  # a machine's work at best is taken as this much more: request sets differ in what they offer
_ROOM: Final = 2.5  # pools are searched up to this multiple of the formulas' guess,
_LEAST_ROOM: Final = 24  # and at least to this number of machines


@dataclass(frozen=True, slots=True)
class Scope:
    """Restrictions of a proof beside its question.

    ``caps`` are in place of the question's. ``least`` has the fewest machines of each pool of a design, ``starts``
    sizes to begin with, ``excluded`` clusters that are known to fail clearly. ``batch`` are judged at a time.
    """

    caps: Caps | None = None
    least: Mapping[Design, Sizes] = field(default_factory=dict)
    starts: Mapping[Design, Sizes] = field(default_factory=dict)
    excluded: tuple[Candidate, ...] = ()
    any_plan: bool = False
    batch: int = 2


@dataclass(frozen=True, slots=True)
class Case:
    """A question before the judge: the formulas' search over its designs, and the request sets of its planned rate.

    Designs whose own iterations are beyond a limit on the largest gap, whatever their sizes, are ruled out. The
    formulas, which are of other schedulers than engines', rule out only what requests alone miss under these.
    ``at_best`` has the machines that the prompts alone keep busy, by what a pool is.
    """

    setting: Setting
    search: Search
    designs: tuple[Design, ...]
    sets: RequestSets
    judge: SimulationJudge
    at_best: dict[Any, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for design in self.designs:
            option = self.search.candidates[design]
            if option.unattainable and self.judge.policy_of(design).name in ENGINE_POLICIES:
                kept = (x for x in option.unattainable if least_of(self.judge, design, x.limit) > x.limit.value)
                self.search.candidates[design] = replace(option, unattainable=tuple(kept))
        limits = [limit for limit in self.setting.slo.limits if limit.metric == "gap"]
        for design in self.designs if limits else ():
            option = self.search.candidates[design]
            known = {each.limit for each in option.unattainable}
            found = tuple(
                Attainable(limit, least, " and ".join(dict.fromkeys(slot.machine.name for slot in design.slots)))
                for limit in limits
                if limit not in known and (least := least_of(self.judge, design, limit)) > limit.value
            )
            if found:
                self.search.candidates[design] = replace(option, pools=(), unattainable=(*option.unattainable, *found))

    def prove(self, progress: Progress, scope: Scope) -> Proof:
        """The proof over the designs within a scope."""
        objective, searching = self.setting.criterion, self.setting.searching
        caps = self.setting.caps if scope.caps is None else scope.caps
        guesses: dict[Design, Best | None] = {}
        for k, design in enumerate(self.designs):
            progress(Step(f"first guesses: {k:,} of {len(self.designs):,} designs", k, len(self.designs)))
            guesses[design] = self.search.best((design,), objective, caps)
        problem = Problem(
            regions=tuple(self._region(design, guesses, caps, scope) for design in self.designs),
            prices=self.setting.prices,
            caps=caps,
            objective=objective,
            ties=self.setting.ties,
            exhaustive=searching.exhaustive,
            batch=scope.batch,
            solver=searching.solver,
            any_plan=scope.any_plan,
            excluded=scope.excluded,
        )
        try:
            return prove(problem, self.judge, progress)
        except KeyboardInterrupt:
            raise Interrupted(f"{self.judge.simulated_runs} runs simulated, the proof is not complete") from None

    def _region(self, design: Design, guesses: Mapping[Design, Best | None], caps: Caps, scope: Scope) -> Region:
        """The sizes of a design that could pass: enough for the prompts at best, within the caps and the scope."""
        option, survive = self.search.candidates[design], self.judge.survive
        fewest = 1 if self.judge.lends(design) else 1 + survive  # a pool that cannot borrow must not be lost whole
        least = tuple(max(n, fewest) for n in scope.least.get(design, (1,) * len(design.slots)))
        if option.reason or option.unattainable:  # no number of machines meets the limits
            return Region(design, least, (0,) * len(design.slots))
        guess, at_best = guesses[design], self._machines_at_best(design)
        known = [max(found.sizes) for found in guesses.values() if found is not None]
        room = max(_LEAST_ROOM, math.ceil(_ROOM * max(known if guess is None else guess.sizes, default=0)))
        if not known:
            room = max(room, math.ceil(_ROOM * 2.0 * sum(at_best)))
        start = scope.starts.get(design, None if guess is None else tuple(n + survive for n in guess.sizes))
        room += max((*least, *scope.starts.get(design, ()))) - 1
        most = tuple(min(room, caps.room(slot.machine.name, self.setting.prices)) for slot in design.slots)
        # The prompts' work must fit the machines that may run prompts: with a mixed pool every one. The work of tokens
        # is left out where they may ride along with prompts.
        runs = [self.judge.prompts_anywhere(design) or slot.role != "token" for slot in design.slots]
        work = [tuple(1.0 / n if may and n > 0.0 else 0.0 for n, may in zip(at_best, runs, strict=True))]
        if design.splits and not self.judge.lends(design) and 0.0 < (decode := self._decode_at_best(design)) < math.inf:
            work.append(tuple(1.0 / decode if slot.role == "token" else 0.0 for slot in design.slots))
        slowed = self.sets(0).requests.follows is not None  # sessions may take any time
        return Region(design, least, most, () if design.shares_role or slowed else tuple(work), start)

    def _decode_at_best(self, design: Design) -> float:
        """Machines of the token pool's type that decode keeps busy at best within limits on TBT; 0 without any."""
        key = next(slot.replica for slot in design.slots if slot.role == "token")
        if key not in self.at_best:
            perf, sets = self.judge.replicas[key], [self.sets(k) for k in range(self.judge.sets)]
            largest_batch = self.judge.policy_of(design).batch_requests
            busy = decode_load(perf, sets, self.setting.slo.limits, largest_batch)
            self.at_best[key] = busy / perf.replicas_per_machine / _OPTIMISM
        return self.at_best[key]

    def _machines_at_best(self, design: Design) -> tuple[float, ...]:
        """Machines of each pool's type that the prompts alone keep busy at best, one per pool."""
        check_time()
        requests = self.sets(0).requests
        batch_tokens = max(self.judge.policy_of(design).batch_tokens, *self.judge.batch_tokens, 0)
        span_s = float(requests.arrival_s[-1] - requests.arrival_s[0])
        kinds = [(batch_tokens, slot.replica, slot.min_prompt_tokens, slot.max_prompt_tokens) for slot in design.slots]
        for kind, slot in zip(kinds, design.slots, strict=True):
            if kind in self.at_best:
                continue
            perf, tokens = self.setting.replicas[slot.replica], np.arange(1.0, batch_tokens + 1.0)
            prompt = requests.prompt_tokens[slot.serves(requests.prompt_tokens)]
            least_s = float(np.min(np.asarray(perf.prompt_s(tokens)) / tokens))
            each_s = np.minimum(perf.prompt_s(prompt.astype(np.float64)), least_s * prompt)
            self.at_best[kind] = float(each_s.sum()) / max(span_s, 1e-9) / perf.replicas_per_machine / _OPTIMISM
        return tuple(map(self.at_best.__getitem__, kinds))


def least_of(judge: SimulationJudge, design: Design, limit: LatencyLimit) -> float:
    """The percentile of a limit that no size of a design can fall below, in the limit's kind.

    Each request alone on the fastest machine that may compute its phase: its prompt in one iteration (chunks take no
    less together), its decode iterations, of which the last is the least that its largest gap can be. The mean over
    request sets of the percentile. 0 for the published simulator, whose iterations with prompts may be shorter.
    """
    anywhere, lends = judge.prompts_anywhere(design), judge.lends(design)
    prompting = [judge.replicas[slot.replica] for slot in design.slots if slot.role != "token" or anywhere]
    decoding = [judge.replicas[slot.replica] for slot in design.slots if slot.role != "prompt" or lends]
    if decoding[0].assumptions != "measured":
        return 0.0
    values = []
    for k in range(judge.sets):
        prepared = judge.request_sets(k, 0)
        has = prepared.requests.counted & ((prepared.requests.output_tokens > 1) | (limit.metric in ("ttft", "e2e")))
        prompt, output = prepared.requests.prompt_tokens[has], prepared.requests.output_tokens[has]
        context = prompt + output - 2 if limit.metric == "gap" else prompt + output / 2  # the last, or the mean
        seconds = np.min([perf.decode_s(1, context) for perf in decoding], axis=0)
        if limit.metric in ("ttft", "e2e"):
            gaps = output - 1 if limit.metric == "e2e" else 0
            seconds = np.min([perf.prompt_s(prompt) for perf in prompting], axis=0) + gaps * seconds
        of = "tbt" if limit.metric == "gap" else limit.metric
        reference_s = prepared.alone_s(of)[has] if limit.kind == "slowdown" else 1.0
        values.append(percentiles(seconds / reference_s, (limit.percentile,))[0])
    return interval(values).mean
