"""Memory of one replica: what takes it, and the room that is left for KV cache."""

from typing import Final

from provisioner.errors import InputError, ModelDoesNotFitError
from provisioner.perf.curves import Assumptions
from provisioner.perf.operators import ACTIVATION_BYTES
from provisioner.specs.catalog import engine as engine_of
from provisioner.specs.engine import DEFAULT_ENGINE, Engine
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.units import format_seconds

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
    batch_tokens: int | None = None,
    engine: Engine | None = None,
) -> dict[str, float]:
    """Memory of a replica's GPUs in bytes, by what takes it; KV cache has the rest, below 0 if there is none.

    ``engine`` is the default one unless given. Activations: a workspace, the hidden states of ``batch_tokens``, by
    default the engine's, and the larger of their MLP (inner dimension / TP,
    for each matrix, and the residual) and of sampling (the logits of all sequences). The published simulator knows
    weights only.

    >>> from provisioner.specs.catalog import machine, model
    >>> parts = memory_bytes(model("llama-3.1-8b"), machine("rtx4090-x8"), 1, engine=engine_of("vllm,share=0.9"))
    >>> " ".join(f"{part} {size / 2**30:.2f}" for part, size in parts.items())    # GiB; vLLM 0.19 has a cache of 5.05
    'weights 14.96 activations 0.57 CUDA graphs 0.56 context 0.25 driver 0.47 unused share 2.35 KV cache 4.84'
    """
    if not 1 <= tensor_parallel <= machine.gpus:
        raise InputError(
            f"tensor_parallel: must be from 1 to the {machine.gpus} GPUs of {machine.name}, got {tensor_parallel}"
        )
    parts = {"weights": weight_bytes(model, assumptions)}
    if assumptions == "measured":
        card_gib, engine = machine.memory_gib_per_gpu, engine or engine_of(DEFAULT_ENGINE)
        tokens = batch_tokens or engine.batch(machine).batch_tokens
        kept, hidden = engine.memory, ACTIVATION_BYTES * tokens * model.hidden_size
        inner = (3 if model.gated_mlp else 2) * ACTIVATION_BYTES * tokens * model.intermediate_size
        sampling = kept.bytes_per_logit * kept.sequences(card_gib) * model.vocab_size
        sums_gib = kept.pcie_collectives_gib if machine.gpu_link == "pcie" else kept.collectives_gib
        per_gpu_gib = {
            "activations": kept.workspace_gib + (hidden + max(inner / tensor_parallel + hidden, sampling)) / 2**30,
            "CUDA graphs": kept.graphs_gib_per_layer * model.layers,
            "context": kept.context_gib + (sums_gib if tensor_parallel > 1 else 0.0),
            "driver": kept.driver_gib,
            "unused share": (1.0 - kept.share) * (card_gib - kept.driver_gib),
        }
        parts |= {part: tensor_parallel * gib * 2**30 for part, gib in per_gpu_gib.items()}
    total = tensor_parallel * machine.memory_gib_per_gpu * 2**30
    return parts | {"KV cache": total - sum(parts.values())}


def kv_capacity_tokens(
    model: ModelArchitecture,
    machine: Machine,
    tensor_parallel: int,
    assumptions: Assumptions = "measured",
    batch_tokens: int | None = None,
    engine: Engine | None = None,
    context_tokens: int | None = None,
) -> float:
    """Tokens of KV cache that one replica holds: the memory left for it / KV bytes per token.

    Raises ``ModelDoesNotFitError`` with the numbers if the rest leaves no room for one request of ``context_tokens``,
    the model's full context by default (as vLLM does), or for a single token in the published simulator's form.
    """
    parts = memory_bytes(model, machine, tensor_parallel, assumptions, batch_tokens, engine)
    total, left, per_token = sum(parts.values()), parts.pop("KV cache"), kv_bytes_per_token(model, assumptions)
    weights = parts.pop("weights")
    needed = (context_tokens or model.trained_context_tokens) if assumptions == "measured" else 1
    if left < needed * per_token:
        end = (
            f"leaves {left / per_token:,.0f} tokens of KV cache, less than the {needed:,} of the longest request served"
        )
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
