"""The sizes of a design that could pass: an optimistic bound from below, guesses, caps and stock from above."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from provisioner.planning.candidates import Attainable
from provisioner.planning.designs import Design
from provisioner.planning.formulation import CRITERIA, Caps
from provisioner.planning.lattice import Region, Sizes
from provisioner.planning.proof import Candidate
from provisioner.planning.search import Best, Search
from provisioner.planning.setting import Setting
from provisioner.simulation.measure import interval, percentiles
from provisioner.specs.slo import LatencyLimit
from provisioner.verify.judge import SimulationJudge

# The work that a machine can do at best is taken as this much more: request sets differ in what they offer.
_OPTIMISM: Final = 1.1
# Pools are searched up to this multiple of the formulas' guess, and at least to this number of machines.
_ROOM: Final = 2.5
_LEAST_ROOM: Final = 24


@dataclass(frozen=True, slots=True)
class Scope:
    """Restrictions of a proof beside its question.

    ``caps`` and ``time_limit_s`` are in place of the question's. ``least`` has the fewest machines of each pool of a
    design, ``starts`` sizes to begin with, ``excluded`` clusters that are known to fail clearly.
    """

    caps: Caps | None = None
    least: Mapping[Design, Sizes] = field(default_factory=dict)
    starts: Mapping[Design, Sizes] = field(default_factory=dict)
    excluded: tuple[Candidate, ...] = ()
    time_limit_s: float | None = None
    any_plan: bool = False


def region_of(
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
        room = max(room, math.ceil(_ROOM * 2.0 * sum(machines_at_best(setting, judge, design))))
    start = scope.starts.get(design, None if guess is None else guess.sizes)
    room += max((*least, *(start if design in scope.starts and start is not None else ()))) - 1
    most = []
    for slot in design.slots:
        name = slot.machine.name
        bounds = [room, caps.stock.get(name, room)]
        for criterion in CRITERIA:
            cap = caps.of(criterion)
            if cap is not None:
                bounds.append(math.floor(cap / setting.prices.of(criterion, name) * (1.0 + 1e-9)))
        most.append(min(bounds))
    return Region(design, least, tuple(most), _work(setting, judge, design), start)


def rule_out_gaps(setting: Setting, search: Search, designs: Iterable[Design], judge: SimulationJudge) -> None:
    """Rule out the designs whose own iterations are beyond a limit on the largest gap, whatever their sizes."""
    limits = [limit for limit in setting.slo.limits if limit.metric == "gap"]
    for design in designs if limits else ():
        option = search.candidates[design]
        known = {each.limit for each in option.unattainable}
        found = tuple(
            Attainable(limit, least, " and ".join(dict.fromkeys(slot.machine.name for slot in design.slots)))
            for limit in limits
            if limit not in known and (least := least_gap(judge, design, limit)) > limit.value
        )
        if found:
            search.candidates[design] = replace(option, pools=(), unattainable=(*option.unattainable, *found))


def least_gap(judge: SimulationJudge, design: Design, limit: LatencyLimit) -> float:
    """The percentile of a limit on the largest gap that no size of a design can fall below, in the limit's kind.

    A request's largest gap is at least its last decode iteration alone on the fastest machine that may decode. The
    result is the mean over the request sets of the percentile of that, as clusters are judged. The published
    simulator's iterations with prompts may be shorter than those without: 0 there.
    """
    decoding = [judge.replicas[slot.replica] for slot in design.slots if slot.role != "prompt" or judge.lends(design)]
    if decoding[0].assumptions != "measured":
        return 0.0
    values = []
    for k in range(judge.sets):
        prepared = judge.request_sets(k)
        has = prepared.requests.counted & (prepared.requests.output_tokens > 1)
        context = (prepared.requests.prompt_tokens + prepared.requests.output_tokens)[has] - 2
        iteration_s = np.min([perf.decode_s(1, context) for perf in decoding], axis=0)
        reference_s = prepared.records["reference_tbt_s"][has] if limit.kind == "slowdown" else 1.0
        values.append(percentiles(iteration_s / reference_s, (limit.percentile,))[0])
    return interval(values).mean


def machines_at_best(setting: Setting, judge: SimulationJudge, design: Design) -> tuple[float, ...]:
    """Machines of each pool's type that the prompts alone keep busy at best, one per pool."""
    requests = judge.request_sets(0).requests
    span_s = float(requests.arrival_s[-1] - requests.arrival_s[0])
    found = []
    for slot in design.slots:
        perf = setting.replicas[slot.replica]
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
    needed = machines_at_best(setting, judge, design)
    runs = [judge.lends(design) or slot.role != "token" for slot in design.slots]
    if design.shares_role:
        return ()
    return (tuple(1.0 / n if may and n > 0.0 else 0.0 for n, may in zip(needed, runs, strict=True)),)
