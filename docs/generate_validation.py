"""Write docs/explanation/validation.md: simulated runs and plans beside what was published. Run it as

    python docs/generate_validation.py FOLDER

FOLDER holds `runs.json` and `coding-70rps-120s.csv`: percentiles that the published simulator (SplitwiseSim) gave for
thirteen clusters on one trace, and that trace (arrival_s, prompt_tokens, output_tokens).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.options.defaults import PolicyName
from provisioner.perf import memory
from provisioner.perf.assumptions import ReplicaPerf, SplitwiseSimReplica, replica
from provisioner.perf.curves import CurveSet, PiecewiseLinear
from provisioner.perf.derived import iteration_s
from provisioner.perf.evidence import operators_of
from provisioner.perf.operators import estimate_operators, gpu_limits, load_operators
from provisioner.perf.points import CurvePoint, read_points
from provisioner.planning.answer import answer
from provisioner.planning.candidates import DesignLatency, LatencyInputs, one
from provisioner.planning.designs import Design
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.simulation.measure import percentiles
from provisioner.simulation.requests import RequestSet, drawn, from_trace
from provisioner.simulation.run import Prepared, Run, compile_simulator, prepare, run
from provisioner.specs import catalog
from provisioner.specs.engine import DEFAULT_ENGINE
from provisioner.specs.metrics import PREDICTED, REPORTED_PERCENTILES
from provisioner.specs.shipped import data_folder
from provisioner.specs.slo import Percentile
from provisioner.specs.traces import read_trace
from provisioner.studies.splitwise import paper
from provisioner.verify.judge import SimulationJudge

Floats = NDArray[np.float64]

PAGE = Path(__file__).parent / "explanation" / "validation.md"
QUEUEING = Path(__file__).parent / "explanation" / "queueing.md"
PAPER = {"engine": "splitwise", "policy": paper.POLICY}
"""The paper's scheduler and stack, under which the plans of the page are made."""
FIG_12 = {
    **PAPER,
    "model": "bloom-176b",
    "workload": "coding",
    "slo": "splitwise",
    "designs": ("splitwise-hh",),
    "prices": "paper",
}
H100_USD_PER_H = 38.08

INTRODUCTION = """\
# Validation: simulations and plans beside what was published

Written by `python docs/generate_validation.py FOLDER`; a test writes it again and compares. How well measured curves fit
their points is in [hardware.md](../reference/hardware.md); how good curves are that were not measured is at the end of this page.
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
splitwise --design splitwise-hh --prices paper --engine splitwise --policy splitwise`, and with `--assumptions
splitwise-sim`), one with `--policy split`, here by trying every split; three are the formulas' (`--fast`, `--workload coding`
for `--trace`, no policy), which know strict pools only. The pools of today's engines are not among them:
"""

FIG_12_WHY = """\
What explains the difference from 27 + 3:

- **Decode slows with the batch.** The paper measured a doubling at batch 64 (its Fig. 5b), and `measured` plans with it; the
  published simulator looks decode up on an axis of prompt tokens and holds it almost flat. So `measured` wants more token
  machines. With 3 of them the KV memory alone is short: each holds {held} requests in the memory that an engine leaves, {held_all} in all of
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
- **The rest of `measured`** (memory as an engine leaves it, the whole KV cache reserved from the start of the token phase, TBT over output - 1
  tokens) adds {rest[0]} and {rest[1]} machines under `splitwise`. The flat curve is what matters for conversation.
"""

LENDING_TEXT = """\
### Lending machines needs more of them

In all six cases above the published rules of the mixed pool need a machine or two more than strict pools. What goes wrong, in
single runs of clusters for which strict pools are enough, and of one (31 + 3) for which they are not:
"""

LENDING_WHY = """\
A lent machine goes back only when no request is on it, and requests keep coming: a token machine nearly always holds sequences, so
that one moment of long prompt queues takes it into the mixed pool for good. There it is sent few prompts, but each of
them makes every sequence of its batch wait for a whole prompt iteration (Llama2-70B, 15 + 1: the single token machine is lent
for {lent} of the time and runs {ran} of the prompts, and the P99 of TBT is {worse:.1f}x instead of {better:.1f}x). Where the
memory of the token machines is short as well (BLOOM-176B), token machines refuse requests, and two fifths to half of all
sequences go to lent prompt machines, where they wait for prompts. The larger the batches that wait, the more it costs.
Lending does help a pool that is far too small: with {small[0]} BLOOM-176B meets all limits on the trace under `splitwise`, and strict
pools of these sizes are overloaded.
On five drawn request sets with the P99 limits (`provision plan --model llama2-70b --workload coding --slo p99 --tp 8
--design splitwise-hh --engine splitwise --policy splitwise`), Llama2-70B needs {llama[0]} machines with `splitwise` ({llama_splits[0]}) and {llama[1]} with `split` ({llama_splits[1]}).
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
    """The same question with every replica filling all of its memory with weights and KV cache."""
    replicas = {}
    for name, perf in given.replicas.items():
        parts = memory.memory_bytes(perf.model, perf.machine, perf.tensor_parallel, engine=perf.engine)
        held = (sum(parts.values()) - parts["weights"]) / perf.kv_bytes_per_token
        replicas[name] = replace(perf, kv_capacity_tokens=held)  # type: ignore[type-var]
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
    for name, each in (("held", measured), ("held_all", with_whole_memory(measured))):
        latency = DesignLatency(question(each), each.designs[0])
        held[name] = int(latency.stages[1].memory.sequences)  # type: ignore[union-attr]
    stage = DesignLatency(question(measured), measured.designs[0]).stages[1]
    busy = 70 * stage.memory.tokens_per_request * float(stage.iteration_s(np.array(20.0)))  # type: ignore[union-attr]
    return "\n".join([FIG_12_TEXT, *table, "", FIG_12_WHY.format(**held, busy=busy)])


def described(plan: Any) -> tuple[str, int, float, str]:
    """A plan's split, machines, cost, and what breaks with a machine fewer."""
    split = " + ".join(str(pool.machines) for pool in plan.pools)
    return split, plan.machines, plan.cost_usd_per_h, ", ".join(plan.binding)


def question(given: Setting) -> LatencyInputs:
    """The latency question of a setting."""
    return LatencyInputs(given.traffic, given.slo, given.reference, given.replicas)


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
        """The judge of clusters of these replicas on the trace."""
        return SimulationJudge(replicas, self.given.slo, lambda *_: self.prepared, 1, policy=paper.POLICY)

    def slowdowns(self, replicas: Mapping[str, ReplicaPerf]) -> Floats:
        """The nine slowdown percentiles (13, 9) of the runs, with these replicas."""
        judge = self.judge(replicas)
        found = [measured_of(run(judge.cluster(each.candidate), self.prepared), "slowdown") for each in self.published]
        return np.array(found)

    def verdicts(self, slowdowns: Floats) -> NDArray[np.bool_]:
        """Whether all nine limits hold (13,), strictly, as the published simulator has it."""
        limits = {(limit.metric, limit.percentile): limit.value for limit in self.given.slo.limits}
        values = np.array([limits[metric, percentile] for metric in PREDICTED for percentile in REPORTED_PERCENTILES])
        return np.all(slowdowns < values, axis=1)


def reproduction(folder: Path) -> Reproduction:
    """The thirteen runs and their trace."""
    given = setting(
        **PAPER,
        model="bloom-176b",
        slo="splitwise",
        trace=str(folder / "coding-70rps-120s.csv"),
        assumptions="splitwise-sim",
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
    for metric in PREDICTED:
        values = done.latencies.both(metric)[kind == "slowdown"]
        found += percentiles(values, list(REPORTED_PERCENTILES))
    return found


def nine(by_metric: Mapping[str, Mapping[str, float]]) -> Floats:
    """Published percentiles in the same order."""
    return np.array(
        [by_metric[metric][f"p{percentile:g}"] for metric in PREDICTED for percentile in REPORTED_PERCENTILES]
    )


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
    """The section on how far noise in the latencies moves the runs and the cheapest plan."""
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
    names = [limit.label for limit in judge.slo.limits]
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
        measured = replica(perf.model, perf.machine, perf.tensor_parallel, engine=perf.engine)
        replicas[name] = MeasuredDecode(
            machine=perf.machine,
            model=perf.model,
            tensor_parallel=perf.tensor_parallel,
            curve=perf.curve,
            kv_bytes_per_token=perf.kv_bytes_per_token,
            kv_capacity_tokens=perf.kv_capacity_tokens,
            engine=perf.engine,
            decode_curve=measured.curve,
        )
    return replace(given, replicas=replicas)


def conversation(seed: int) -> RequestSet:
    """Conversation at 70 requests/s for 120 s, prompt and output drawn independently."""
    drawn_from = catalog.workload("conversation").independent()
    return drawn(drawn_from, 70.0, 120.0, np.random.default_rng([seed, 0]), warm_up=0.0)


def on(given: Setting, requests: RequestSet, policy: PolicyName = paper.POLICY) -> SimulationJudge:
    """The judge of clusters of a setting on one request set."""
    prepared = prepare(requests, given.reference)
    return SimulationJudge(given.replicas, given.slo, lambda *_: prepared, 1, policy=policy)


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
    """The work of the mixed pool in one run: shares of 0..1."""

    row: str
    lent: float  # of the token machines' time
    prompts: float  # of all, that ran on token machines
    tbt_p99: float


def lending_of(name: str, given: Setting, prepared: Prepared, policy: PolicyName, sizes: tuple[int, int]) -> Lending:
    """One run with and without a mixed pool."""
    judge = SimulationJudge(given.replicas, given.slo, lambda *_: prepared, 1, policy=policy)
    done = run(judge.cluster(Candidate(given.designs[0], sizes)), prepared)
    found = measured_of(done, "slowdown")
    own = sizes[0]
    lent = float(done.replicas["mixed_pool_s"][own:].mean()) / done.window_s
    prompts = float((done.requests["prompt_at"] >= own).mean())
    tokens = float((done.requests["token_at"] < own).mean())
    cells = f"{found[2]:.1f}x | {found[5]:.1f}x | {100 * lent:.0f} % | {100 * prompts:.1f} % | {100 * tokens:.1f} %"
    return Lending(f"| {name} | {joined(sizes)} | `{policy}` | {cells} |", lent, prompts, found[5])


def lending(coding: RequestSet) -> str:
    """The section on pools that lend machines and need more of them, in runs."""
    table = [
        "| case | machines | policy | TTFT P99 | TBT P99 | token machines lent | prompts on token machines "
        "| sequences on prompt machines |",
        "|---|---|---|---|---|---|---|---|",
    ]
    bloom = setting(**FIG_12)
    trace = prepare(coding, bloom.reference)
    asked = {"model": "llama2-70b", "workload": "coding", "slo": "p99", "designs": ("splitwise-hh",)}
    llama = setting(**PAPER, **asked, tensor_parallel=(8,))

    @lru_cache
    def drawn_set(k: int, longer: int = 0) -> Prepared:
        rng = np.random.default_rng([0, k])
        return prepare(drawn(catalog.workload("coding"), llama.traffic.peak_rps, 120.0, rng), llama.reference)

    flat = setting(**FIG_12, assumptions="splitwise-sim")
    small = (31, 3)
    rows = [
        lending_of(*case, policy, sizes)  # type: ignore[arg-type]
        for case, sizes in (
            (("Llama2-70B, coding drawn, `measured`", llama, drawn_set(0)), (15, 1)),
            (("BLOOM-176B, the trace, `measured`", bloom, trace), (26, 5)),
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
    """The summary of the formulas' errors, as docs/explanation/queueing.md has it from tests/oracles/compare.py."""
    text = QUEUEING.read_text(encoding="utf-8")
    section = text[text.index("<!-- tests/oracles/compare.py: begin -->") :].splitlines()[1:]
    summary = "\n".join(section[: next(k for k, line in enumerate(section) if line.startswith("### "))]).strip()
    return f"{FORMULAS_TEXT}\n{summary}\n"


def formulas_of_runs(these: Reproduction) -> str:
    """The table of the formulas' errors against the published simulator's runs."""
    columns = [Percentile(metric, percentile).label for metric in PREDICTED for percentile in REPORTED_PERCENTILES]
    table = [
        f"| design | machines | load | {' | '.join(columns)} | published | here |",
        "|" + "---|" * (len(columns) + 5),
    ]
    given = these.given
    for each in these.published:
        latency = DesignLatency(question(given), each.design)
        errors = [
            latency.percentile(metric, percentile / 100.0, "slowdown", each.sizes)
            / each.slowdown[metric][f"p{percentile:g}"]
            - 1.0
            for metric in PREDICTED
            for percentile in REPORTED_PERCENTILES
        ]
        meets = all(latency.meets(limit, each.sizes) for limit in given.slo.limits)
        loads = " / ".join(f"{stage.load(one(n))[0]:.2f}" for stage, n in zip(latency.stages, each.sizes, strict=True))
        cells = " | ".join(f"{100 * error:+.0f}" for error in errors)
        verdicts = f"{verdict_of(each.meets)} | {verdict_of(meets)}"
        table.append(f"| {each.design.name} | {joined(each.sizes)} | {loads} | {cells} | {verdicts} |")
    return "\n".join([FORMULAS_RUNS_TEXT, *table, ""])


TABLES_TEXT = """\
## Curves derived from kernels

For a model without measured curves the time of an iteration is the sum of its operators. A kernel's time is its physical
limit over its utilisation, max(FLOP / peak, bytes / bandwidth) / utilisation, and the utilisation is read from tables that
were fitted to measured kernels of seven GPUs, with each engine and version apart. The tables' errors against the rows they were
fitted to, median and 95 % quantile; after the semicolon the median of a table fitted to a random half of the rows, against the other
half (of 63 sums a half leaves few); in %. Which of the tables an engine takes is in its file. They are from AIConfigurator's kernel times (Apache-2.0) and Vidur's profiles (MIT);
`hardware_specs/operators/provenance.yaml` has the versions, the rows, and what each rule refused, and
`python hardware_specs/derive_operators.py AIC_KERNELS... VIDUR_PROFILES` derives them again from the two.
"""

TABLES_WHY = """\
What is not in a GPU's rows is taken from the GPU with the same chip (H200 from H100), else as in the last section. Prompt
attention of vLLM 0.19 on the H200 was refused as a whole: its rows are up to 260 times faster than the arithmetic peak allows; so were
the block-scaled FP8 products of vLLM 0.24 on H100, H200 and L40S, none of which takes less than 56 us (282 us on L40S): the host's launch. Sliding windows
are not in the tables; head sizes other than 128 scale by their limit. Products in `fp8_block` and `nvfp4` are taken on GPUs where they were
measured and estimated on no other. On B200 the FP8 products of vLLM 0.19 are the slow ones. Those of 0.24 grow with the
rows where the product is next to nothing (238 us at n = k = 128 and 32,768 rows on H100, 13 in 0.19): they seem to count the quantization of
the inputs. TensorRT-LLM's do, with at least 12 us where 16 bits take 3; it is taken off them. All-reduces on the L40S are of one slow host, with every engine.
"""

SERVED_TEXT = """\
### Against a serving engine

153 measured runs of vLLM 0.12 (AIConfigurator's serving samples, Apache-2.0): Llama-3.1-70B in FP8 on H200 at TP 1 to 8, Qwen3-32B on
H100 at TP 2 to 8 and three single FP8 runs of it, with 4 to 144 requests in flight all the time. Each run is repeated by two
programs: the simulator (policy `chunked`, derived curves), and a second, independent one that sums the operators of every iteration
in place of curves. Sizes of the relative errors of mean TPOT (time per output token) and mean TTFT, mean over the runs; and how far
the two programs are apart when the second has the simulator's memory and client. In %:

    python -m tests.oracles.served FILE.csv

with the samples as a table of `model_path`, `system`, `precision`, `tp_size`, `concurrency`, `isl`, `osl`, `ttft_ms` and `tpot_ms`.

| runs | | simulator: TPOT | TTFT | second: TPOT | TTFT | apart: TPOT, mean | TTFT, mean | TPOT, largest | TTFT, largest |
|---|---|---|---|---|---|---|---|---|---|
"""

SERVED = """\
all                           153     5.2    22.2     5.3    24.3     1.2     2.1     6.6     7.4
prompts computed              151     4.1    19.8     4.2    22.2     1.2     2.1     6.6     7.4
... and none evicted          145     4.0    18.9     3.9    19.7     1.1     2.0     5.2     7.4
... and some evicted            6     7.5    42.0    10.0    81.8     2.2     3.2     6.6     6.0
Llama-3.1-70B fp8 TP 1         15     4.0    21.3     4.7    37.5     0.8     2.9     6.6     7.4
Llama-3.1-70B fp8 TP 2         15     3.3     5.9     4.0     7.4     1.5     2.0     4.0     5.4
Llama-3.1-70B fp8 TP 4         15     3.8     6.7     3.4     6.5     1.4     1.1     3.5     2.8
Llama-3.1-70B fp8 TP 8         15     5.9    14.2     5.7    13.7     2.4     0.7     5.2     2.6
Qwen3-32B bf16 TP 2            30     2.6    22.9     3.0    25.4     0.8     3.3     2.7     6.8
Qwen3-32B bf16 TP 4            30     3.6    24.1     3.3    25.2     1.0     2.4     3.9     5.0
Qwen3-32B bf16 TP 8            30     5.2    28.0     5.0    28.0     1.0     1.2     3.0     3.6
Qwen3-32B fp8 TP 1              1    61.4   132.2    65.3   119.6     2.4     5.8     2.4     5.8
Qwen3-32B fp8 TP 2              1   116.2   272.2   117.6   252.1     0.7     5.8     0.7     5.8
Qwen3-32B fp8 TP 8              1    27.9    15.2    27.1    17.8     0.6     3.2     0.6     3.2
"""
"""Output of tests/oracles/served.py for the samples, which are no part of the project; a slow test compares."""

SERVED_WHY = """\
*Prompts computed* leaves out two FP8 runs of Qwen3-32B (TP 1 and 2) that take less time than reading the weights and computing the
prompts needs; their prompts were probably cached. What follows is about the constants that no kernel gives: some were fitted to
these runs, some chosen by them.

**The engine's overhead was fitted to these runs**: 0.3 ms an iteration and 0.04 ms a sequence (engine
`provisioner-0.1`). For TPOT, then, what counts are fits to other runs: without each group, and without each model. Beside
each, the error of TPOT in the runs that it was not fitted to, with it and without any overhead, in %, by the second program, runs
with a TTFT of less than 20 s in which nothing was evicted (`python -m tests.oracles.closed_loop FILE.csv`):

| fitted without | runs | ms an iteration | ms a sequence | TPOT | TPOT, no overhead |
|---|---|---|---|---|---|
"""

HELD_OUT = """\
Llama-3.1-70B fp8 TP 1             13  0.37 0.0327   3.4   5.5
Llama-3.1-70B fp8 TP 2             15  0.42 0.0322   4.2   4.8
Llama-3.1-70B fp8 TP 4             15  0.45 0.0324   3.8   5.1
Llama-3.1-70B fp8 TP 8             15  0.43 0.0352   6.0   5.6
Qwen3-32B bf16 TP 2                26  0.40 0.0311   2.8   6.7
Qwen3-32B bf16 TP 4                30  0.34 0.0308   3.9   9.9
Qwen3-32B bf16 TP 8                30  0.29 0.0300   6.0  13.5
Qwen3-32B fp8 TP 8                  1  0.31 0.0366  25.5   1.6
Llama-3.1-70B                      58  0.66 0.0329   5.2   5.2
Qwen3-32B                          87  0.21 0.0224   5.9  10.1
all, fitted to all                145  0.37 0.0328   4.1   8.1
"""
"""Output of tests/oracles/closed_loop.py for fits to other runs; the same test compares."""

CLIENT_TEXT = """\
From one TP to another the overhead carries over; from one model to the other less. Qwen3-32B alone gives 0.66 ms an iteration,
Llama-3.1-70B alone 0.21 ms: the fit holds whatever the sum leaves out, such as the norms of Qwen3's queries and keys. Each predicts the other's
TPOT within 5.2 and 5.9 %, which is what to expect of another dense model on these GPUs. For Llama-3.1-70B that is no better than no
overhead at all, for Qwen3-32B it is (10.1 %); the single FP8 run of Qwen3-32B is best without.

**The client was chosen by looking at the TTFT of these runs.** The samples do not record how many requests were sent, nor whether
their values are means or medians. All requests in flight enter at once, and the mean TTFT holds that burst: the fewer requests, the
more of it. Assumed are ten for each in flight, output lengths that vary by a tenth, 8,192 tokens an iteration (vLLM's default on
these GPUs), an FP8 cache in FP8 runs, and in the second program 3 ms in front of the engine. With other numbers of requests, in %,
prompts computed (`python -m tests.oracles.served FILE.csv`):

| requests for each in flight | TPOT | TTFT | bias of TTFT | TTFT of Llama-3.1-70B | TTFT of Qwen3-32B |
|---|---|---|---|---|---|
"""

CLIENTS = """\
   5    4.1   35.5   26.4   39.8   32.6
   7    4.1   20.6    3.2   19.1   21.7
   8    4.1   17.9   -4.2   14.1   20.5
   9    4.1   18.2  -10.0   11.9   22.4
  10    4.1   19.8  -14.7   12.0   24.9
  12    4.2   24.7  -21.6   15.7   30.6
  20    4.3   37.3  -35.6   26.9   44.2
"""
"""Output of tests/oracles/served.py for other clients; the same test compares."""

CLIENT_WHY = """\
- **TPOT is predicted, TTFT only as far as the client is guessed.** The number that suits Qwen3-32B best (8) leaves 14 % on Llama-3.1-70B, and the
  one that suits Llama-3.1-70B best (9) leaves 22 % on Qwen3-32B. Were the values steady-state means without the burst (the first requests in
  flight left out), the simulated TTFTs would be 54 % too short and the TPOTs 4.2 % off.
- **Other guesses**: outputs of exactly one length keep the requests in step, and TTFT is 123 % off; a spread of 5 or 20 % gives 19 and
  20 %. An iteration of 2,048 tokens gives 5.4 % for TPOT and 35 % for TTFT, one of 16,384 gives 4.2 and 18 %.
- **What curves lose** is the difference of the programs. Of the 1.1 % of TPOT all but 0.2 is one slope per token of context, that of a batch of
  64, for every batch; of the 2.0 % of TTFT all but 0.4 is that several prompts of one iteration count as one prompt of all their tokens, so
  that their attention is overstated. Outside these runs both can be more: TPOT 13 % short (Llama-3.1-405B in FP8 on eight B200, 8 requests
  in flight), TTFT 14 % long (Llama-3.1-8B on an A100, prompts of 512 tokens, 128 in flight).
- **Evictions** follow different rules in the two programs, and six runs are no evidence for either.
- **Unexplained**: TTFTs of Qwen3-32B at 4,096 prompt tokens and few requests are twice the time of one prompt.
- Both models are dense, both GPUs have NVLink. Nothing here is evidence for a served model on PCIe, on A100, B200 or L40S, and
  single runs (Qwen3-32B in FP8) are none for FP8 on H100.
"""

SPLITWISE_TEXT = """\
### Against the Splitwise measurements

The shipped measurements of 2023 (Splitwise) over times derived from today's kernels (engine `vllm`). Factor: the median over points of
measured / derived; left: the mean difference that remains once derived times are multiplied by it. Prompts are single ones of 128 to
8,192 tokens, with the smallest and largest ratio. Decode at TP 2 is without its batch of 64 (the cache does not fit).

| model | machine | TP | prompt: factor | left | from, to | decode: factor | left |
|---|---|---|---|---|---|---|---|
"""

SPLITWISE_WHY = """\
- **The software of 2023 is slower by a constant factor**, which for decode leaves 2 to 4 % and grows with TP: a cost per iteration that
  does not shrink with the work. So measured and derived curves of one model are not to be mixed in one comparison without saying so;
  plans name the kind of each.
- **Prompts are not one factor**: below 512 tokens a fixed cost dominates the measurement, and from 2,048 to 4,096 tokens it has a step that no
  kernel here has.
- **BLOOM-176B is partly extrapolated**: its 14 KV heads a GPU at TP 8 are beyond the 8 that were measured (they count as a larger
  batch), its ALiBi counts as no work, and its other shapes are within the tables.
"""

ESTIMATED_TEXT = """\
## Estimated curves

A GPU without kernels has its limits and others' utilisation: the geometric mean over measured GPUs, each at the problem that keeps it busy
for as long, or that of one GPU that is much like it (`kernels_like` of its machine file). How good that is on GPUs that have
kernels, each estimated from the others, none of its chip: Llama-3.1-8B and 70B, Qwen3-32B and BLOOM-176B, prompts of 128 to 8,192 tokens, decode of
1 to 256 sequences at 512 to 8,192 tokens, TP 1 to 8 (PCIe: TP 1). Of estimated over derived times: median error, 95 % quantile, mean factor.

| left out | prompt bf16 | decode bf16 | prompt fp8 | decode fp8 |
|---|---|---|---|---|
"""

LIKE_TEXT = """\
Estimated like one GPU, median error:

| GPU | like | prompt bf16 | decode bf16 | prompt fp8 | decode fp8 |
|---|---|---|---|---|---|
"""

ESTIMATED_WHY = """\
- **FP8 prompts are the weak spot**: what share of the FP8 peak is reached differs by a factor of three between GPUs. Do not decide on an
  estimate of them.
- **TP over PCIe is a ring**, 2 (g - 1) x (3 us + bytes / (g x 20 GB/s)) over g GPUs. The tables' rows are refused: all engines were measured on
  one host with L40S, which sums 1 GiB at 2.5 GB/s over 4 GPUs and at 1.1 GB/s over 8, of a link of 32 GB/s. Its two GPUs reach 19 to 20 GB/s, and
  NCCL plans with 24. Nothing was fitted to served runs, and NVIDIA's overview of TensorRT-LLM 0.17 (Llama-3.1-70B in FP8 on four L40S, nine lengths,
  `python -m tests.oracles.offline FOLDER`) has the predicted throughput at 0.87 to 0.98 of the published; with the host's rows it is 0.26 to 0.44.
  Over eight GPUs, and where their ring crosses sockets, it was compared with nothing.
- The A40 has products and element-wise work only: its attention and sums are estimates on both sides of the comparison.
- FP16 peaks stand for BF16 where a GPU has none (RTX 2080 Ti). GPUs of another maker (MI300X) run other kernels: MLPerf v5.1 has
  0.74 of the predicted throughput of Llama2-70B Offline in FP8 on eight MI300X, where it has 1.2 of that of H100 (v4.1) and H200 (`python -m tests.oracles.offline
  FOLDER`). Plans with it say so.
"""

TABLE_ERRORS = ("error_median", "error_p95", "left_out_median")
OPERATOR_NAMES = {
    "gemm bf16": "products, bf16",
    "gemm fp8": "products, fp8",
    "gemm fp8_block": "products, fp8_block",
    "gemm nvfp4": "products, nvfp4",
    "prompt_attention bf16": "prompt attention",
    "decode_attention bf16": "decode attention, bf16",
    "decode_attention fp8": "decode attention, fp8",
    "all_reduce graph": "sums, graph",
    "all_reduce eager": "sums, eager",
    "elementwise norm": "norm",
    "elementwise activation": "activation",
    "elementwise rotary": "rotation",
}
PHASES = ("prompt bf16", "decode bf16", "prompt fp8", "decode fp8")
LIKE = (
    ("h100-sxm-80gb", "h200-sxm-141gb"),
    ("h200-sxm-141gb", "h100-sxm-80gb"),
    ("a40-48gb", "a100-sxm-80gb"),
)


def operators_provenance() -> dict[str, dict[str, Any]]:
    """The sources of each GPU's operator tables, and the errors of their fits."""
    path = data_folder("hardware_specs") / "operators" / "provenance.yaml"
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["gpus"]
    return found


def tables() -> str:
    """Errors of the operator tables."""
    rows = [
        f"| GPU | measured with | {' | '.join(OPERATOR_NAMES.values())} |",
        "|---|---|" + "---|" * len(OPERATOR_NAMES),
    ]
    for gpu, about in operators_provenance().items():
        for source, tables in about["tables"].items():
            of = [tables.get(kind, {}) for kind in OPERATOR_NAMES]
            shown = [[100 * e[name] for name in TABLE_ERRORS] if TABLE_ERRORS[0] in e else [] for e in of]
            cells = ["{:.1f}, {:.0f}; {:.1f}".format(*each) if each else "" for each in shown]
            if any(cells):
                rows.append(f"| {gpu} | {' '.join(source.rsplit('-', 1))} | {' | '.join(cells)} |")
    return "\n".join([TABLES_TEXT, *rows, "", TABLES_WHY])


def printed_rows(printed: str, width: int) -> str:
    """Printed lines of a name ``width`` characters wide and numbers, as rows of a table."""
    lines = ([line[:width].strip(), *line[width:].split()] for line in printed.splitlines())
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def served() -> str:
    """Errors against vLLM, as the test oracles printed them."""
    return "\n".join(
        [
            SERVED_TEXT + printed_rows(SERVED, 28),
            "",
            SERVED_WHY + printed_rows(HELD_OUT, 32),
            "",
            CLIENT_TEXT + printed_rows(CLIENTS, 4),
            "",
            CLIENT_WHY,
        ]
    )


def splitwise_measurements() -> str:
    """The shipped measurements over times derived from kernels."""
    rows = []
    beside = catalog.engine(DEFAULT_ENGINE).execution
    for model in ("llama2-70b", "bloom-176b"):
        shape = catalog.model(model)
        for machine in ("dgx-a100", "dgx-h100"):
            gpu = operators_of(catalog.machine(machine))
            path = data_folder("hardware_specs") / "curves" / f"{machine}__{model}.csv"
            for tp, points in sorted(read_points(path, model=model, machine=machine).items()):

                def ratio(which: Callable[[CurvePoint], bool], derived: Callable[[CurvePoint], Floats]) -> Floats:
                    return np.array([p.latency_s / derived(p).item() for p in points if which(p)])  # noqa: B023

                time_s = partial(iteration_s, shape, gpu, tp, execution=beside)
                prompt = ratio(
                    lambda p: p.phase == "prompt" and p.batch == 1,
                    lambda p: time_s(prompt_tokens=p.prompt_tokens),  # noqa: B023
                )
                decode = ratio(
                    lambda p: p.phase == "decode" and (tp, p.batch) != (2, 64),  # noqa: B023
                    lambda p: time_s(batch=p.batch, context_tokens=p.context_tokens),  # noqa: B023
                )
                cells = [
                    f"{np.median(r):.2f} | {100 * np.abs(np.median(r) / r - 1).mean():.0f} %" for r in (prompt, decode)
                ]
                spread = f"{prompt.min():.2f}, {prompt.max():.2f}"
                rows.append(f"| {model} | {machine} | {tp} | {cells[0]} | {spread} | {cells[1]} |")
    return "\n".join([SPLITWISE_TEXT + "\n".join(rows), "", SPLITWISE_WHY])


def engines() -> str:
    """Engines beside served runs, as ``python -m tests.oracles.engine_runs FOLDER`` printed it."""
    return (Path(__file__).parent / "engines_against_runs.txt").read_text(encoding="utf-8")


def deriving() -> ModuleType:
    """hardware_specs/kernel_rows/estimates.py, which is no part of the package."""
    sys.path.insert(0, str(data_folder("hardware_specs")))
    return importlib.import_module("kernel_rows.estimates")


def estimated() -> str:
    """Errors of estimates: from all other GPUs, and like one."""
    rows = []
    for gpu, each in operators_provenance().items():
        found = each.get("estimated_from_others", {})
        if found == {"from": []}:
            continue
        cells = [
            "{:.0f} %, {:.0f} %, {:.2f}".format(100 * e["error_median"], 100 * e["error_p95"], e["mean_factor"])
            if e
            else ""
            for e in (found.get(phase, {}) for phase in PHASES)
        ]
        rows.append(f"| {gpu} | {' | '.join(cells)} |")
    alike = []
    iterations_s = deriving().iterations_s
    for gpu, like in LIKE:
        estimate, own = estimate_operators(gpu_limits()[gpu], like=like), load_operators(gpu)
        fp8 = bool(gpu_limits()[gpu].fp8_flops)
        cells = []
        for dtype in ("bf16", "fp8") if fp8 else ("bf16",):
            for at, there in zip(iterations_s(estimate, dtype), iterations_s(own, dtype), strict=True):
                cells.append(f"{100 * float(np.median(np.abs(at / there - 1))):.1f} %")
        alike.append(f"| {gpu} | {like} | {' | '.join([*cells, *([''] * (len(PHASES) - len(cells)))])} |")
    return "\n".join([ESTIMATED_TEXT + "\n".join(rows), "", LIKE_TEXT + "\n".join(alike), "", ESTIMATED_WHY])


def not_measured() -> str:
    """The sections on derived and estimated curves, which do not need the published runs."""
    return "\n".join([tables(), served(), splitwise_measurements(), engines(), estimated()])


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
            not_measured(),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    PAGE.write_text(page(Path(sys.argv[1])), encoding="utf-8")
