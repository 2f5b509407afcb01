"""The project's simulator beside the closed-loop oracle and vLLM's served measurements: a test oracle only.

    python -m tests.oracles.served PATH/TO/vllm_closed_loop.csv

Both simulate the same requests: the simulator with latency curves, the oracle (``closed_loop``) with the sum of
operators for every iteration. For their difference the oracle has the simulator's memory, and its client too: the
next request enters when one completes, after the next iteration has begun. The remaining difference is the error of
the curves. The number of requests that the client sent is not recorded: the errors are printed for several guesses,
by model too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.assumptions import Reference, ReplicaPerf, replica
from provisioner.perf.evidence import operators_of
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import prepare, run
from provisioner.specs import catalog
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture
from tests.oracles.closed_loop import (
    BUDGET_TOKENS,
    ENGINE,
    OUTPUT_SPREAD,
    VLLM,
    WAVES,
    Latencies,
    Run,
    Times,
    closed_loop,
    predict,
    read_runs,
)

Floats = NDArray[np.float64]

MODELS = {"meta-llama/Llama-3.1-70B": "llama-3.1-70b", "Qwen/Qwen3-32B": "qwen3-32b"}
"""Names of the served models in the catalogue."""
MACHINES = {"h100_sxm": "dgx-h100", "h200_sxm": "dgx-h200"}
"""Machines of the catalogue with the GPUs that served."""
JUST_LATER_S = 1e-9
"""Admission time in s: after a completion the simulator's next iteration begins before the next request enters."""
GUESSED_WAVES = (5, 7, 8, 9, 10, 12, 20)
"""Requests for each in flight that a client may have sent."""
MOST_BATCH = 160
MOST_CONTEXT_TOKENS = 12288
"""Largest context in the oracle's tables, in tokens."""


@dataclass(frozen=True, eq=False)
class Loop:
    """A closed loop of ``waves`` x ``concurrency`` requests on one replica."""

    perf: ReplicaPerf
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    budget_tokens: int = BUDGET_TOKENS
    waves: int = WAVES
    output_spread: float = OUTPUT_SPREAD

    @property
    def requests(self) -> int:
        """Requests in all."""
        return self.waves * self.concurrency


class CurveTimes(Times):
    """The oracle's iteration times from a replica's curves, by the rules of the policy ``chunked``."""

    def __init__(self, perf: ReplicaPerf) -> None:
        self.perf = perf

    def iteration_s(self, chunks: list[tuple[int, int]], batch: int, context_tokens: Floats) -> Floats:
        """Time of iterations with ``chunks`` of (tokens, prefix) and a batch, for each of several contexts."""
        perf = self.perf
        if not chunks:
            return perf.decode_s(batch, context_tokens)
        further_s = 0.0
        for tokens, before in chunks:
            if before:
                p = perf.prompt_s([before + tokens, before, tokens, 1])
                further_s += max(float(p[0] - p[1] - (p[2] - p[3])), 0.0)
        prompt_tokens = sum(tokens for tokens, _ in chunks)
        if batch:
            return perf.mixed_s(prompt_tokens, batch, context_tokens) + further_s
        return np.full(context_tokens.shape, float(perf.prompt_s(prompt_tokens)) + further_s)


@lru_cache(maxsize=64)
def on_gpus(model: str, machine: str, tensor_parallel: int, fp8: bool = False) -> ReplicaPerf:
    """One replica on a machine that has its GPUs only, so that the loop runs on one replica."""
    of = catalog.model(model)
    alone = replace(catalog.machine(machine), gpus=tensor_parallel)
    return replica(of.in_dtype("fp8", "fp8") if fp8 else of, alone, tensor_parallel, engine=ENGINE)


def loop_of(this: Run) -> Loop:
    """The loop of a measured run."""
    perf = on_gpus(MODELS[this.model], MACHINES[this.system], this.tensor_parallel, this.fp8)
    return Loop(perf, this.concurrency, this.prompt_tokens, this.output_tokens)


def requests_of(loop: Loop, seed: int = 1) -> RequestSet:
    """The requests that the oracle serves: one prompt length, output lengths that vary."""
    spread = 1 + loop.output_spread * np.random.default_rng(seed).standard_normal(loop.requests)
    return RequestSet(
        np.zeros(loop.requests),
        np.full(loop.requests, loop.prompt_tokens),
        np.maximum(2, np.round(loop.output_tokens * spread)).astype(np.int64),
        rate_rps=float("nan"),
        in_flight=loop.concurrency,
    )


def simulate(loop: Loop) -> Latencies:
    """Latencies by the project's simulator, of all requests in the order in which they entered."""
    requests = requests_of(loop)
    cluster = Cluster((Pool("mixed", loop.perf, 1),), Policy("chunked", batch_tokens=loop.budget_tokens))
    done = run(cluster, prepare(requests, Reference(loop.perf)))
    of = done.requests
    return Latencies(
        np.asarray(of["first_s"] - of["arrival_s"]),
        np.asarray((of["last_s"] - of["first_s"]) / (requests.output_tokens - 1)),
        int(done.clock["preemptions"]),
    )


@lru_cache(maxsize=64)
def summed(model: ModelArchitecture, machine: Machine, tensor_parallel: int, budget_tokens: int) -> Times:
    """The oracle's own iteration times: the sum of operators for each."""
    gpu = operators_of(machine, ENGINE)
    return Times(model, gpu, tensor_parallel, VLLM, budget_tokens, MOST_BATCH, MOST_CONTEXT_TOKENS)


def oracle(loop: Loop, times: Times | None = None) -> Latencies:
    """Latencies by the oracle with the simulator's memory and client; ``times`` None: summed for each iteration."""
    perf = loop.perf
    return closed_loop(
        times or summed(perf.model, perf.machine, perf.tensor_parallel, loop.budget_tokens),
        concurrency=loop.concurrency,
        prompt_tokens=loop.prompt_tokens,
        output_tokens=loop.output_tokens,
        requests=loop.requests,
        budget=loop.budget_tokens,
        capacity_tokens=perf.kv_capacity_tokens,
        admission_s=JUST_LATER_S,
        output_spread=loop.output_spread,
    )


def apart(found: Latencies, other: Latencies) -> tuple[float, float]:
    """Relative difference of the mean TPOT, and of the mean TTFT."""
    tpot, ttft = (
        float(a.mean() / b.mean()) - 1 for a, b in ((found.tpot_s, other.tpot_s), (found.ttft_s, other.ttft_s))
    )
    return tpot, ttft


def off(found: Latencies, this: Run) -> tuple[float, float]:
    """Relative error of TPOT and TTFT against the measured ones."""
    return float(found.tpot_s.mean()) / this.tpot_s - 1, float(found.ttft_s.mean()) / this.ttft_s - 1


@dataclass(frozen=True, eq=False)
class Compared:
    """A measured run by the simulator and by the oracle, with relative errors (TPOT, TTFT)."""

    run: Run
    simulator: tuple[float, float]
    oracle: tuple[float, float]
    difference: tuple[float, float]
    evictions: int

    @classmethod
    def of(cls, this: Run) -> Compared:
        """Simulate a run both ways."""
        loop = loop_of(this)
        found, other = simulate(loop), oracle(loop)
        evictions = max(found.evictions, other.evictions)
        return cls(this, off(found, this), off(predict(this), this), apart(found, other), evictions)


def main(path: Path) -> None:
    """Print the errors of both and their difference by run and by group, and those of other clients, in per cent."""
    compared = [Compared.of(this) for this in read_runs(path)]
    print("TPOT and TTFT, % off: simulator; oracle; simulator from oracle with the same memory and client; evictions")
    for c in compared:
        lengths = f"{c.run.concurrency:4} x {c.run.prompt_tokens:5} + {c.run.output_tokens:4}"
        numbers = (f"{100 * x:+7.1f}" for x in (*c.simulator, *c.oracle, *c.difference))
        print(f"{c.run.group:24} {lengths}", *numbers, f"{c.evictions:5}")

    def line(name: str, of: Sequence[Compared]) -> None:
        errors = 100 * np.abs([(*c.simulator, *c.oracle, *c.difference) for c in of])
        numbers = (f"{each:7.1f}" for each in (*errors.mean(axis=0), *errors[:, 4:].max(axis=0)))
        print(f"{name:28} {len(of):4}", *numbers)

    print("mean of their sizes, and the largest differences: TPOT, TTFT each")
    line("all", compared)
    sound = [c for c in compared if c.run.possible]
    line("prompts computed", sound)
    line("... and none evicted", [c for c in sound if not c.evictions])
    line("... and some evicted", [c for c in sound if c.evictions])
    for group in sorted({c.run.group for c in compared}):
        line(group, [c for c in compared if c.run.group == group])
    names = sorted({c.run.name for c in sound})
    print("requests for each in flight: TPOT % off, TTFT % off, bias of TTFT; TTFT % off of", ", ".join(names))
    for waves in GUESSED_WAVES:
        errors = {c.run: off(simulate(replace(loop_of(c.run), waves=waves)), c.run) for c in sound}
        tpot, ttft = 100 * np.array(list(errors.values())).T
        by_model = [100 * np.mean([abs(e) for run, (_, e) in errors.items() if run.name == name]) for name in names]
        numbers = (f"{each:6.1f}" for each in (np.abs(tpot).mean(), np.abs(ttft).mean(), ttft.mean(), *by_model))
        print(f"{waves:4}", *numbers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
