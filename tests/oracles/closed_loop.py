"""A closed loop of requests on one replica with chunked prefill, iteration by iteration: a test oracle only.

``concurrency`` requests of one prompt length are always in flight. Every iteration gives a budget of tokens first to
the requests that run, in the order they joined (one token each, or the next chunk of the prompt), then to waiting
requests. A prompt joins when its KV cache fits; if a decode finds no room, the request that joined last goes back to
wait and computes all of its tokens again. Iterations with decodes only are taken together up to the next that ends.

    python -m tests.oracles.closed_loop PATH/TO/vllm_closed_loop.csv

compares derived times with AIConfigurator's measured serving samples, by model and tensor parallelism, and fits the
engine's overhead without each (model, TP) and without each model, to report it on runs that it was not fitted to.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from statistics import mean, median

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.derived import KERNELS_ALONE, iteration_s
from provisioner.perf.operators import Operators, load_operators
from provisioner.specs.catalog import engine
from provisioner.specs.engine import Execution
from provisioner.specs.model import ModelArchitecture, NumberType
from tests.oracles.shapes import architecture

Floats = NDArray[np.float64]

ENGINE = engine("provisioner-0.1")
VLLM = ENGINE.execution
"""Host times of vLLM 0.12, which these runs are of."""

STEP_TOKENS = 64
"""Distance of the contexts between which decode attention is interpolated."""


@dataclass(eq=False)
class Times:
    """Tables of one replica's iteration times, so that a loop over iterations is cheap."""

    shape: ModelArchitecture
    gpu: Operators
    tensor_parallel: int
    execution: Execution
    most_tokens: int
    most_batch: int
    most_context: int
    base_s: Floats = field(init=False)
    outputs_s: Floats = field(init=False)
    prompt_s: Floats = field(init=False)
    decode_s: Floats = field(init=False)

    def __post_init__(self) -> None:
        shape, tp = self.shape, self.tensor_parallel
        heads, kv = shape.heads // tp, max(shape.kv_heads // tp, 1)
        tokens = np.arange(1, self.most_tokens + self.most_batch + 1)
        whole = np.arange(self.most_context + 1)
        self.prompt_s = shape.layers * self.gpu.prompt_attention_s(whole, 1, heads, kv, shape.head_dim)
        own = shape.layers * self.gpu.prompt_attention_s(tokens, 1, heads, kv, shape.head_dim)
        alone = iteration_s(shape, self.gpu, tp, prompt_tokens=tokens, execution=self.execution) - own
        self.base_s = np.concatenate([[0.0], alone])
        batch = np.arange(1, self.most_batch + 1)
        contexts = np.arange(0, self.most_context + STEP_TOKENS, STEP_TOKENS)
        attention = shape.layers * self.gpu.decode_attention_s(
            batch[:, None], contexts[None, :], heads, kv, shape.head_dim, shape.kv_dtype
        )
        self.decode_s = np.vstack([np.zeros_like(attention[:1]), attention])
        at = contexts[1]
        decode = iteration_s(shape, self.gpu, tp, batch=batch, context_tokens=batch * at, execution=self.execution)
        self.outputs_s = np.concatenate([[0.0], decode - self.base_s[batch] - attention[:, 1]])

    def iteration_s(self, chunks: list[tuple[int, int]], batch: int, context_tokens: Floats) -> Floats:
        """Time of iterations with ``chunks`` of (tokens, prefix) and a batch, for each of several contexts."""
        tokens = sum(n for n, _ in chunks) + batch
        outputs = len(chunks) + batch
        fixed = self.base_s[tokens] + self.outputs_s[min(outputs, self.most_batch)]
        fixed += sum(max(self.prompt_s[n + before] - self.prompt_s[before], 0.0) for n, before in chunks)
        if not batch:
            return np.full(context_tokens.shape, fixed)
        steps = context_tokens / batch / STEP_TOKENS
        return np.asarray(fixed + np.interp(steps, np.arange(self.decode_s.shape[1]), self.decode_s[batch]))


@dataclass(eq=False)
class Request:
    """A request in the loop."""

    arrival_s: float
    ready_s: float
    output_tokens: int
    generated: int = 0
    computed: int = 0
    first_s: float = float("nan")
    last_s: float = float("nan")


@dataclass(frozen=True)
class Latencies:
    """TTFT and TPOT in s of every finished request, in order of arrival."""

    ttft_s: Floats
    tpot_s: Floats
    evictions: int


def closed_loop(
    times: Times,
    *,
    concurrency: int,
    prompt_tokens: int,
    output_tokens: int,
    requests: int,
    budget: int = 8192,
    capacity_tokens: float = float("inf"),
    most_running: int = 1024,
    admission_s: float = 0.0,
    output_spread: float = 0.0,
    seed: int = 1,
) -> Latencies:
    """Run the loop until ``requests`` are done.

    ``admission_s`` is the front end's time for a request before the engine sees it, one request after the other;
    ``output_spread`` is the standard deviation of the output lengths over their mean.
    """
    if capacity_tokens < prompt_tokens + output_tokens:
        raise ValueError(f"a request of {prompt_tokens} + {output_tokens} tokens never fits into {capacity_tokens:g}")
    rng = np.random.default_rng(seed)
    outputs = np.maximum(2, np.round(output_tokens * (1 + output_spread * rng.standard_normal(requests)))).astype(int)
    started = [Request(0.0, admission_s * (i + 1), int(outputs[i])) for i in range(concurrency)]
    front_s = started[-1].ready_s
    everyone = list(started)
    waiting = list(started)
    running: list[Request] = []
    now, evictions = 0.0, 0
    while waiting or running:
        left = budget
        chunks: list[tuple[Request, int]] = []
        decodes: list[Request] = []
        used = sum(r.computed for r in running)
        for r in list(running):
            if r not in running or left <= 0:
                continue
            need = prompt_tokens + r.generated - r.computed
            n = min(need, left)
            while used + n > capacity_tokens and running[-1] is not r:
                last = running.pop()
                used -= last.computed
                chunks = [c for c in chunks if c[0] is not last]
                decodes = [d for d in decodes if d is not last]
                last.computed = 0
                waiting.insert(0, last)
                evictions += 1
            used += n
            left -= n
            if n == 1 and r.computed >= prompt_tokens:
                decodes.append(r)
            else:
                chunks.append((r, n))
        while waiting and left > 0 and len(running) < most_running and waiting[0].ready_s <= now:
            r = waiting[0]
            need = prompt_tokens + r.generated
            if used + need > capacity_tokens:
                break
            n = min(need, left)
            waiting.pop(0)
            running.append(r)
            chunks.append((r, n))
            used += n
            left -= n
        if not chunks and not decodes:
            now = max(now, min(r.ready_s for r in waiting))
            continue
        batch = len(decodes)
        context = float(sum(r.computed for r in decodes))
        steps = 1
        if not chunks:
            steps = min(r.output_tokens - r.generated for r in decodes)
            if capacity_tokens < float("inf"):
                steps = max(1, min(steps, int((capacity_tokens - used) // batch)))
            if waiting and waiting[0].ready_s > now:
                steps = 1
        took = times.iteration_s(
            [(n, r.computed) for r, n in chunks], batch, context + batch * np.arange(1, steps + 1, dtype=np.float64)
        )
        now += float(took.sum())
        for r in decodes:
            r.computed += steps
            r.generated += steps
        for r, n in chunks:
            r.computed += n
            if r.computed == prompt_tokens + r.generated:
                r.generated += 1
                if r.generated == 1:
                    r.first_s = now
        for r in [r for r in running if r.generated >= r.output_tokens]:
            r.last_s = now
            running.remove(r)
            if len(everyone) < requests:
                front_s = max(now, front_s) + admission_s
                new = Request(now, front_s, int(outputs[len(everyone)]))
                everyone.append(new)
                waiting.append(new)
    ttft = np.array([r.first_s - r.arrival_s for r in everyone])
    tpot = np.array([(r.last_s - r.first_s) / (r.output_tokens - 1) for r in everyone])
    return Latencies(ttft, tpot, evictions)


LLAMA_70B = architecture(80, 8192, 64, 8, 128, 28672, 128256)
QWEN_32B = architecture(64, 5120, 64, 8, 128, 25600, 151936)
MODELS = {"meta-llama/Llama-3.1-70B": (LLAMA_70B, 70.6e9), "Qwen/Qwen3-32B": (QWEN_32B, 32.8e9)}
"""Shape and parameters of the models that were served."""
SYSTEMS = {"h100_sxm": ("h100-sxm-80gb", 80 * 2**30), "h200_sxm": ("h200-sxm-141gb", 141e9)}
"""GPU and its memory in bytes."""
MEMORY_FRACTION = 0.9
ACTIVATION_BYTES = 4e9
"""Share of a GPU's memory that vLLM takes by default, and its part for activations and graphs (assumed)."""
BUDGET_TOKENS = 8192
"""vLLM's default budget of an iteration on GPUs of 80 GB and more; the budget of the measurements is not recorded."""
WAVES = 10
OUTPUT_SPREAD = 0.1
ADMISSION_S = 0.003
"""Assumptions on the client: ten requests for each in flight, output lengths that vary by a tenth, 3 ms a request."""


@dataclass(frozen=True)
class Run:
    """One measured run: a model served on ``tensor_parallel`` GPUs with ``concurrency`` requests in flight."""

    model: str
    system: str
    fp8: bool
    tensor_parallel: int
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.split("/")[-1]

    @property
    def group(self) -> str:
        """Model, type and tensor parallelism."""
        return f"{self.name} {'fp8' if self.fp8 else 'bf16'} TP {self.tensor_parallel}"

    @property
    def possible(self) -> bool:
        """Whether the prompts can have been computed: two runs of Qwen3-32B in fp8 have too little time per token."""
        return not (self.fp8 and "Qwen" in self.model and self.tensor_parallel < 8)


def read_runs(path: Path) -> list[Run]:
    """The measured runs; runs without a precision are bf16."""
    with path.open(newline="") as stream:
        return [
            Run(
                row["model_path"],
                row["system"],
                row["precision"] == "fp8",
                tensor_parallel=int(float(row["tp_size"])),
                concurrency=int(float(row["concurrency"])),
                prompt_tokens=int(row["isl"]),
                output_tokens=int(row["osl"]),
                ttft_s=float(row["ttft_ms"]) / 1e3,
                tpot_s=float(row["tpot_ms"]) / 1e3,
            )
            for row in csv.DictReader(stream)
        ]


@lru_cache(maxsize=64)
def _times(model: str, system: str, fp8: bool, tensor_parallel: int, execution: Execution, budget: int) -> Times:
    kind: NumberType = "fp8" if fp8 else "bf16"
    served = MODELS[model][0].in_dtype(kind, kind)
    return Times(served, load_operators(SYSTEMS[system][0]), tensor_parallel, execution, budget, 160, 12288)


def predict(
    run: Run,
    execution: Execution = VLLM,
    *,
    budget: int = BUDGET_TOKENS,
    waves: int = WAVES,
    output_spread: float = OUTPUT_SPREAD,
    admission_s: float = ADMISSION_S,
) -> Latencies:
    """Latencies of a run from derived times. In fp8 the KV cache is fp8 too; else 32 x 9216 tokens would not fit."""
    times = _times(run.model, run.system, run.fp8, run.tensor_parallel, execution, budget)
    width = 1 if run.fp8 else 2
    weight_bytes = MODELS[run.model][1] * width / run.tensor_parallel
    token_bytes = 2 * width * times.shape.layers * times.shape.head_dim * times.shape.kv_heads / run.tensor_parallel
    return closed_loop(
        times,
        concurrency=run.concurrency,
        prompt_tokens=run.prompt_tokens,
        output_tokens=run.output_tokens,
        requests=waves * run.concurrency,
        budget=budget,
        capacity_tokens=(MEMORY_FRACTION * SYSTEMS[run.system][1] - weight_bytes - ACTIVATION_BYTES) / token_bytes,
        admission_s=admission_s,
        output_spread=output_spread,
    )


def fit_overhead(runs: Sequence[Run], bare_tpot_s: Floats) -> Execution:
    """Overhead that adjusts TPOTs predicted without it to the measured ones: least squares of relative errors."""
    measured_s = np.array([run.tpot_s for run in runs])
    columns = np.array([[1.0, run.concurrency] for run in runs]) / measured_s[:, None]
    fitted, *_ = np.linalg.lstsq(columns, 1 - bare_tpot_s / measured_s, rcond=None)
    return Execution(*np.maximum(fitted, 0.0).tolist())  # a time of nothing may come out below 0


@dataclass(frozen=True)
class HeldOut:
    """An overhead, the runs it is reported on, and the mean size of their TPOTs' errors with it and without any."""

    name: str
    runs: int
    overhead: Execution
    off: float
    bare_off: float

    @classmethod
    def of(
        cls, name: str, fitted_to: Sequence[Run], reported_on: Sequence[Run], bare_s: Mapping[Run, float]
    ) -> HeldOut:
        """Fit to some runs and report on others; ``bare_s`` are the TPOTs predicted without overhead."""
        fitted = fit_overhead(fitted_to, np.array([bare_s[run] for run in fitted_to]))
        added = {run: bare_s[run] + fitted.iteration_s + fitted.sequence_s * run.concurrency for run in reported_on}
        off, bare_off = (mean(abs(tpot_s[run] / run.tpot_s - 1) for run in reported_on) for tpot_s in (added, bare_s))
        return cls(name, len(reported_on), fitted, off, bare_off)


def held_out(runs: Sequence[Run], bare_s: Mapping[Run, float]) -> list[HeldOut]:
    """The overhead fitted without each (model, TP), without each model, and to all."""
    found = []
    for part in (attrgetter("group"), attrgetter("name")):
        for name in sorted({part(run) for run in runs}):
            others = [run for run in runs if part(run) != name]
            found.append(HeldOut.of(name, others, [run for run in runs if part(run) == name], bare_s))
    return [*found, HeldOut.of("all, fitted to all", runs, runs, bare_s)]


def main(path: Path) -> None:
    """Print the errors of TPOT and TTFT by group, in per cent, and those of an overhead fitted to other runs."""
    runs = read_runs(path)
    found = {run: predict(run) for run in runs}
    tpot = {run: abs(float(found[run].tpot_s.mean()) / run.tpot_s - 1) for run in runs}
    ttft = {run: abs(float(found[run].ttft_s.mean()) / run.ttft_s - 1) for run in runs}

    def line(name: str, of: Sequence[Run]) -> None:
        numbers = [f"{100 * f([e[run] for run in of]):5.1f}" for e in (tpot, ttft) for f in (mean, median)]
        print(f"{name:32} {len(of):4}", *numbers)

    print(f"{'':32} runs TPOT mean, median; TTFT mean, median (% off)")
    line("all", runs)
    line("TTFT below 20 s", [run for run in runs if run.ttft_s < 20])
    sound = [run for run in runs if run.ttft_s < 20 and run.possible]
    line("and prompts computed", sound)
    for group in sorted({run.group for run in runs}):
        line(group, [run for run in runs if run.group == group and run.ttft_s < 20])
    calm = [run for run in sound if not found[run].evictions]
    print("overhead fitted without these: ms per iteration, per sequence; TPOT % off with it and without any")
    for each in held_out(calm, {run: float(predict(run, KERNELS_ALONE).tpot_s.mean()) for run in calm}):
        constants = f"{1e3 * each.overhead.iteration_s:5.2f} {1e3 * each.overhead.sequence_s:6.4f}"
        print(f"{each.name:32} {each.runs:4} {constants} {100 * each.off:5.1f} {100 * each.bare_off:5.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
