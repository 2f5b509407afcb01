"""Tiny shapes for the tests of profiling."""

from typing import Any

from provisioner.profiling.grid import Grid
from provisioner.specs.model import ModelArchitecture


def shaped(
    name: str,
    layers: int,
    hidden_size: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    intermediate_size: int,
    vocab_size: int,
    gated_mlp: bool,
    positions: str,
    norm: str,
) -> ModelArchitecture:
    """A model of a shape, with the number of parameters that it gives."""
    attention = 2 * hidden_size * (heads + kv_heads) * head_dim
    mlp = (3 if gated_mlp else 2) * hidden_size * intermediate_size
    return ModelArchitecture(
        name=name,
        title=name,
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=intermediate_size,
        gated_mlp=gated_mlp,
        vocab_size=vocab_size,
        positions=positions,
        norm=norm,
        parameters=2 * vocab_size * hidden_size + layers * (attention + mlp),
        trained_context_tokens=4096,
    )


def tiny(**changes: Any) -> ModelArchitecture:
    """A tiny model, with some fields of its shape changed."""
    shape: dict[str, Any] = {
        "name": "tiny",
        "layers": 2,
        "hidden_size": 64,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "vocab_size": 128,
        "gated_mlp": True,
        "positions": "rotary",
        "norm": "rms",
    }
    return shaped(**shape | changes)


TINY = tiny()

KINDS = (
    TINY,
    tiny(name="multi-head", kv_heads=4),
    tiny(name="multi-query", kv_heads=1),
    tiny(name="plain-alibi", kv_heads=4, gated_mlp=False, positions="alibi", norm="layer"),
    tiny(name="alibi-grouped", positions="alibi"),
    tiny(name="learned", gated_mlp=False, positions="learned", norm="layer"),
    tiny(name="six-heads-alibi", heads=6, kv_heads=6, positions="alibi"),
    tiny(name="wide-heads", head_dim=32),
)

SMALL_GRID = Grid(
    prompt_tokens=(16, 64, 1024),
    batched_prompt_tokens=16,
    prompt_batches=(2,),
    context_tokens=64,
    decode_batches=(1, 4, 16),
    other_context_tokens=(32, 256),
    context_batches=(1, 4),
)
