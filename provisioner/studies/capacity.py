"""A cluster in hand: the largest rate that it holds, what binds it there, and what to add for a higher one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.candidates import DesignLatency, LatencyInputs
from provisioner.planning.designs import Design
from provisioner.planning.lattice import Sizes
from provisioner.planning.proof import Candidate
from provisioner.planning.search import largest_rate
from provisioner.planning.setting import Setting
from provisioner.progress import worded
from provisioner.results.simulation import Simulation
from provisioner.simulation.run import compile_simulator
from provisioner.specs.traces import Trace
from provisioner.specs.units import parse_positive, parse_whole
from provisioner.studies.result import StudyResult
from provisioner.verify.prove import Proven, proof_of
from provisioner.verify.regions import Scope
from provisioner.verify.throughput import BEYOND, Rates, TimeIsUp
from provisioner.verify.verdicts import Verdicts

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

DEFAULT_TO: Final = (1.1, 1.25, 1.5)
"""Rates that machines are added for, as multiples of the largest that the cluster holds, where none are given."""

_GUESS_TOLERANCE: Final = 0.02
_ROLES: Final = ("prompt", "token", "mixed")


@dataclass(frozen=True, slots=True)
class Break:
    """A limit that is missed: its value, in its kind, the limit, and the value over it.

    ``undecided``: the value is within the limit, the upper bound that the request sets leave for it is not.
    """

    limit: str
    value: str
    allowed: str
    ratio: float
    undecided: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """A verdict on the cluster at a rate; ``worst_ratio`` is the largest percentile over its limit.

    It is infinite where the cluster does not keep up, and a lower bound where ``at_least``.
    """

    rate_rps: float
    outcome: str
    worst_ratio: float
    at_least: bool
    stable: bool


@dataclass(frozen=True, slots=True)
class Addition:
    """The least that has to be added to hold a rate: machines of each pool, with their totals; or why nothing would do.

    ``proven`` says that nothing less passes; ``simulated`` counts the clusters that were simulated for it.
    """

    rate_rps: float
    machines: tuple[int, ...]
    cost_usd_per_h: float
    power_w: float
    feasible: bool
    proven: bool
    simulated: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Capacity(StudyResult):
    """The largest rate that a cluster holds, to 1 %: at ``failed_rps`` it fails, the first failure above.

    ``passes_again_rps`` are rates somewhat above that at which it passes all the same: between them verdicts flip.
    ``breaks`` is what is missed at the first failure, with ``stable`` whether the cluster keeps up there.
    ``simulation`` is that of the cluster at its largest rate, ``tried`` every verdict. All rates are without the
    headroom that they hold.
    """

    design: str
    pools: tuple[tuple[str, str, int], ...]  # role, machine, machines
    rate_rps: float
    failed_rps: float
    passes_again_rps: tuple[float, ...]
    breaks: tuple[Break, ...]
    stable: bool
    additions: tuple[Addition, ...]
    objective: str
    cost_usd_per_h: float
    power_w: float
    simulation: Simulation
    tried: tuple[Tried, ...]
    rule: str
    model: str
    workload: str
    slo: str
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    question: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]

    @property
    def binding(self) -> str:
        """The limit that is missed by most at the first failure; ``capacity`` where the cluster does not keep up."""
        return self.breaks[0].limit if self.stable and self.breaks else "capacity"

    @property
    def machines(self) -> int:
        """Machines in hand."""
        return sum(machines for _, _, machines in self.pools)

    def records(self) -> list[dict[str, Any]]:
        """One flat record per rate: the cluster in hand at the largest it holds, then with what is added for more."""
        roles = [role for role, _, _ in self.pools]
        rows = [Addition(self.rate_rps, (0,) * len(roles), 0.0, 0.0, True, True, len(self.tried)), *self.additions]
        records = []
        for k, row in enumerate(rows):
            sizes = [n + more for (_, _, n), more in zip(self.pools, row.machines, strict=True)] if row.feasible else []
            added = {f"added_{role}_machines": n for role, n in zip(roles, row.machines, strict=False)}
            records.append(
                {
                    "design": self.design,
                    "rate_rps": row.rate_rps,
                    "in_hand": k == 0,
                    "feasible": row.feasible,
                    **({f"{role}_machines": n for role, n in zip(roles, sizes, strict=False)}),
                    **(added if row.feasible else {}),
                    "added_cost_usd_per_h": row.cost_usd_per_h if row.feasible else None,
                    "added_power_w": row.power_w if row.feasible else None,
                    "added_machines": sum(row.machines) if row.feasible else None,
                    "cost_usd_per_h": self.cost_usd_per_h + row.cost_usd_per_h if row.feasible else None,
                    "power_w": self.power_w + row.power_w if row.feasible else None,
                    "proven": row.proven,
                    "reason": row.reason,
                }
            )
        return records

    def to_frame(self) -> pd.DataFrame:
        """One row per rate: the largest that the cluster holds, then those that machines are added for."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def latency_frame(self) -> pd.DataFrame:
        """One row per percentile at the largest rate, as a pandas DataFrame."""
        return self.simulation.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """The capacity as plain values: what ``--json`` prints."""
        from provisioner.report.as_json import plain_value
        from provisioner.report.capacity_document import capacity_command

        simulated = self.simulation.to_dict()
        plain: dict[str, Any] = plain_value(
            {
                "design": self.design,
                "pools": [{"role": role, "machine": name, "machines": n} for role, name, n in self.pools],
                "rate_rps": self.rate_rps,
                "failed_rps": self.failed_rps,
                "passes_again_rps": self.passes_again_rps,
                "binding": self.binding,
                "stable_beyond": self.stable,
                "breaks": [
                    {
                        "limit": b.limit,
                        "value": b.value,
                        "allowed": b.allowed,
                        "ratio": b.ratio,
                        "undecided": b.undecided,
                    }
                    for b in self.breaks
                ],
                "latency": simulated["latency"],
                "pools_at_rate": simulated["pools"],
                "additions": self.records()[1:],
                "objective": self.objective,
                "cost_usd_per_h": self.cost_usd_per_h,
                "power_w": self.power_w,
                "tried": [
                    {"rate_rps": t.rate_rps, "outcome": t.outcome, "worst_ratio": t.worst_ratio, "at_least": t.at_least}
                    for t in self.tried
                ],
                "rule": self.rule,
                "model": self.model,
                "workload": self.workload,
                "slo": self.slo,
                "warnings": self.warnings,
                "sources": self.sources,
                "question": self.question,
                "command": capacity_command(self.question),
                "seed": self.seed,
                "versions": self.versions,
            }
        )
        return plain

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.capacity_document import capacity_document

        return capacity_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The pictures: the worst limit against the rate, and what more costs."""
        from provisioner.report.capacity_document import capacity_charts

        return capacity_charts(self)


def capacity(
    options: PlanOptions,
    *,
    prompt: int | None = None,
    token: int | None = None,
    mixed: int | None = None,
    to: Sequence[float] = (),
    additions: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Capacity:
    """The largest rate that a cluster holds, what binds it, and the least to add by the options' objective for more.

    The options name one design, at the largest tensor parallelism that its machines have curves at unless its name or
    ``tensor_parallel`` says another; ``prompt``, ``token`` and ``mixed`` are its machines. ``to`` are the rates to add
    for, in requests/s (1.1, 1.25 and 1.5 times the capacity unless given); none are looked for without ``additions``.
    Caps and stock of the options hold for what is added with what is in hand. ``InfeasibleError`` where the cluster
    holds no rate at all.
    """
    _check(options, to, additions)
    setting = load_setting(options)
    if len(setting.designs) > 1:  # one name for several degrees of tensor parallelism
        options = replace(options, tensor_parallel="largest")
        setting = load_setting(options)
    if isinstance(setting.source, Trace):
        raise InputError("--trace: has its own rate, and capacity looks for one; give its file to --workload")
    design = setting.designs[0]
    sizes = _sizes(design, {"prompt": prompt, "token": token, "mixed": mixed})
    hand = Candidate(design, sizes)
    compile_simulator(progress)
    verdicts = Verdicts()
    rates = Rates(setting, progress, verdicts)
    try:
        rate, failed = rates.largest(hand, _guess(setting, hand, progress))
        if rate == 0.0:
            raise _holds_nothing(rates, hand, failed)
        flips = tuple(at for factor in BEYOND if rates.verdict(hand, at := factor * failed).passes)
    except TimeIsUp:
        raise InfeasibleError(
            f"the time limit was reached before the largest rate of {hand} was found",
            binding="--time-limit",
            relaxations=("a longer --time-limit",),
        ) from None
    beyond = rates.simulation(hand, failed)
    served = setting.load.factor
    wanted = [float(each) * served for each in to] or [factor * rate for factor in DEFAULT_TO]
    found = [_addition(rates, hand, each, verdicts, progress) for each in wanted] if additions else []
    sets, judge = rates.judge(rate)
    return Capacity(
        design=design.name,
        pools=tuple((slot.role, slot.machine.name, n) for slot, n in zip(design.slots, sizes, strict=True)),
        rate_rps=rate / served,
        failed_rps=failed / served,
        passes_again_rps=tuple(each / served for each in flips),
        breaks=_breaks(beyond),
        stable=beyond.stable,
        additions=tuple(replace(each, rate_rps=each.rate_rps / served) for each in found),
        objective=options.objective,
        cost_usd_per_h=_total(setting.prices.cost_usd_per_h, design, sizes),
        power_w=_total(setting.prices.power_w, design, sizes),
        simulation=rates.simulation(hand, rate),
        tried=_tried(rates, hand, served),
        rule=sets.rule(judge.confidence),
        model=options.model,
        workload=setting.workload,
        slo=setting.slo.name,
        sources=setting.sources,
        warnings=setting.warnings,
        question={
            **{role: n for role, n in zip((slot.role for slot in design.slots), sizes, strict=True)},
            "to": tuple(to),
            "additions": additions,
            **setting.question,
        },
        seed=options.seed,
        versions=setting.versions,
    )


def _check(options: PlanOptions, to: Sequence[float], additions: bool) -> None:
    """Refuse what cannot be asked of a cluster in hand."""
    if len(options.designs) != 1:
        raise InputError("--design: name the one design of the cluster in hand, such as splitwise-hh")
    if options.trace is not None:
        raise InputError("--trace: has its own rate, and capacity looks for one; give its file to --workload")
    if options.rate_rps is not None:
        raise InputError("--rate: is what capacity finds; give --to for rates to add machines for")
    if options.fast:
        raise InputError("--fast: capacity is simulated; see provision plan --fast --objective throughput")
    if options.objective == "throughput":
        raise InputError("--objective: must be cost, power or machines: what to add least of")
    if options.write_lp is not None:
        raise InputError("--write-lp: is of provision plan; leave it out")
    if to and not additions:
        raise InputError("--to: names rates to add machines for, and no additions were asked for")
    for rate in to:
        parse_positive(rate, "--to", "requests/s")


def _sizes(design: Design, given: Mapping[str, int | None]) -> Sizes:
    """The machines of each pool; every pool of the design has to have some, and there are no others."""
    roles = [slot.role for slot in design.slots]
    for role, machines in given.items():
        if machines is not None and role not in roles:
            raise InputError(f"--{role}: {design.name} has no {role} machines; it has {' and '.join(roles)} machines")
    for role in roles:
        if given[role] is None:
            raise InputError(f"--{role}: is needed: the {role} machines of {design.name} in hand")
    return tuple(parse_whole(given[role] or 0, f"--{role}", "machines") for role in roles)


def _total(each: Mapping[str, float], design: Design, sizes: Sizes) -> float:
    return sum(n * each[slot.machine.name] for n, slot in zip(sizes, design.slots, strict=True))


def _guess(setting: Setting, hand: Candidate, progress: Callable[[str], None]) -> float:
    """The largest rate by the formulas, or the workload's own where they know of none."""
    progress("a first guess by the formulas")

    def holds(rate_rps: float) -> bool:
        question = LatencyInputs(setting.traffic_at(rate_rps), setting.slo, setting.reference, setting.replicas)
        latency = DesignLatency(question, hand.design)
        if not latency.stable(hand.sizes):
            return False
        return all(latency.meets(limit, hand.sizes) for limit in setting.slo.limits)

    rate, _ = largest_rate(holds, setting.traffic.peak_rps, _GUESS_TOLERANCE)
    return rate or setting.traffic.peak_rps


def _breaks(found: Simulation) -> tuple[Break, ...]:
    """The limits that a simulation misses or leaves undecided, the largest value over its limit first."""
    broken = [
        Break(
            each.limit.label,
            each.limit.format(each.judged.mean),
            each.limit.format(each.limit.value),
            each.judged.mean / each.limit.value,
            each.met == "undecided",
        )
        for each in found.latency
        if each.limit is not None and each.met != "pass"
    ]
    return tuple(sorted(broken, key=lambda each: -each.ratio))


def _holds_nothing(rates: Rates, hand: Candidate, failed_rps: float) -> InfeasibleError:
    broken = _breaks(rates.simulation(hand, failed_rps))
    what = ", ".join(f"{each.limit} {each.value} of {each.allowed}" for each in broken) or "it does not keep up"
    return InfeasibleError(
        f"{hand} holds no rate: at {failed_rps:.2g} requests/s {what}",
        binding=broken[0].limit if broken else "capacity",
        relaxations=("limits above these values, or another design (provision plan says which)",),
    )


def _tried(rates: Rates, hand: Candidate, served: float) -> tuple[Tried, ...]:
    """Every verdict on the cluster, by rate."""
    verdicts = {rate: verdict for rate, candidate, verdict in rates.tried if candidate == hand}
    return tuple(
        Tried(rate / served, verdict.outcome, verdict.worst_ratio, verdict.early, verdict.stable)
        for rate, verdict in sorted(verdicts.items())
    )


def _addition(
    rates: Rates, hand: Candidate, rate_rps: float, verdicts: Verdicts, progress: Callable[[str], None]
) -> Addition:
    """The least to add, by the objective, to hold a rate: the best cluster with no pool smaller than in hand."""
    there = rates.at(rate_rps)
    prefix = f"to hold {rate_rps:.4g} requests/s"
    found: Proven | None = None
    reason = ""
    try:
        limit_s = None if math.isinf(rates.time_left_s) else max(rates.time_left_s, 1e-3)
        scope = Scope(least={hand.design: hand.sizes}, starts={hand.design: _start(there, hand)}, time_limit_s=limit_s)
        found = proof_of(there, lambda text: progress(worded(text, f"{prefix}: ")), verdicts, scope)
    except InfeasibleError as error:
        reason = str(error)
    if found is None or found.proof.best is None:
        if found is not None:
            what = "no cluster that has these machines passes"
            limited = ", within the limits on the whole cluster" if there.caps.any else ""
            done = "" if found.proof.optimal else "; the time limit was reached"
            reason = f"{what}{limited}{done}"
            miss = found.proof.nearest_miss
            if miss is not None:
                reason += f"; the nearest miss is {miss.candidate}"
        simulated = 0 if found is None else found.proof.counts.simulated
        return Addition(rate_rps, (), 0.0, 0.0, False, found is None or found.proof.optimal, simulated, reason)
    best = found.proof.best.candidate
    added = tuple(n - had for n, had in zip(best.sizes, hand.sizes, strict=True))
    prices = there.prices
    return Addition(
        rate_rps,
        added,
        _total(prices.cost_usd_per_h, hand.design, added),
        _total(prices.power_w, hand.design, added),
        True,
        found.proof.optimal,
        found.proof.counts.simulated,
    )


def _start(setting: Setting, hand: Candidate) -> Sizes:
    """Sizes to begin with: those of the formulas' best choice, no pool smaller than in hand."""
    guess = setting.search().best((hand.design,), setting.criterion)
    return hand.sizes if guess is None else tuple(map(max, guess.sizes, hand.sizes))
