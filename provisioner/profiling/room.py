"""Memory that an iteration takes, and the part of a model that fits into the available memory."""

import os
from dataclasses import dataclass
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.profiling.grid import Grid, Work, curve_possible
from provisioner.profiling.shape import Shard
from provisioner.profiling.torch_import import import_torch
from provisioner.specs.units import format_bytes

USABLE_SHARE: Final = 0.92
"""Share of the free memory to use; the rest is for the kernels' workspace and for errors of the estimate."""

FEWEST_LAYERS: Final = 2
"""Smallest number of layers timed if the whole model does not fit: one layer's weights could stay in a cache."""

ALIVE: Final = 8
"""Hidden states in memory at once in a layer, a norm's full-precision values included, as multiples of one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Number of layers held at once, the work timed with them, and the work left out for lack of memory."""

    layers: int
    works: tuple[Work, ...]
    left_out: tuple[tuple[Work, str], ...]


def free_bytes(device: Any) -> float:
    """Free memory of a device, in bytes."""
    if device.type == "cuda":
        return float(import_torch().cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2


def weights_bytes(shard: Shard, layers: int, longest_tokens: int, element_bytes: int) -> float:
    """Memory of the weights of ``layers`` layers with embedding and LM head, in bytes."""
    return (layers * shard.layer_parameters + shard.ends_parameters(longest_tokens)) * element_bytes


def work_bytes(shard: Shard, work: Work, layers: int, element_bytes: int) -> float:
    """Memory of KV cache and activations of one iteration through ``layers`` layers, in bytes.

    Activations are ``ALIVE`` hidden states, three times queries, keys and values, and one and a half times the MLP's
    width for each token; the logits in their type and in full precision; and the bias of ALiBi.
    """
    kv = layers * shard.kv_elements(work.held_tokens)
    token = ALIVE * shard.shape.hidden_size + 3 * shard.qkv_width + 1.5 * (shard.up_width + shard.intermediate_size)
    rows = work.tokens if work.phase == "prompt" else 1
    bias = shard.heads * rows * work.tokens if shard.shape.positions == "alibi" else 0
    total = kv + work.new_tokens * token + bias
    return total * element_bytes + work.batch * shard.vocab_size * (element_bytes + 4)


def plan(shard: Shard, grid: Grid, memory_bytes: float, element_bytes: int) -> Plan:
    """Plan with the whole model if it leaves room for a curve, else with the most layers that leave room for all work.

    Work that does not fit beside the whole model could not run on this GPU either, so it is left out. Beside some
    layers all work should fit; if not even ``FEWEST_LAYERS`` leave room for it, the rest is left out.
    Raises ``InputError`` if too little fits for a curve.
    """
    works, longest = grid.works(), grid.longest_tokens
    room = USABLE_SHARE * memory_bytes

    def fitting(layers: int) -> list[Work]:
        left = room - weights_bytes(shard, layers, longest, element_bytes)
        return [work for work in works if work_bytes(shard, work, layers, element_bytes) <= left]

    whole = shard.shape.layers
    layers, fit = whole, fitting(whole)
    if not curve_possible(fit, grid.context_tokens):
        few = range(min(FEWEST_LAYERS, whole), whole)
        layers = max((n for n in few if len(fitting(n)) == len(works)), default=min(FEWEST_LAYERS, whole))
        fit = fitting(layers)
    if not curve_possible(fit, grid.context_tokens):
        needed = weights_bytes(shard, layers, longest, element_bytes)
        raise InputError(
            f"model {shard.shape.name}: {layers} layers, embedding and LM head take {format_bytes(needed)} at"
            f" tensor_parallel {shard.tensor_parallel}, and of {format_bytes(room)} too little is left for a curve:"
            " take a larger tensor_parallel, or smaller batches and contexts"
        )
    left_out = tuple(
        (work, f"needs {format_bytes(work_bytes(shard, work, layers, element_bytes))} beside the weights")
        for work in works
        if work not in fit
    )
    return Plan(layers, tuple(fit), left_out)
