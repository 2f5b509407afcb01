"""A cluster in hand: the largest rate that it holds, the limit that binds there, and additions for a higher rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Final

from provisioner.deadline import OUT_OF_TIME, TimeIsUp, ending, time_left_s
from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.setting import load_setting
from provisioner.options import CapacityOptions, PlanOptions, spelled
from provisioner.options.command import command_of
from provisioner.planning.candidates import DesignLatency, LatencyInputs
from provisioner.planning.designs import Design
from provisioner.planning.lattice import Sizes
from provisioner.planning.proof import Candidate
from provisioner.planning.search import largest_rate
from provisioner.planning.setting import Setting
from provisioner.progress import worded
from provisioner.results.capacity import Addition, Capacity, Tried
from provisioner.results.cluster import Cluster
from provisioner.simulation.run import compile_simulator
from provisioner.verify.answer import proof_of
from provisioner.verify.regions import Scope
from provisioner.verify.throughput import BEYOND, Rates

DEFAULT_TO: Final = (1.1, 1.25, 1.5)
"""Rates that machines are added for, as multiples of the largest that the cluster holds, where none are given."""

_GUESS_TOLERANCE: Final = 0.02


def capacity(options: CapacityOptions, *, progress: Callable[[str], None] = lambda _: None) -> Capacity:
    """Find the largest rate that a cluster holds, its binding limit, and the least to add by the objective for more.

    The machines are what is in hand: their replicas, and those of what is added, are at the tensor parallelism, of that
    of the options, that holds most. Limits on the whole cluster and stock hold for what is added with what is in hand.
    ``InfeasibleError`` if the cluster holds no rate at all.
    """
    _check(options)
    setting = load_setting(options.part(PlanOptions), progress)
    sizes = _sizes(setting.designs[0], options)
    compile_simulator(progress)
    rates = Rates(setting, progress)
    hand, rate, failed, untried = _best_degrees(rates, [Candidate(design, sizes) for design in setting.designs])
    flips = tuple(at for factor in BEYOND if rate and rates.verdict(hand, at := factor * failed).passes)
    beyond = rates.simulation(hand, failed)
    broken = [each for each in beyond.latency if each.met != "pass" and each.over_limit is not None]
    breaks = tuple(sorted(broken, key=lambda each: -(each.over_limit or 0.0)))
    if rate == 0.0:
        what = ", ".join(f"{each.label} {each.beside_limit}" for each in breaks) or "it does not keep up"
        nor = " at any TP" if len(setting.designs) > 1 else ""
        raise InfeasibleError(
            f"{hand} holds no rate{nor}: at {failed:.2g} requests/s {what}",
            binding=breaks[0].label if breaks else "capacity",
            relaxations=("limits above these values, or another design (provision plan says which)",),
        )
    served = setting.headroom_factor
    wanted = [each * served for each in options.to] or [factor * rate for factor in DEFAULT_TO]
    additions = [_addition(rates, hand, each) for each in wanted if options.additions]
    sets, judge = rates.judge(rate)
    with ending(math.inf, anew=True):
        held = rates.simulation(hand, rate)
    tried = {at: verdict for at, candidate, verdict in rates.tried if candidate == hand}
    question = {name: value for name, value in asdict(options).items() if name not in options.LEFT_OUT}
    degrees = {each: tuple(slot.tensor_parallel for slot in each.slots) for each in setting.designs}
    late = ", ".join("+".join(map(str, degrees[each.design])) for each in untried)
    return Capacity(
        design=hand.design.name,
        pools=held.pools,
        totals=setting.prices.totals(held.cluster),
        batch_tokens=judge.shown_tokens_of(hand),
        considered=tuple(degrees[each] for each in setting.designs if each not in {one.design for one in untried}),
        rate_rps=rate / served,
        failed_rps=failed / served,
        passes_again_rps=tuple(each / served for each in flips),
        breaks=breaks,
        stable_beyond=beyond.stable,
        additions=tuple(additions),
        objective=setting.criterion,
        latency=held.latency,
        attainment=held.attainment,
        tried=tuple(
            Tried(at / served, verdict.outcome, verdict.worst_ratio, verdict.early, verdict.stable)
            for at, verdict in sorted(tried.items())
        ),
        rule=sets.rule(judge.confidence, tried[rate].longer),
        warnings=(*setting.warnings, *([f"not tried within the time limit: TP {late}"] if untried else ())),
        question=question,
        command=command_of("capacity", question, CapacityOptions),
        **setting.rests_on,
    )


def _check(options: CapacityOptions) -> None:
    """Refuse options that mean nothing for a cluster in hand."""
    if len(options.designs) != 1:
        raise InputError(f"{spelled('designs')}: name the one design of the cluster in hand, such as splitwise-hh")
    if "rate" in options.scale:
        raise InputError(f"{spelled('scale')} rate: the largest rate is the answer; leave it out")
    if options.objective == "throughput":
        raise InputError(f"{spelled('objective')}: must be cost, power or machines: what to add least of")


def _sizes(design: Design, options: CapacityOptions) -> Sizes:
    """The machines of each pool; every pool of the design has to have some, and there are no others."""
    given = {"prompt": options.prompt, "token": options.token, "mixed": options.mixed}
    roles = [slot.role for slot in design.slots]
    for role, machines in given.items():
        if machines is not None and role not in roles:
            has = f"has no {role} machines; it has {' and '.join(roles)} machines"
            raise InputError(f"{spelled(role)}: {design.family} {has}")
    for role in roles:
        if given[role] is None:
            raise InputError(f"{spelled(role)}: is needed: the {role} machines of {design.family} in hand")
    return tuple(given[role] or 0 for role in roles)


def _best_degrees(rates: Rates, hands: Sequence[Candidate]) -> tuple[Candidate, float, float, tuple[Candidate, ...]]:
    """The cluster in hand at the degrees that hold most, its largest rate and its first failure; a rate of 0 for none.

    From the one that the formulas rate best to any other that passes at its first failure. The last are those not tried
    within half of the time that the first one leaves.
    """
    guesses = {hand: _guess(rates.setting, hand, rates.progress) for hand in hands}
    best, *others = sorted(hands, key=lambda hand: -guesses[hand])
    rate, failed = rates.largest(best, guesses[best])
    with ending(monotonic() + time_left_s() / 2.0):
        for k, other in enumerate(others):
            start = failed if rate else guesses[other]
            try:
                passes = not rate or rates.verdict(other, start).passes
                held, fails = rates.largest(other, start) if passes else (0.0, 0.0)
            except TimeIsUp:
                return best, rate, failed, tuple(others[k:])
            if held > rate:
                best, rate, failed = other, held, fails
    return best, rate, failed, ()


def _guess(setting: Setting, hand: Candidate, progress: Callable[[str], None]) -> float:
    """The largest rate by the formulas, or the workload's own if they know of none."""
    progress(f"a first guess by the formulas: {hand}")
    slo = setting.predicted

    def holds(rate_rps: float) -> bool:
        inputs = LatencyInputs(setting.traffic_at(rate_rps), slo, setting.reference, setting.replicas)
        latency = DesignLatency(inputs, hand.design)
        return latency.stable(hand.sizes) and all(latency.meets(limit, hand.sizes) for limit in slo.limits)

    rate, _ = largest_rate(holds, setting.traffic.peak_rps, _GUESS_TOLERANCE)
    return rate or setting.traffic.peak_rps


def _addition(rates: Rates, hand: Candidate, rate_rps: float) -> Addition:
    """The least to add to hold a rate: the best cluster at any degrees with no pool smaller than in hand."""
    there = rates.setting.at(rate_rps)
    prefix = f"to hold {rate_rps:.4g} requests/s"
    try:
        search, starts = there.search(), dict.fromkeys(there.designs, hand.sizes)
        for design in there.designs:
            if (guess := search.best((design,), there.criterion)) is not None:
                starts[design] = tuple(map(max, guess.sizes, hand.sizes))
        scope = Scope(least=dict.fromkeys(there.designs, hand.sizes), starts=starts)
        proof = proof_of(there, lambda text: rates.progress(worded(text, f"{prefix}: ")), rates.verdicts, scope).proof
    except TimeIsUp:
        return Addition(there.rate_rps, None, None, False, 0, OUT_OF_TIME)
    except InfeasibleError as error:
        return Addition(there.rate_rps, None, None, True, 0, str(error))
    if proof.best is None:
        limited = ", within the limits on the whole cluster" if there.caps.any else ""
        done = "" if proof.optimal else "; the time limit was reached"
        nearest = f"; the nearest miss is {proof.nearest_miss.candidate}" if proof.nearest_miss else ""
        why = f"no cluster that has these machines passes{limited}{done}{nearest}"
        return Addition(there.rate_rps, None, None, proof.optimal, proof.counts.simulated, why)
    design = proof.best.candidate.design
    more = tuple(n - had for n, had in zip(proof.best.candidate.sizes, hand.sizes, strict=True))
    added = Cluster(design.name, there.pools(design, more))
    why = "" if any(more) else "the machines in hand hold it: nothing is added"
    tokens = rates.judge(rate_rps)[1].shown_tokens_of(proof.best.candidate)
    totals = there.prices.totals(added)
    return Addition(there.rate_rps, added, totals, proof.optimal, proof.counts.simulated, why, tokens)
