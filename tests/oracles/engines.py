"""A closed loop of requests under an engine on one replica, iteration by iteration: a test oracle only.

The loop of ``closed_loop`` again, compiled, with both orders and all admissions that an engine may have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from provisioner.perf.derived import iteration_s
from provisioner.perf.evidence import operators_of
from provisioner.perf.memory import memory_bytes
from provisioner.specs import catalog
from provisioner.specs.engine import Engine
from provisioner.specs.model import ModelArchitecture

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
STEP_TOKENS: Final = 128
"""Distance of the contexts between which decode attention is interpolated."""


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def kept(
    running: Ints, prompts: Ints, outputs: Ints, generated: Ints, computed: Ints, share: float, clip: int, left: int
) -> float:
    """Tokens kept for the output of what runs: a share for sequences, all of prompts that end within ``left``."""
    whole, sequences = 0, 0
    for i in running:
        if computed[i] >= prompts[i] + generated[i] - 1 and generated[i] > 0:
            sequences += min(outputs[i] - generated[i], clip)
        else:
            need = prompts[i] + generated[i] - computed[i]
            if need <= left:
                whole += min(outputs[i], clip)
            left -= need
    return whole + share * sequences


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def loop(
    base_s: Floats,
    outputs_s: Floats,
    prompt_s: Floats,
    decode_s: Floats,
    prompts: Ints,
    outputs: Ints,
    in_flight: int,
    budget: int,
    most_running: int,
    capacity: float,
    prompts_first: bool,
    reserves: bool,
    times: tuple[float, float, float, float],
    admission_s: float,
    estimate: tuple[float, float, float, int, int],
) -> tuple[Floats, Floats, Floats, Floats, Floats, int]:
    """Arrival, first and last token of each request, gaps between tokens with their number, and evictions.

    ``times``: of an iteration, a sequence, an iteration of more than the tokens of CUDA graphs at least, these tokens.
    ``estimate``: first and least share of outputs kept, its fall an iteration, most tokens of one, tokens for a
    retraction; none where the first is 0. A row of ``base_s`` is by tokens, ``outputs_s`` by sequences, ``prompt_s`` by
    tokens, ``decode_s`` by sequences.
    """
    each_s, sequence_s, least_s, graph_tokens = times
    first_share, least_share, decay, clip, retract = estimate
    estimates, share, full, shrunk = first_share > 0, first_share, False, False
    n = len(prompts)
    arrival, first, last, ready = np.zeros(n), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    generated, computed, chunk = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    decodes = np.zeros(n, np.bool_)
    waiting = np.empty((40 if estimates else 6) * n + 16, np.int64)
    head, tail = 3 * n, 3 * n
    running = np.empty(most_running + 1, np.int64)
    entered, count, done, evictions, seen = min(in_flight, n), 0, 0, 0, 0
    gaps, weights = np.empty(1_000_000), np.empty(1_000_000)
    for i in range(entered):
        waiting[tail], ready[i] = i, admission_s * (i + 1)
        tail += 1
    front, now, used = ready[entered - 1], 0.0, 0.0
    while done < n:
        left, batch, chunks, prompt_tokens, context = budget, 0, 0, 0, 0.0
        hold = False  # decodes wait for prompts
        sequences, completed, evicted = 0, 0, False
        for k in range(count):
            i = running[k]
            sequences += computed[i] == prompts[i] + generated[i] - 1 and generated[i] > 0
        if prompts_first:
            hold = sequences < count
            if head < tail and count < most_running and ready[waiting[head]] <= now and not full:
                i = waiting[head]
                need = prompts[i] + (outputs[i] if reserves else generated[i])
                if estimates:
                    need += min(outputs[i] - generated[i], clip)
                    need += kept(running[:count], prompts, outputs, generated, computed, share, clip, left)
                hold |= used + need <= capacity
                full = estimates and used + need > capacity
        while estimates and not hold and used + sequences > capacity and sequences > 1:
            worst = -1
            for k in range(count):
                i, j = running[k], running[worst]
                if computed[i] < prompts[i] + generated[i] - 1 or generated[i] == 0:
                    continue
                if worst < 0 or (generated[i], -prompts[i]) <= (generated[j], -prompts[j]):
                    worst = k
            j = running[worst]
            running[worst : count - 1] = running[worst + 1 : count]
            count, sequences, used, computed[j] = count - 1, sequences - 1, used - computed[j], 0
            waiting[tail] = j
            tail += 1
            evictions += 1
            evicted = True
        if evicted:
            total, most, full = 0, 0, False
            for k in range(count):
                total, most = total + generated[running[k]], most + outputs[running[k]]
            share = min((total + retract * count) / (most + 1.0), 1.0)
        k = 0
        while k < count:
            i = running[k]
            need = prompts[i] + generated[i] - computed[i]
            is_decode = need == 1 and computed[i] >= prompts[i]
            k += 1
            if left <= 0 or (hold and is_decode):
                continue
            tokens = min(need, left)
            while not (reserves or estimates) and used + tokens > capacity and count > k:
                count -= 1
                j = running[count]
                used -= computed[j]
                computed[j] = 0
                head -= 1
                waiting[head] = j
                evictions += 1
            if not reserves and (is_decode or not estimates):
                used += tokens
            left -= tokens
            decodes[i] = is_decode
            if is_decode:
                batch += 1
                context += computed[i]
            else:
                chunk[i] = tokens
                chunks += 1
                prompt_tokens += tokens
        output = 0.0
        if estimates:
            output = kept(running[:count], prompts, outputs, generated, computed, share, clip, left + prompt_tokens)
            if full or evicted or (prompts_first and not hold):
                left = 0
        while head < tail and left > 0 and count < most_running and ready[waiting[head]] <= now:
            i = waiting[head]
            need = prompts[i] + generated[i]
            if estimates and used + output + need + min(outputs[i] - generated[i], clip) > capacity:
                full = True
                break
            if used + (prompts[i] + outputs[i] if reserves else need) > capacity:
                break
            head += 1
            tokens = min(need, left)
            used += prompts[i] + outputs[i] if reserves else need if estimates else tokens
            output += min(outputs[i], clip) if tokens == need else 0
            left -= tokens
            running[count] = i
            count += 1
            chunk[i] = tokens
            chunks += 1
            prompt_tokens += tokens
        if chunks == 0 and batch == 0:
            share, full = first_share, False
            now = max(now, ready[waiting[head]]) if ready[waiting[head]] > now else np.inf
            if now == np.inf:  # a request that never fits
                break
            continue
        fixed = base_s[prompt_tokens + batch] + outputs_s[min(chunks + batch, len(outputs_s) - 1)]
        steps = 1
        if chunks == 0:
            steps = 1 << 40
            for k in range(count):
                if decodes[running[k]]:
                    steps = min(steps, outputs[running[k]] - generated[running[k]])
            if not reserves and capacity < 1e15:
                steps = max(1, min(steps, int((capacity - used) // batch)))
            if shrunk:
                full = shrunk = False
            if head < tail and (ready[waiting[head]] > now or (estimates and not full)):
                steps = 1
            if not evicted:
                share = max(share - steps * decay, least_share)
        unfinished = False
        for k in range(count):
            i = running[k]
            if chunk[i] > 0:
                fixed += max(prompt_s[computed[i] + chunk[i]] - prompt_s[computed[i]], 0.0)
        for s in range(steps):
            took = fixed
            if batch > 0:
                at = (context + batch * (s + 1.0)) / batch / STEP_TOKENS
                j = min(int(at), decode_s.shape[1] - 2)
                took += decode_s[batch, j] + (at - j) * (decode_s[batch, j + 1] - decode_s[batch, j])
            if chunks > 0 and prompt_tokens + batch > graph_tokens:
                took = max(took, least_s)
            took += each_s + sequence_s * (chunks + batch)
            now += took
            if batch > 0 and seen < len(gaps):
                gaps[seen], weights[seen] = took, batch
                seen += 1
        if not reserves and chunks == 0:
            used += batch * (steps - 1)
        stay = 0
        for k in range(count):
            i = running[k]
            if decodes[i]:
                computed[i] += steps
                generated[i] += steps
            elif chunk[i] > 0:
                computed[i] += chunk[i]
                if computed[i] == prompts[i] + generated[i]:
                    generated[i] += 1
                    if generated[i] == 1:
                        first[i] = now
            decodes[i], chunk[i] = False, 0
            if generated[i] < outputs[i]:
                unfinished |= computed[i] < prompts[i] + generated[i] - 1 or generated[i] == 0
                running[stay] = i
                stay += 1
                continue
            last[i] = now
            done += 1
            completed += 1
            used -= prompts[i] + outputs[i] if reserves else computed[i]
            if entered < n:
                front = max(now, front) + admission_s
                arrival[entered], ready[entered], waiting[tail] = now, front, entered
                entered += 1
                tail += 1
        count = stay
        shrunk |= completed > 0 and chunks == 0
        if count == 0 or (chunks > 0 and (completed > 0 or sequences == 0 or unfinished or not prompts_first)):
            full = False
        shrunk &= count > 0
    return arrival, first, last, gaps[:seen], weights[:seen], evictions


@lru_cache(maxsize=128)
def tables(
    shape: ModelArchitecture, machine: str, tensor_parallel: int, engine: Engine, tokens: int, batch: int, context: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Times of a replica up to some tokens of an iteration, sequences, and tokens of a sequence."""
    gpu, tp, layers = operators_of(catalog.machine(machine), engine), tensor_parallel, shape.layers
    execution = replace(engine.execution, iteration_s=0.0, sequence_s=0.0, prompt_layer_s=0.0)
    heads, kv = shape.heads // tp, max(shape.kv_heads // tp, 1)
    most = tokens + batch
    grid = np.unique(np.concatenate([np.arange(1, 1025), np.arange(1024, most, 8), [most]]))
    own_s = layers * gpu.prompt_attention_s(grid, 1, heads, kv, shape.head_dim)
    alone_s = iteration_s(shape, gpu, tp, prompt_tokens=grid, execution=execution) - own_s
    base_s = np.concatenate([[0.0], np.interp(np.arange(1, most + 1), grid, alone_s)])
    lengths = np.unique(np.concatenate([np.arange(0, 1025, 8), np.arange(1024, context, 64), [context]]))
    attention_s = layers * gpu.prompt_attention_s(lengths, 1, heads, kv, shape.head_dim)
    prompt_s = np.interp(np.arange(context + 1), lengths, attention_s)
    every, contexts = np.arange(1, batch + 1), np.arange(0, context + 2 * STEP_TOKENS, STEP_TOKENS)
    some = np.unique(np.concatenate([np.arange(1, min(65, batch + 1)), np.arange(64, batch, 8), [batch]]))
    held_s = layers * gpu.decode_attention_s(
        some[:, None], contexts[None, :], heads, kv, shape.head_dim, shape.kv_dtype
    )
    decode_s = np.stack([np.interp(every, some, column) for column in held_s.T], axis=1)
    whole_s = iteration_s(shape, gpu, tp, batch=every, context_tokens=every * float(STEP_TOKENS), execution=execution)
    outputs_s = np.concatenate([[0.0], whole_s - base_s[every] - decode_s[:, 1]])
    return base_s, outputs_s, prompt_s, np.vstack([np.zeros((1, contexts.size)), decode_s])


@dataclass(frozen=True)
class Client:
    """A client: requests for each in flight, the least of lengths over the nominal ones, the spread of outputs."""

    waves: int
    least: float = 1.0
    spread: float = 0.1

    def lengths(self, prompt_tokens: int, output_tokens: int, requests: int) -> tuple[Ints, Ints]:
        """Prompt and output tokens of its requests, of these nominal ones."""
        rng = np.random.default_rng(1)

        def drawn(nominal: int, spread: float) -> Ints:
            shares = rng.uniform(self.least, 1.0, requests) if self.least < 1.0 else np.ones(requests)
            shares = shares * (1.0 + spread * rng.standard_normal(requests)) if spread else shares
            return np.maximum(2, np.round(nominal * shares)).astype(np.int64)

        return drawn(prompt_tokens, 0.0), drawn(output_tokens, self.spread)


@dataclass(frozen=True)
class Done:
    """A simulated run: mean TTFT and TPOT, median gap between tokens, all in s, output tokens/s, evictions."""

    ttft_s: float
    tpot_s: float
    gap_s: float
    tokens_per_s: float
    evictions: int


def simulate(
    shape: ModelArchitecture,
    machine: str,
    tensor_parallel: int,
    engine: Engine,
    *,
    in_flight: int,
    prompt_tokens: int,
    output_tokens: int,
    requests: int,
    client: Client,
    admission_s: float = 0.003,
    capacity_tokens: float | None = None,
    most_batch: int = 512,
) -> Done:
    """Simulate requests on one replica, ``in_flight`` at any time."""
    known = catalog.machine(machine)
    batch = engine.batch(known)
    lengths = client.lengths(prompt_tokens, output_tokens, requests)
    most = min(most_batch, batch.batch_requests)
    longest = int((lengths[0] + lengths[1]).max()) + 1
    context = 2048 * (longest // 2048 + 1)
    times = tables(shape, machine, tensor_parallel, engine, batch.batch_tokens, most, context)
    if capacity_tokens is None:
        parts = memory_bytes(shape, known, tensor_parallel, engine=engine)
        capacity_tokens = parts["KV cache"] / shape.kv_bytes_per_token
    execution, scheduling = engine.execution, engine.scheduling
    arrival, first, last, gaps, weights, evictions = loop(
        *times,
        *lengths,
        in_flight,
        batch.batch_tokens,
        most,
        float(capacity_tokens),
        scheduling.order == "prompt-first",
        scheduling.admission == "reserve",
        (
            execution.iteration_s,
            execution.sequence_s,
            shape.layers * execution.prompt_layer_s,
            float(execution.graph_tokens),
        ),
        admission_s,
        (part.first_share, part.least_share, part.decay, part.clip_tokens, part.retract_tokens)
        if scheduling.admission == "estimate" and (part := engine.estimate) is not None
        else (0.0, 0.0, 0.0, 0, 0),
    )
    order = np.argsort(gaps)
    heavier = np.cumsum(weights[order])
    return Done(
        float(np.mean(first - arrival)),
        float(np.mean((last - first) / (lengths[1] - 1))),
        float(gaps[order][np.searchsorted(heavier, heavier[-1] / 2)]),
        float(lengths[1].sum() / last.max()),
        int(evictions),
    )
