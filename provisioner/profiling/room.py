"""Memory that an iteration takes, and what of a model fits into the memory at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.profiling.grid import Work, curve_possible
from provisioner.profiling.shape import Shard
from provisioner.profiling.torch_import import import_torch
from provisioner.specs.units import format_bytes

USABLE_SHARE: Final = 0.92
"""Share of the free memory that is planned with; the rest is for kernels' workspace and what the estimate misses."""

FEWEST_LAYERS: Final = 2
"""Layers timed where the whole does not fit, at least: one layer's weights could stay in a cache."""

ALIVE: Final = 8
"""Hidden states alive at once in a layer, and what a norm makes in full precision, as multiples of one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many layers are held at once, what is timed with them, and what is left out for lack of memory."""

    layers: int
    works: tuple[Work, ...]
    left_out: tuple[tuple[Work, str], ...]


def free_bytes(device: Any) -> float:
    """Memory that is free on a device, in bytes."""
    torch = import_torch()
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        import os

        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2


def weights_bytes(shard: Shard, layers: int, longest_tokens: int, element_bytes: int) -> float:
    """Weights of so many layers with embedding and LM head, in bytes."""
    return (layers * shard.layer_parameters + shard.ends_parameters(longest_tokens)) * element_bytes


def work_bytes(shard: Shard, work: Work, layers: int, element_bytes: int) -> float:
    """KV cache and activations of one iteration through so many layers, in bytes.

    ``ALIVE`` hidden states, three times queries, keys and values, and one and a half times the MLP's width for each
    token; logits in the type and in full precision; with ALiBi its bias.
    """
    kv = layers * shard.kv_elements(work.held_tokens)
    token = ALIVE * shard.shape.hidden_size + 3 * shard.qkv_width + 1.5 * (shard.up_width + shard.intermediate_size)
    bias = 0
    if shard.shape.positions == "alibi":
        rows = work.tokens if work.phase == "prompt" else 1
        bias = shard.heads * rows * work.tokens
    total = kv + work.new_tokens * token + bias
    return total * element_bytes + work.batch * shard.vocab_size * (element_bytes + 4)


def plan(
    shard: Shard,
    works: Sequence[Work],
    *,
    context_tokens: int,
    memory_bytes: float,
    element_bytes: int,
) -> Plan:
    """The whole model where it leaves room for a curve, else the most layers that leave room for all work.

    Work that does not fit beside the whole model could not run on this GPU either, so it is left out. Beside some
    layers all of it should fit; where not even ``FEWEST_LAYERS`` leave room for everything, the rest is left out.
    ``InputError`` where too little fits for a curve.
    """
    longest = max(work.tokens for work in works)
    room = USABLE_SHARE * memory_bytes

    def fitting(layers: int) -> list[Work]:
        left = room - weights_bytes(shard, layers, longest, element_bytes)
        return [work for work in works if work_bytes(shard, work, layers, element_bytes) <= left]

    whole = shard.shape.layers
    layers, fit = whole, fitting(whole)
    if not curve_possible(fit, context_tokens):
        few = range(min(FEWEST_LAYERS, whole), whole)
        layers = max((n for n in few if len(fitting(n)) == len(works)), default=min(FEWEST_LAYERS, whole))
        fit = fitting(layers)
    if not curve_possible(fit, context_tokens):
        needed = weights_bytes(shard, layers, longest, element_bytes)
        raise InputError(
            f"model {shard.shape.name}: {layers} layers, embedding and LM head take {format_bytes(needed)} at"
            f" tensor_parallel {shard.tensor_parallel}, and of {format_bytes(room)} too little is left for a curve:"
            " take a larger tensor_parallel, or smaller batches and contexts"
        )
    kept = set(fit)
    left_out = tuple(
        (work, f"needs {format_bytes(work_bytes(shard, work, layers, element_bytes))} beside the weights")
        for work in works
        if work not in kept
    )
    return Plan(layers, tuple(fit), left_out)
