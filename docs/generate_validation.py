"""Write docs/validation.md: simulated runs and plans beside what was published. Run it as

    python docs/generate_validation.py FOLDER

FOLDER holds `runs.json` and `coding-70rps-120s.csv`: percentiles that the published simulator (SplitwiseSim) gave for
thirteen clusters on one trace, and that trace (arrival_s, prompt_tokens, output_tokens).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provisioner.api import load_setting
from provisioner.judge import SimulationJudge
from provisioner.options import PlanOptions
from provisioner.perf import memory
from provisioner.perf.assumptions import ReplicaPerf, SplitwiseSimReplica, replica
from provisioner.perf.curves import CurveSet, PiecewiseLinear
from provisioner.planning.answer import Setting, answer
from provisioner.planning.candidates import DesignLatency, Question
from provisioner.planning.designs import Design
from provisioner.planning.proof import Candidate
from provisioner.simulation.measure import percentiles
from provisioner.simulation.policy import PolicyName
from provisioner.simulation.requests import RequestSet, drawn, from_trace
from provisioner.simulation.run import Prepared, Run, compile_simulator, prepare, run
from provisioner.specs import catalog
from provisioner.specs.slo import METRICS, PERCENTILES, QUANTILE
from provisioner.specs.traces import read_trace

Floats = NDArray[np.float64]

PAGE = Path(__file__).with_name("validation.md")
QUEUEING = Path(__file__).with_name("queueing.md")
FIG_12 = {
    "model": "bloom-176b",
    "workload": "coding",
    "slo": "splitwise",
    "designs": ("splitwise-hh",),
    "prices": "paper",
}
H100_USD_PER_H = 38.08

INTRODUCTION = """\
# Validation: simulations and plans beside what was published

Written by `python docs/generate_validation.py FOLDER`; a test writes it again and compares. The curves' own error is in
[hardware.md](hardware.md).
"""

RUNS_TEXT = """\
## Thirteen runs of the published simulator

BLOOM-176B on one two-minute trace of 8,502 coding requests at 70 requests/s, `--assumptions splitwise-sim`, policy
`splitwise` (`mixed` for the baselines). Of the nine slowdown percentiles (TTFT, TBT, E2E; P50, P90, P99) and the same nine
in seconds, the largest relative difference between the published run and ours, and whether all nine limits hold:
"""

NOISE_TEXT = """\
### The noise floor

Near saturation one request sent elsewhere changes all that follow, so no two programs can agree to the last digit. How far
that goes: every knot of every latency curve times 1 + eps x a standard normal number, three seeds, the same runs. A
verdict is whether all nine limits hold; the moves are of the nine slowdown percentiles against the run without noise.
"""

CHEAPEST_NOISE_TEXT = """\
With eps = 1e-5, the cheapest Splitwise-HH on this trace, by simulating every split of {first} machines and more until
one passes, in {trials} trials with other noise: {totals}. The splits that pass with that total differ from trial to trial:
{splits}. A cheapest total is a robust answer, its split between the pools is not.
"""

FIG_12_TEXT = """\
## The paper's Fig. 12 case

BLOOM-176B, coding at 70 requests/s, Splitwise-HH, all nine limits of Table VI. The paper's cheapest cluster has 27 prompt
and 3 token machines. Two plans are proven on the trace above (`provision plan --model bloom-176b --trace FILE --slo
splitwise --design splitwise-hh --prices paper`, and with `--assumptions splitwise-sim`), here by trying every split; three
are the formulas' (`--fast`, `--workload coding` for `--trace`), which know strict pools only:
"""

FIG_12_WHY = """\
What explains the difference from 27 + 3:

- **Decode slows with the batch.** The paper measured a doubling at batch 64 (its Fig. 5b), and `measured` plans with it; the
  published simulator looks decode up on an axis of prompt tokens and holds it almost flat. So `measured` wants more token
  machines. With 3 of them the KV memory alone is short: each holds {held} requests in nine tenths of its memory, {held_all} in all of
  it, and 70 requests/s of coding keep {busy:.0f} in the token phase.
- **Prompt machines.** In the paper a prompt that finds long queues goes to a machine of the mixed pool, so token machines
  help with prompts, and prompt machines with tokens. The formulas' pools are strict, and to them
  25 prompt machines just meet the limit of 6x on the P99 of TTFT. Simulated strict pools have 6.7x with 25 and 4.8x with 26 (means
  over forty two-minute request sets, of which 17 and 36 meet the limit): the formulas' plan is one machine short.
- **One trace.** 27 + 3 was read off one simulated trace of two minutes, where the P99s near saturation are chaotic.
"""

DECODE_TEXT = """\
## What the measured decode curve does to the plans

The paper measured that the time between tokens doubles at batch 64; the simulator behind its cluster results holds it almost
flat. Here is what that alone changes: the cheapest Splitwise-HH for BLOOM-176B at 70 requests/s under all nine limits, with
everything of the published simulator (its memory, transfers, prompt curve, definition of TBT, strict limits and the
reference of slowdowns), once with its flat decode times, once with decode times measured over batch and context; then the
full default set `measured`. Every split of {coding} machines (coding) or {conversation} (conversation) and more was simulated, until
one passed. Coding is the trace above; conversation is drawn
from the shipped workload, prompt and output independently as the published generator did, Poisson, 120 s, a fixed seed.
`splitwise` lends machines to a mixed pool by the published rules, `split` never does.
"""

DECODE_WHY = """\
- **Coding: {coding[0]} machines with the flat curve, {coding[1]} with the measured one.** Its outputs are short (13 tokens at the median), so
  that little of the work is decode. With the measured curve the paper's 27 + 3, as many machines as the
  cheapest, {passes} on this trace, and passes in {often} of {trials} trials with noise of 1e-5 in the curves.
- **Conversation: {conversation[0]} machines with the flat curve, {conversation[1]} with the measured one,** {more:.0f} % more: most of its work is decode,
  and the flat curve gives the batch away for nothing. Over five seeds of this trace the flat curve needs {flat_seeds} machines, the
  measured one {measured_seeds}. Cluster sizes for conversation that rest on the flat curve are too small by about this much.
- **The split moves more than the total**: conversation takes {tokens[0]} token machines with the flat curve, {tokens[1]} with the measured one.
- **The rest of `measured`** (memory filled to nine tenths, the whole KV cache reserved from the start of the token phase, TBT over output - 1
  tokens) adds {rest[0]} and {rest[1]} machines under `splitwise`. The flat curve is what matters for conversation.
"""

LENDING_TEXT = """\
### Lending machines needs more of them

In all six cases above the published rules of the mixed pool need a machine or two more than strict pools. What goes wrong, in
single runs of clusters for which strict pools are enough, and of one (30 + 2) for which they are not:
"""

LENDING_WHY = """\
A lent machine goes back only when no request is on it, and requests keep coming: a token machine nearly always holds sequences, so
that one moment of long prompt queues takes it into the mixed pool for good. There it is sent few prompts, but each of
them makes every sequence of its batch wait for a whole prompt iteration (Llama2-70B, 15 + 1: the single token machine is lent
for {lent} of the time and runs {ran} of the prompts, and the P99 of TBT is {worse:.1f}x instead of {better:.1f}x). Where the
memory of the token machines is short as well (BLOOM-176B), token machines refuse requests, and half of all sequences
go to lent prompt machines, where they wait for prompts. The larger the batches that wait, the more it costs.
Lending does help a pool that is far too small: with {small[0]} BLOOM-176B meets all limits on the trace under `splitwise`, and strict
pools of these sizes are overloaded.
On five drawn request sets with the P99 limits (`provision plan --model llama2-70b --workload coding --slo p99 --design
splitwise-hh`), Llama2-70B needs {llama[0]} machines with `splitwise` ({llama_splits[0]}) and {llama[1]} with `split` ({llama_splits[1]}).
"""

FORMULAS_TEXT = """\
## The formulas against the simulator

The analytic model (`--fast`, and the first guess of every proof) against the simulator under the policies `split` and `mixed`
with measured curves, over random clusters: sizes of the relative errors of P50, P90 and P99 of TTFT, TBT and E2E, in seconds
and as slowdowns. [queueing.md](queueing.md), section 11, has the errors of each percentile, what sharing of links
changes, and how the two agree on stability.
"""

FORMULAS_RUNS_TEXT = """\
## The formulas against the thirteen runs

The error of each slowdown percentile of the analytic model, in %, `--assumptions splitwise-sim`, and whether all nine
limits hold. The published simulator lets an overloaded pool borrow machines of the other (the mixed pool), which strict
pools cannot; where a pool is busy enough to borrow, TTFT P99 comes out too high here, and TBT P99 too low, since the
borrowed machines' tokens wait for prompts.
"""


def setting(**fields: Any) -> Setting:
    """The loaded question."""
    return load_setting(PlanOptions(**fields))


def with_whole_memory(given: Setting) -> Setting:
    """The same question with every replica filling all of its HBM."""
    replicas = {}
    for name, perf in given.replicas.items():
        gained = (1.0 - memory.USABLE_MEMORY_FRACTION) * perf.machine.memory_bytes / perf.kv_bytes_per_token
        replicas[name] = replace(perf, kv_capacity_tokens=perf.kv_capacity_tokens + gained)  # type: ignore[type-var]
    return replace(given, replicas=replicas)


def fig_12(proven: Mapping[str, tuple[Cheapest, str]]) -> str:
    """The table of plans for the paper's case, and its explanation."""
    measured, simulator = setting(**FIG_12), setting(**FIG_12, assumptions="splitwise-sim")
    rows = [("published", "27 + 3", 30, 30 * H100_USD_PER_H, "")]
    for name, (found, broken) in proven.items():
        splits = ", ".join(map(joined, found.splits))
        rows.append((name, splits, found.machines, found.machines * H100_USD_PER_H, broken))
    rows += [
        (name, *described(answer(each)))
        for name, each in (
            ("formulas, `measured`", measured),
            ("formulas, `measured`, all of the memory used", with_whole_memory(measured)),
            ("formulas, `splitwise-sim`", simulator),
        )
    ]
    table = ["| plan | prompt + token machines | machines | $/h | one machine fewer breaks |", "|---|---|---|---|---|"]
    table += [f"| {name} | {split} | {count} | {cost:,.2f} | {breaks} |" for name, split, count, cost, breaks in rows]
    held = {}
    for label, each in (("held", measured), ("held_all", with_whole_memory(measured))):
        latency = DesignLatency(question(each), each.designs[0])
        held[label] = latency.stages[1].largest_batch  # type: ignore[union-attr]
    stage = DesignLatency(question(measured), measured.designs[0]).stages[1]
    busy = 70 * stage.tokens_per_request * float(stage.iteration_s(np.array(20.0)))  # type: ignore[union-attr]
    return "\n".join([FIG_12_TEXT, *table, "", FIG_12_WHY.format(**held, busy=busy)])


def described(plan: Any) -> tuple[str, int, float, str]:
    """A plan's split, machines, cost, and what breaks with a machine fewer."""
    split = " + ".join(str(pool.machines) for pool in plan.pools)
    return split, plan.machines, plan.cost_usd_per_h, ", ".join(plan.binding)


def question(given: Setting) -> Question:
    """The latency question of a setting."""
    return Question(given.traffic, given.slo, given.reference, given.replicas)


@dataclass(frozen=True, slots=True)
class Published:
    """A run of the published simulator: the cluster, its percentiles, and whether it meets all nine limits."""

    design: Design
    sizes: tuple[int, ...]
    slowdown: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, Mapping[str, float]]
    meets: bool

    @property
    def candidate(self) -> Candidate:
        """The cluster."""
        return Candidate(self.design, self.sizes)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The thirteen runs with what it takes to simulate them."""

    given: Setting
    prepared: Prepared
    published: tuple[Published, ...]

    def judge(self, replicas: Mapping[str, ReplicaPerf]) -> SimulationJudge:
        """What simulates clusters of these replicas on the trace."""
        return SimulationJudge(replicas, self.given.slo, lambda k: self.prepared, 1)

    def slowdowns(self, replicas: Mapping[str, ReplicaPerf]) -> Floats:
        """The nine slowdown percentiles (13, 9) of the runs, with these replicas."""
        judge = self.judge(replicas)
        found = [measured_of(run(judge.cluster(each.candidate), self.prepared), "slowdown") for each in self.published]
        return np.array(found)

    def verdicts(self, slowdowns: Floats) -> NDArray[np.bool_]:
        """Whether all nine limits hold (13,), strictly, as the published simulator has it."""
        limits = {(limit.metric, limit.percentile): limit.value for limit in self.given.slo.limits}
        values = np.array([limits[metric, percentile] for metric in METRICS for percentile in PERCENTILES])
        return np.all(slowdowns < values, axis=1)


def reproduction(folder: Path) -> Reproduction:
    """The thirteen runs and their trace."""
    given = setting(
        model="bloom-176b", slo="splitwise", trace=str(folder / "coding-70rps-120s.csv"), assumptions="splitwise-sim"
    )
    by_key = {design.key: design for design in given.designs}
    recorded = json.loads((folder / "runs.json").read_text(encoding="utf-8"))["runs"]
    published = tuple(
        Published(
            by_key[each["design"]],
            tuple(each["machines"].values()),
            each["slowdown"],
            each["seconds"],
            each["meets_splitwise_slo"],
        )
        for each in recorded
    )
    trace = from_trace(read_trace(str(folder / "coding-70rps-120s.csv")))
    return Reproduction(given, prepare(trace, given.reference), published)


def measured_of(done: Run, kind: str) -> list[float]:
    """The nine percentiles of a run, TTFT, TBT and E2E by P50, P90 and P99; in seconds or as slowdowns."""
    found: list[float] = []
    for metric in METRICS:
        values = done.latencies.both(metric)[kind == "slowdown"]
        found += percentiles(values, [100.0 * QUANTILE[percentile] for percentile in PERCENTILES])
    return found


def nine(by_metric: Mapping[str, Mapping[str, float]]) -> Floats:
    """Published percentiles in the same order."""
    return np.array([by_metric[metric][percentile] for metric in METRICS for percentile in PERCENTILES])


def verdict_of(meets: bool) -> str:
    """In a word."""
    return "meets" if meets else "misses"


def joined(sizes: Iterable[int]) -> str:
    """Sizes of pools as they are written."""
    return " + ".join(map(str, sizes))


def runs(these: Reproduction) -> str:
    """The table of our runs against the published simulator's."""
    slowdowns = these.slowdowns(these.given.replicas)
    meets = these.verdicts(slowdowns)
    judge = these.judge(these.given.replicas)
    table = [
        "| design | machines | largest difference, slowdowns | in seconds | published | ours |",
        "|---|---|---|---|---|---|",
    ]
    largest = 0.0
    for each, found, ours in zip(these.published, slowdowns, meets.tolist(), strict=True):
        seconds = np.array(measured_of(run(judge.cluster(each.candidate), these.prepared), "seconds"))
        differences = [
            float(np.abs(a / nine(b) - 1.0).max()) for a, b in ((found, each.slowdown), (seconds, each.seconds))
        ]
        largest = max(largest, *differences)
        cells = " | ".join(f"{100 * difference:.3f} %" for difference in differences)
        verdicts = f"{verdict_of(each.meets)} | {verdict_of(ours)}"
        table.append(f"| {each.design.name} | {joined(each.sizes)} | {cells} | {verdicts} |")
    same = sum(each.meets == ours for each, ours in zip(these.published, meets.tolist(), strict=True))
    text = (
        f"{same} of {len(these.published)} verdicts agree, and no percentile differs by more than {100 * largest:.3f} %: up to\n"
        "0.01 % is the last digit that the published percentiles were given with."
    )
    return "\n".join([RUNS_TEXT, *table, "", text, ""])


def with_noise(perf: ReplicaPerf, eps: float, rng: np.random.Generator) -> ReplicaPerf:
    """The replica with every knot of its curves multiplied by 1 + eps x a standard normal number."""

    def noisy(curve: PiecewiseLinear) -> PiecewiseLinear:
        return PiecewiseLinear(curve.x, curve.y * (1.0 + eps * rng.standard_normal(curve.y.size)))

    curve = replace(perf.curve, prompt=noisy(perf.curve.prompt), decode=noisy(perf.curve.decode))
    return replace(perf, curve=curve)  # type: ignore[type-var]


def all_noisy(these: Reproduction, eps: float, seed: int) -> dict[str, ReplicaPerf]:
    """The replicas of every machine type with noise of one seed."""
    rng = np.random.default_rng([seed, round(-np.log10(eps))])
    return {name: with_noise(perf, eps, rng) for name, perf in these.given.replicas.items()}


def noise_floor(these: Reproduction) -> str:
    """How far noise in the latencies moves the runs, and the cheapest plan."""
    exact = these.slowdowns(these.given.replicas)
    table = [
        "| eps | verdicts that change, of 39 | percentiles: median move | P95 | largest |",
        "|---|---|---|---|---|",
    ]
    for eps in (1e-9, 1e-7, 1e-5):
        found = np.array([these.slowdowns(all_noisy(these, eps, seed)) for seed in range(3)])
        flipped = sum(int(np.sum(these.verdicts(each) != these.verdicts(exact))) for each in found)
        moved = np.abs(found / exact - 1.0)
        sizes = " | ".join(f"{100 * size:.2g} %" for size in (np.median(moved), np.quantile(moved, 0.95), moved.max()))
        table.append(f"| 1e{round(np.log10(eps))} | {flipped} | {sizes} |")
    design = next(design for design in these.given.designs if design.key == "splitwise-hh")
    trials = [
        cheapest(these.judge(all_noisy(these, 1e-5, 100 + trial)), design, FIRST_NOISY) for trial in range(NOISE_TRIALS)
    ]
    totals = Counter(trial.machines for trial in trials)
    splits = Counter(joined(split) for trial in trials for split in trial.splits)
    text = CHEAPEST_NOISE_TEXT.format(
        first=FIRST_NOISY,
        trials=NOISE_TRIALS,
        totals=", ".join(f"{total} machines in {count}" for total, count in sorted(totals.items())),
        splits=", ".join(f"{split} in {count}" for split, count in sorted(splits.items())),
    )
    return "\n".join([NOISE_TEXT, *table, "", text])


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The fewest machines with which a split of a design of one machine type passes, and all such splits."""

    machines: int
    splits: tuple[tuple[int, ...], ...]


def cheapest(judge: SimulationJudge, design: Design, first: int) -> Cheapest:
    """Simulate every split of ``first`` machines, then of one more, until some pass."""
    machines = first
    while True:
        candidates = [Candidate(design, (prompt, machines - prompt)) for prompt in range(1, machines)]
        verdicts = judge(candidates)
        passing = [each.sizes for each, verdict in zip(candidates, verdicts, strict=True) if verdict.passes]
        if passing:
            return Cheapest(machines, tuple(passing))
        machines += 1


def broken_with_one_fewer(judge: SimulationJudge, design: Design, machines: int) -> str:
    """The limits that the split with one machine fewer breaks which is nearest to meeting them all."""
    nearest: tuple[float, str] = (np.inf, "")
    values = [limit.value for limit in judge.slo.limits]
    names = [f"{limit.metric.upper()} {limit.percentile.upper()}" for limit in judge.slo.limits]
    for prompt in range(1, machines - 1):
        done = run(judge.cluster(Candidate(design, (prompt, machines - 1 - prompt))), judge.request_sets(0))
        ratios = np.array(measured_of(done, "slowdown")) / values
        broken = ", ".join(name for name, ratio in zip(names, ratios.tolist(), strict=True) if ratio >= 1.0)
        nearest = min(nearest, (float(ratios.max()), broken))
    return nearest[1]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredDecode(SplitwiseSimReplica):
    """The published simulator's replica in everything but the decode times, which are the measured ones."""

    decode_curve: CurveSet | None = None

    def decode_s(self, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        """Time of one decode iteration of a batch with so much context in total, as measured."""
        assert self.decode_curve is not None
        return self.decode_curve.decode_s(batch, context_tokens)


def with_measured_decode(given: Setting) -> Setting:
    """The question with the measured decode curve, everything else as the published simulator has it."""
    replicas = {}
    for name, perf in given.replicas.items():
        measured = replica(perf.model, perf.machine, perf.tensor_parallel)
        replicas[name] = MeasuredDecode(
            machine=perf.machine,
            model=perf.model,
            tensor_parallel=perf.tensor_parallel,
            curve=perf.curve,
            kv_bytes_per_token=perf.kv_bytes_per_token,
            kv_capacity_tokens=perf.kv_capacity_tokens,
            decode_curve=measured.curve,
        )
    return replace(given, replicas=replicas)


def conversation(seed: int) -> RequestSet:
    """Conversation at 70 requests/s for 120 s, prompt and output drawn independently."""
    drawn_from = catalog.workload("conversation").independent()
    return drawn(drawn_from, 70.0, 120.0, np.random.default_rng([seed, 0]), warm_up=0.0)


def on(given: Setting, requests: RequestSet, policy: PolicyName | None = None) -> SimulationJudge:
    """What simulates clusters of a setting on one request set."""
    prepared = prepare(requests, given.reference)
    return SimulationJudge(given.replicas, given.slo, lambda k: prepared, 1, policy=policy)


CURVES: tuple[tuple[str, Callable[[], Setting]], ...] = (
    ("`splitwise-sim`: flat", lambda: setting(**FIG_12, assumptions="splitwise-sim")),
    (
        "`splitwise-sim`, decode as measured",
        lambda: with_measured_decode(setting(**FIG_12, assumptions="splitwise-sim")),
    ),
    ("`measured`", lambda: setting(**FIG_12)),
)
# Totals from which splits are tried: with fewer, 21.5 machines of prompts (coding), or 11 and half a dozen of tokens
# (conversation), the work alone is too much. With noise, and other seeds, two layers below the cheapest are enough.
FIRST_CODING, FIRST_CONVERSATION, FIRST_NOISY = 21, 17, 27
NOISE_TRIALS = 12


def decode_curve(coding: RequestSet) -> tuple[str, dict[str, tuple[Cheapest, str]]]:
    """The cheapest plans by decode curve and policy; and those of coding, with what one machine fewer breaks."""
    table = [
        "| workload | decode times | policy | machines | prompt + token machines |",
        "|---|---|---|---|---|",
    ]
    found: dict[tuple[str, str, str], Cheapest] = {}
    judges: dict[tuple[str, str, str], SimulationJudge] = {}
    settings = {name: make() for name, make in CURVES}
    design = settings["`measured`"].designs[0]
    for workload, requests, first in (
        ("coding", coding, FIRST_CODING),
        ("conversation", conversation(0), FIRST_CONVERSATION),
    ):
        for name, given in settings.items():
            for policy in ("splitwise", "split"):
                key = workload, name, policy
                judges[key] = on(given, requests, policy)  # type: ignore[arg-type]
                found[key] = cheapest(judges[key], design, first)
                splits = ", ".join(map(joined, found[key].splits))
                table.append(f"| {workload} | {name} | `{policy}` | {found[key].machines} | {splits} |")
    flat, hybrid, measured = settings
    seeds = []
    for name in (flat, hybrid):
        least = found["conversation", name, "splitwise"].machines - 3
        totals = [cheapest(on(settings[name], conversation(seed)), design, least).machines for seed in range(5)]
        assert min(totals) > least
        seeds.append(f"{min(totals)} to {max(totals)}")

    def machines(workload: str, *names: str) -> tuple[int, ...]:
        return tuple(found[workload, name, "splitwise"].machines for name in names)

    published = Candidate(design, (27, 3))
    passes = judges["coding", hybrid, "splitwise"].judge(published)
    noisy = [
        on(noisy_decode(settings[hybrid], 1e-5, trial), coding).judge(published).passes for trial in range(NOISE_TRIALS)
    ]
    why = DECODE_WHY.format(
        coding=machines("coding", flat, hybrid),
        conversation=machines("conversation", flat, hybrid),
        passes="passes too" if passes.passes else f"misses a limit by {100 * (passes.worst_ratio - 1.0):.0f} %",
        often=sum(noisy),
        trials=NOISE_TRIALS,
        more=100.0 * (machines("conversation", hybrid)[0] / machines("conversation", flat)[0] - 1.0),
        flat_seeds=seeds[0],
        measured_seeds=seeds[1],
        tokens=[
            " or ".join(str(sizes[1]) for sizes in found["conversation", name, "splitwise"].splits)
            for name in (flat, hybrid)
        ],
        rest=[
            machines(workload, measured)[0] - machines(workload, hybrid)[0] for workload in ("coding", "conversation")
        ],
    )
    proven = {
        label: (found[key], broken_with_one_fewer(judges[key], design, found[key].machines))
        for label, key in (
            ("proven, `splitwise-sim`", ("coding", flat, "splitwise")),
            ("proven, `measured`, policy `splitwise`", ("coding", measured, "splitwise")),
            ("proven, `measured`, policy `split`", ("coding", measured, "split")),
        )
    }
    return "\n".join(
        [DECODE_TEXT.format(coding=FIRST_CODING, conversation=FIRST_CONVERSATION), *table, "", why]
    ), proven


def noisy_decode(given: Setting, eps: float, seed: int) -> Setting:
    """The measured decode curve in the published simulator's rest, with noise in all knots."""
    rng = np.random.default_rng([seed, 5, 1])
    return replace(given, replicas={name: with_noise(perf, eps, rng) for name, perf in given.replicas.items()})


@dataclass(frozen=True, slots=True)
class Lending:
    """What the mixed pool did in one run: shares of 0..1."""

    row: str
    lent: float  # of the token machines' time
    prompts: float  # of all, that ran on token machines
    tbt_p99: float


def lending_of(name: str, given: Setting, prepared: Prepared, policy: PolicyName, sizes: tuple[int, int]) -> Lending:
    """One run with and without a mixed pool."""
    judge = SimulationJudge(given.replicas, given.slo, lambda k: prepared, 1, policy=policy)
    done = run(judge.cluster(Candidate(given.designs[0], sizes)), prepared)
    found = measured_of(done, "slowdown")
    own = sizes[0]
    lent = float(done.replicas["mixed_pool_s"][own:].mean()) / done.window_s
    prompts = float((done.requests["prompt_at"] >= own).mean())
    tokens = float((done.requests["token_at"] < own).mean())
    cells = f"{found[2]:.1f}x | {found[5]:.1f}x | {100 * lent:.0f} % | {100 * prompts:.1f} % | {100 * tokens:.1f} %"
    return Lending(f"| {name} | {joined(sizes)} | `{policy}` | {cells} |", lent, prompts, found[5])


def lending(coding: RequestSet) -> str:
    """Why pools that lend machines can need more of them, in runs."""
    table = [
        "| case | machines | policy | TTFT P99 | TBT P99 | token machines lent | prompts on token machines "
        "| sequences on prompt machines |",
        "|---|---|---|---|---|---|---|---|",
    ]
    bloom = setting(**FIG_12)
    trace = prepare(coding, bloom.reference)
    llama = setting(model="llama2-70b", workload="coding", slo="p99", designs=("splitwise-hh",))

    @lru_cache
    def drawn_set(k: int) -> Prepared:
        rng = np.random.default_rng([0, k])
        return prepare(drawn(catalog.workload("coding"), llama.traffic.peak_rps, 120.0, rng), llama.reference)

    flat = setting(**FIG_12, assumptions="splitwise-sim")
    small = (30, 2)
    rows = [
        lending_of(*case, policy, sizes)  # type: ignore[arg-type]
        for case, sizes in (
            (("Llama2-70B, coding drawn, `measured`", llama, drawn_set(0)), (15, 1)),
            (("BLOOM-176B, the trace, `measured`", bloom, trace), (26, 4)),
            (("BLOOM-176B, the trace, `measured`", bloom, trace), small),
            (("BLOOM-176B, the trace, `splitwise-sim`", flat, prepare(coding, flat.reference)), (25, 3)),
        )
        for policy in ("splitwise", "split")
    ]
    five = [
        cheapest(SimulationJudge(llama.replicas, llama.slo, drawn_set, 5, policy=policy), llama.designs[0], 12)
        for policy in ("splitwise", "split")
    ]
    why = LENDING_WHY.format(
        lent=f"{100 * rows[0].lent:.0f} %",
        ran=f"{100 * rows[0].prompts:.1f} %",
        worse=rows[0].tbt_p99,
        better=rows[1].tbt_p99,
        small=[joined(small)],
        llama=[found.machines for found in five],
        llama_splits=[" or ".join(map(joined, found.splits)) for found in five],
    )
    return "\n".join([LENDING_TEXT, *table, *(row.row for row in rows), "", why])


def formulas() -> str:
    """The summary of the formulas' errors, as docs/queueing.md has it from tests/oracles/compare.py."""
    text = QUEUEING.read_text(encoding="utf-8")
    section = text[text.index("<!-- tests/oracles/compare.py: begin -->") :].splitlines()[1:]
    summary = "\n".join(section[: next(k for k, line in enumerate(section) if line.startswith("### "))]).strip()
    return f"{FORMULAS_TEXT}\n{summary}\n"


def formulas_of_runs(these: Reproduction) -> str:
    """The table of the formulas' errors against the published simulator's runs."""
    columns = [f"{metric.upper()} {percentile.upper()}" for metric in METRICS for percentile in PERCENTILES]
    table = [
        f"| design | machines | load | {' | '.join(columns)} | published | here |",
        "|" + "---|" * (len(columns) + 5),
    ]
    given = these.given
    for each in these.published:
        latency = DesignLatency(question(given), each.design)
        errors = [
            latency.percentile(metric, QUANTILE[percentile], "slowdown", each.sizes) / each.slowdown[metric][percentile]
            - 1.0
            for metric in METRICS
            for percentile in PERCENTILES
        ]
        meets = all(latency.meets(limit, each.sizes) for limit in given.slo.limits)
        loads = " / ".join(f"{load:.2f}" for load in latency.loads(each.sizes))
        cells = " | ".join(f"{100 * error:+.0f}" for error in errors)
        verdicts = f"{verdict_of(each.meets)} | {verdict_of(meets)}"
        table.append(f"| {each.design.name} | {joined(each.sizes)} | {loads} | {cells} | {verdicts} |")
    return "\n".join([FORMULAS_RUNS_TEXT, *table, ""])


def page(folder: Path) -> str:
    """The whole page."""
    compile_simulator()
    these = reproduction(folder)
    decode, proven = decode_curve(these.prepared.requests)
    return "\n".join(
        [
            INTRODUCTION,
            runs(these),
            noise_floor(these),
            fig_12(proven),
            decode,
            lending(these.prepared.requests),
            formulas(),
            formulas_of_runs(these),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    PAGE.write_text(page(Path(sys.argv[1])), encoding="utf-8")
