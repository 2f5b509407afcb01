"""Memory of one replica: what takes it, and the room that is left for KV cache."""

from dataclasses import dataclass
from typing import Final

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.options.defaults import BATCH_REQUESTS, BATCH_TOKENS
from provisioner.perf.curves import Assumptions
from provisioner.perf.operators import ACTIVATION_BYTES
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.units import format_seconds


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """Memory of a GPU that a serving engine gives neither to weights nor to KV cache; by default vLLM's from 0.19 on.

    ``share`` of the memory is used at most. ``driver_gib`` are not reported by CUDA, ``collectives_gib`` are for sums
    over several GPUs, ``workspace_gib`` for activations that no shape explains. A card of ``large_card_gib`` or more
    samples the second number of ``sequences`` at once, a smaller one the first. Sources, ranges and errors:
    docs/explanation/memory.md.
    """

    share: float = 0.9
    driver_gib: float = 0.47
    context_gib: float = 0.25
    collectives_gib: float = 1.85
    pcie_collectives_gib: float = 0.2
    graphs_gib_per_layer: float = 18 / 1024
    workspace_gib: float = 0.125
    bytes_per_logit: float = 14.0
    sequences: tuple[int, int] = (256, BATCH_REQUESTS)
    large_card_gib: float = 70.0


VLLM: Final = EngineMemory()

SIMULATOR_WEIGHT_BYTES: Final = {"bloom-176b": 329e9, "llama2-70b": 135e9}
"""Weights in bytes that the published simulator's configuration states, by model."""


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
    """KV cache of one token in bytes; the published simulator takes 2 x hidden size x layers x 2 with any KV heads.

    >>> from provisioner.specs.catalog import model
    >>> kv_bytes_per_token(model("llama2-70b")), kv_bytes_per_token(model("llama2-70b"), "splitwise-sim")
    (327680.0, 2621440.0)
    """
    if assumptions == "measured":
        return model.kv_bytes_per_token
    return float(2 * model.hidden_size * model.layers * 2)


def memory_bytes(
    model: ModelArchitecture,
    machine: Machine,
    tensor_parallel: int,
    assumptions: Assumptions = "measured",
    batch_tokens: int = BATCH_TOKENS,
    engine: EngineMemory = VLLM,
) -> dict[str, float]:
    """Memory of a replica's GPUs in bytes, by what takes it; KV cache has the rest, below 0 if there is none.

    Activations: a workspace, the hidden states of ``batch_tokens``, and the larger of their MLP (inner dimension / TP,
    for each matrix, and the residual) and of sampling (the logits of all sequences). The published simulator knows
    weights only.

    >>> from provisioner.specs.catalog import machine, model
    >>> parts = memory_bytes(model("llama-3.1-8b"), machine("rtx4090-x8"), 1)
    >>> " ".join(f"{part} {size / 2**30:.2f}" for part, size in parts.items())    # GiB; vLLM 0.19 has a cache of 5.05
    'weights 14.96 activations 0.57 CUDA graphs 0.56 context 0.25 driver 0.47 unused share 2.35 KV cache 4.84'
    """
    if not 1 <= tensor_parallel <= machine.gpus:
        raise InputError(
            f"tensor_parallel: must be from 1 to the {machine.gpus} GPUs of {machine.name}, got {tensor_parallel}"
        )
    parts = {"weights": weight_bytes(model, assumptions)}
    if assumptions == "measured":
        card_gib, hidden = machine.memory_gib_per_gpu, ACTIVATION_BYTES * batch_tokens * model.hidden_size
        inner = (3 if model.gated_mlp else 2) * ACTIVATION_BYTES * batch_tokens * model.intermediate_size
        sequences = engine.sequences[card_gib >= engine.large_card_gib]
        sampling = engine.bytes_per_logit * sequences * model.vocab_size
        sums_gib = engine.pcie_collectives_gib if machine.gpu_link == "pcie" else engine.collectives_gib
        per_gpu_gib = {
            "activations": engine.workspace_gib + (hidden + max(inner / tensor_parallel + hidden, sampling)) / 2**30,
            "CUDA graphs": engine.graphs_gib_per_layer * model.layers,
            "context": engine.context_gib + (sums_gib if tensor_parallel > 1 else 0.0),
            "driver": engine.driver_gib,
            "unused share": (1.0 - engine.share) * (card_gib - engine.driver_gib),
        }
        parts |= {part: tensor_parallel * gib * 2**30 for part, gib in per_gpu_gib.items()}
    total = machine.memory_bytes * tensor_parallel / machine.gpus
    return parts | {"KV cache": total - sum(parts.values())}


def kv_capacity_tokens(
    model: ModelArchitecture,
    machine: Machine,
    tensor_parallel: int,
    assumptions: Assumptions = "measured",
    batch_tokens: int = BATCH_TOKENS,
) -> float:
    """Tokens of KV cache that one replica holds: the memory left for it / KV bytes per token.

    Raises ``ModelDoesNotFitError`` with the numbers if the rest leaves no room for one sequence of the model's full
    context (as vLLM does), or for a single token in the published simulator's form.
    """
    parts = memory_bytes(model, machine, tensor_parallel, assumptions, batch_tokens)
    total, left, per_token = sum(parts.values()), parts.pop("KV cache"), kv_bytes_per_token(model, assumptions)
    weights = parts.pop("weights")
    needed = model.trained_context_tokens if assumptions == "measured" else 1
    if left < needed * per_token:
        end = f"leaves {left / per_token:,.0f} tokens of KV cache, less than the {needed:,} of one full context"
        if left <= 0:  # what more memory would not mend
            read_s = weights / (tensor_parallel * machine.memory_bandwidth_gb_per_s * 1e9)
            send_s = 1000 * per_token / machine.network_bytes_per_s
            end = (
                f"leaves none; if they fitted, reading them for a token would take {format_seconds(read_s)} at "
                f"{tensor_parallel} x {machine.memory_bandwidth_gb_per_s:g} GB/s, and sending the KV cache of 1,000 "
                f"tokens {format_seconds(send_s)} at {machine.network_gbps:g} Gb/s"
            )
        rest = "".join(f", {part} {size / 1e9:,.1f}" for part, size in parts.items())
        raise ModelDoesNotFitError(
            f"{model.name} does not fit on {tensor_parallel} of the {machine.gpus} GPUs of {machine.name}: the weights"
            f" take {weights / 1e9:,.1f} GB{rest} of {total / 1e9:,.1f} GB ({tensor_parallel} x"
            f" {machine.memory_gib_per_gpu:g} GiB), which {end}"
        )
    return left / per_token
