"""Iteration times of a dense decoder-only transformer as the sum of its operators on one GPU of TP.

Heads, KV heads and the inner dimension are divided by the tensor parallelism (a KV head that cannot be divided is
repeated). An iteration adds the embedding, the LM head over the last token of each sequence, the sampling over its
logits, and the serving engine's own time to its layers (``_layer_s``) with their attention.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from provisioner.errors import InputError
from provisioner.perf.operators import ACTIVATION_BYTES, Floats, Operators
from provisioner.perf.points import CurvePoint, Phase, Provenance
from provisioner.specs.engine import Execution
from provisioner.specs.model import DTYPE_BYTES, ModelArchitecture

SAMPLING_PASSES: Final = 6
"""Passes over the fp32 logits for sampling: conversion, softmax, and the maximum or sum. From 4 to 12."""


KERNELS_ALONE: Final = Execution()  # no time beside the kernels


def iteration_s(
    shape: ModelArchitecture,
    gpu: Operators,
    tensor_parallel: int,
    *,
    prompt_tokens: ArrayLike = 0,
    prompts: ArrayLike = 1,
    batch: ArrayLike = 0,
    context_tokens: ArrayLike = 0,
    execution: Execution = KERNELS_ALONE,
) -> Floats:
    """Time of one iteration, in s: ``prompts`` of ``prompt_tokens`` each and a decode batch; broadcast.

    ``context_tokens`` is the decode batch's total context. Matrix products go over all tokens, the two attentions run
    one after the other; ``execution`` is the engine's time beside the kernels. ``InputError`` for amounts below 0 and
    for a degree that does not divide the model.
    """
    if tensor_parallel < 1 or shape.heads % tensor_parallel or shape.intermediate_size % tensor_parallel:
        raise InputError(
            f"tensor parallelism: must divide the model's {shape.heads} heads and its inner dimension of"
            f" {shape.intermediate_size}, got {tensor_parallel}"
        )
    amounts = {"prompt_tokens": prompt_tokens, "prompts": prompts, "batch": batch, "context_tokens": context_tokens}
    chunk, count, sequences, context = (np.asarray(amount, dtype=np.float64) for amount in amounts.values())
    for name, amount in zip(amounts, (chunk, count, sequences, context), strict=True):
        wrong = ~(np.isfinite(amount) & (amount >= 0))
        if wrong.any():
            raise InputError(f"iteration: {name}: must be 0 or more, got {amount[wrong].flat[0]:g}")
    chunks = np.where(chunk > 0, count, 0.0)
    outputs = chunks + sequences
    tokens = chunks * chunk + sequences
    heads, kv_heads = shape.heads // tensor_parallel, max(shape.kv_heads // tensor_parallel, 1)
    mean_context = context / np.maximum(sequences, 1)
    decode_s = gpu.decode_attention_s(sequences, mean_context, heads, kv_heads, shape.head_dim, shape.kv_dtype)
    attention_s = gpu.prompt_attention_s(chunk, chunks, heads, kv_heads, shape.head_dim) + decode_s
    of_layers = shape.layers * (_layer_s(shape, gpu, tensor_parallel, tokens, execution) + attention_s)
    result: Floats = of_layers + _ends_s(shape, gpu, tensor_parallel, tokens, outputs, execution)
    launched = (chunks > 0) & (tokens > execution.graph_tokens)
    result = np.where(launched, np.maximum(result, shape.layers * execution.prompt_layer_s), result)
    return result + execution.iteration_s + execution.sequence_s * outputs


def _layer_s(
    shape: ModelArchitecture, gpu: Operators, tensor_parallel: int, tokens: Floats, execution: Execution
) -> Floats:
    """Time of one layer without its attention, in s; of a layer in two number types, the mean by their shares."""
    if share := shape.share_in_16_bits:
        both = shape.in_dtype("bf16"), replace(shape, share_in_16_bits=0.0)
        wide_s, narrow_s = (_layer_s(each, gpu, tensor_parallel, tokens, execution) for each in both)
        return share * wide_s + (1.0 - share) * narrow_s
    heads = shape.heads // tensor_parallel
    kv_heads = max(shape.kv_heads // tensor_parallel, 1)
    inner = shape.intermediate_size // tensor_parallel
    up = 2 * inner if shape.gated_mlp else inner
    hidden_bytes = ACTIVATION_BYTES * tokens * shape.hidden_size
    turned_bytes = 2 * ACTIVATION_BYTES * tokens * shape.head_dim * (heads + kv_heads)
    kv_bytes = (ACTIVATION_BYTES + DTYPE_BYTES[shape.kv_dtype]) * tokens * shape.head_dim * 2 * kv_heads
    products = (
        gpu.gemm_s(tokens, (heads + 2 * kv_heads) * shape.head_dim, shape.hidden_size, shape.dtype)
        + gpu.gemm_s(tokens, shape.hidden_size, heads * shape.head_dim, shape.dtype)
        + gpu.gemm_s(tokens, up, shape.hidden_size, shape.dtype)
        + gpu.gemm_s(tokens, shape.hidden_size, inner, shape.dtype)
    )
    elementwise = (
        _norms_s(shape, gpu, tensor_parallel, tokens, execution)
        + gpu.elementwise_s(kv_bytes, "rotary")
        + gpu.elementwise_s(ACTIVATION_BYTES * tokens * (up + inner), "activation")
    )
    if shape.positions == "rotary":
        elementwise = elementwise + gpu.elementwise_s(turned_bytes, "rotary")
    sums = 2 * _all_reduce_s(gpu, tensor_parallel, tokens, hidden_bytes, execution)
    return products + execution.elementwise_share * elementwise + sums


def _norms_s(
    shape: ModelArchitecture, gpu: Operators, tensor_parallel: int, tokens: Floats, execution: Execution
) -> Floats:
    """Time of the two norms of a layer, in s: none where sums over NVLink within CUDA graphs compute them."""
    norms_s = 2 * gpu.elementwise_s(4 * ACTIVATION_BYTES * tokens * shape.hidden_size, "norm")
    fused = execution.fuses_norms(shape.name, shape.hidden_size, gpu.limits.name)
    if tensor_parallel == 1 or gpu.limits.link != "nvlink" or not fused:
        return norms_s
    return np.where(tokens <= execution.graph_tokens, 0.0, norms_s)


def _all_reduce_s(
    gpu: Operators, tensor_parallel: int, tokens: Floats, size_bytes: Floats, execution: Execution
) -> Floats:
    """Time of an all-reduce, in s: within a CUDA graph up to its tokens, launched on its own beyond."""
    if tensor_parallel == 1:
        return np.zeros_like(size_bytes)
    graph, eager = (gpu.all_reduce_s(tensor_parallel, size_bytes, launch) for launch in ("graph", "eager"))
    return np.where(tokens <= execution.graph_tokens, graph, eager)


def _ends_s(
    shape: ModelArchitecture,
    gpu: Operators,
    tensor_parallel: int,
    tokens: Floats,
    outputs: Floats,
    execution: Execution,
) -> Floats:
    """Time of embedding, last norm, LM head and sampling, in s."""
    hidden_bytes = ACTIVATION_BYTES * tokens * shape.hidden_size
    logits = outputs * shape.vocab_size
    gathered = gpu.all_reduce_s(tensor_parallel, ACTIVATION_BYTES * logits) / 2 if tensor_parallel > 1 else 0.0
    return (
        execution.elementwise_share * (2 * gpu.elementwise_s(2 * hidden_bytes, "norm"))
        + _all_reduce_s(gpu, tensor_parallel, tokens, hidden_bytes, execution)
        + gpu.gemm_s(outputs, -(-shape.vocab_size // tensor_parallel), shape.hidden_size, "bf16")
        + gathered
        + SAMPLING_PASSES * gpu.elementwise_s(4 * logits, "activation")
    )


PROMPT_TOKENS: Final[Sequence[int]] = (
    *(16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384),
    *(24576, 32768, 49152, 65536, 98304, 131072),
)
"""Tokens of the single prompts of a derived curve."""
PROMPT_BATCHES: Final[Sequence[tuple[int, int]]] = ((512, 2), (512, 4))
"""Batches of prompts of a derived curve: (prompt tokens, prompts)."""
DECODE_BATCHES: Final[Sequence[int]] = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
DECODE_CONTEXT: Final = 1024
"""Batches of the batch axis of a derived curve, and their KV context per sequence, in tokens."""
SLOPE_BATCHES: Final[Sequence[int]] = (1, 8, 64, 256)
SLOPE_CONTEXTS: Final[Sequence[int]] = (256, 512, 2048, 4096, 8192, 16384)
"""Batches of a derived curve's other decode points, and their contexts per sequence, in tokens."""


def derived_points(
    shape: ModelArchitecture,
    gpu: Operators,
    tensor_parallel: int,
    execution: Execution,
    provenance: Provenance = "derived",
) -> tuple[CurvePoint, ...]:
    """Points of a whole curve, of one repeat each: single prompts, batches of prompts, decode over batch and context.

    A decode point's ``prompt_tokens`` are its context per sequence, as if nothing had been generated yet.
    """

    prompts = [*((tokens, 1) for tokens in PROMPT_TOKENS), *PROMPT_BATCHES]
    decodes = [(DECODE_CONTEXT, batch) for batch in DECODE_BATCHES]
    decodes += [(context, batch) for context in SLOPE_CONTEXTS for batch in SLOPE_BATCHES]
    time_s = partial(iteration_s, shape, gpu, tensor_parallel, execution=execution)
    tokens, count = np.array(prompts).T
    prompt_s = time_s(prompt_tokens=tokens, prompts=count).tolist()
    context, batch = np.array(decodes).T
    decode_s = time_s(batch=batch, context_tokens=batch * context).tolist()

    def point(phase: Phase, tokens: int, batch: int, seconds: float) -> CurvePoint:
        held = float(tokens * batch) if phase == "decode" else 0
        return CurvePoint(phase, tokens, batch, held, seconds, 1, seconds, seconds, provenance)

    return (
        *(point("prompt", *work, seconds) for work, seconds in zip(prompts, prompt_s, strict=True)),
        *(point("decode", *work, seconds) for work, seconds in zip(decodes, decode_s, strict=True)),
    )


def context_slope_s_per_token(
    shape: ModelArchitecture, gpu: Operators, tensor_parallel: int, execution: Execution = KERNELS_ALONE
) -> float:
    """Time that one further token of context adds to a decode iteration of a full batch, in s.

    Difference between iterations of 64 sequences at 1,024 and at 8,192 tokens each, over the tokens between them. A
    single sequence reads its cache at a fraction of the bandwidth, so its slope says nothing about a batch.
    """
    held = (64 * 1024, 64 * 8192)
    time_s = partial(iteration_s, shape, gpu, tensor_parallel, batch=64, execution=execution)
    shorter_s, longer_s = (float(time_s(context_tokens=tokens)) for tokens in held)
    return (longer_s - shorter_s) / (held[1] - held[0])
