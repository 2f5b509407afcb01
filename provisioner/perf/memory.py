"""Memory of one replica: weights and KV cache against HBM."""

from __future__ import annotations

from typing import Final

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.perf.curves import Assumptions
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.units import format_seconds

USABLE_MEMORY_FRACTION: Final = 0.9
"""Share of HBM that weights and KV cache may take, sensible from 0.85 to 0.95: activations and buffers need the rest.

0.9 was long vLLM's default ``gpu_memory_utilization``; current releases have 0.92 (docs.vllm.ai, ``CacheConfig``).
"""

SIMULATOR_USABLE_MEMORY_FRACTION: Final = 1.0
"""Share of HBM that the published simulator fills."""

SIMULATOR_WEIGHT_BYTES: Final = {"bloom-176b": 329e9, "llama2-70b": 135e9}
"""Weights in bytes that the published simulator's configuration states, by model."""


def usable_memory_bytes(machine: Machine, tensor_parallel: int, assumptions: Assumptions = "measured") -> float:
    """HBM that weights and KV cache of one replica may take, in bytes: GPUs x memory x usable share."""
    if not 1 <= tensor_parallel <= machine.gpus:
        raise InputError(
            f"tensor_parallel: must be from 1 to the {machine.gpus} GPUs of {machine.name}, got {tensor_parallel}"
        )
    share = USABLE_MEMORY_FRACTION if assumptions == "measured" else SIMULATOR_USABLE_MEMORY_FRACTION
    return machine.memory_bytes * tensor_parallel / machine.gpus * share


def weight_bytes(model: ModelArchitecture, assumptions: Assumptions = "measured") -> float:
    """Memory of the weights in bytes: parameters x bytes per parameter, or as the published simulator states it."""
    if assumptions == "measured":
        return model.weight_bytes
    if model.name not in SIMULATOR_WEIGHT_BYTES:
        raise InputError(
            f"the published simulator states no weights for {model.name}: it knows {', '.join(SIMULATOR_WEIGHT_BYTES)}"
        )
    return SIMULATOR_WEIGHT_BYTES[model.name]


def kv_bytes_per_token(model: ModelArchitecture, assumptions: Assumptions = "measured") -> float:
    """KV cache of one token in bytes.

    2 x layers x KV heads x head dimension x bytes per element; the published simulator ignores grouped-query
    attention and takes 2 x hidden size x layers x 2 bytes.

    >>> from provisioner.specs.catalog import model
    >>> kv_bytes_per_token(model("llama2-70b")), kv_bytes_per_token(model("llama2-70b"), "splitwise-sim")
    (327680.0, 2621440.0)
    """
    if assumptions == "measured":
        return model.kv_bytes_per_token
    return float(2 * model.hidden_size * model.layers * 2)


def kv_capacity_tokens(
    model: ModelArchitecture, machine: Machine, tensor_parallel: int, assumptions: Assumptions = "measured"
) -> float:
    """Tokens of KV cache that one replica holds: (usable HBM - weights) / KV bytes per token.

    Raises ``ModelDoesNotFitError`` with the numbers if the weights leave no room for one sequence of the
    model's full context (as vLLM does), or for a single token in the published simulator's form.
    """
    usable = usable_memory_bytes(machine, tensor_parallel, assumptions)
    weights = weight_bytes(model, assumptions)
    per_token = kv_bytes_per_token(model, assumptions)
    capacity = (usable - weights) / per_token
    needed = model.trained_context_tokens if assumptions == "measured" else 1
    if capacity < needed:
        left = f", which leaves {capacity:,.0f} tokens of KV cache, less than the {needed:,} of one full context"
        if capacity <= 0:  # what more memory would not mend
            read_s = weights / (tensor_parallel * machine.memory_bandwidth_gb_per_s * 1e9)
            send_s = 1000 * per_token / machine.network_bytes_per_s
            left = (
                f"; if they fitted, reading them for a token would take {format_seconds(read_s)} at {tensor_parallel} "
                f"x {machine.memory_bandwidth_gb_per_s:g} GB/s, and sending the KV cache of 1,000 tokens "
                f"{format_seconds(send_s)} at {machine.network_gbps:g} Gb/s"
            )
        raise ModelDoesNotFitError(
            f"{model.name} does not fit on {tensor_parallel} of the {machine.gpus} GPUs of {machine.name}:"
            f" the weights take {weights / 1e9:,.1f} GB of {usable / 1e9:,.1f} GB usable"
            f" ({tensor_parallel} x {machine.memory_gib_per_gpu:g} GiB x"
            f" {usable / (machine.memory_bytes * tensor_parallel / machine.gpus):g}){left}"
        )
    return capacity
