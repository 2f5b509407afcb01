"""Tiny shapes for the tests of profiling."""

from dataclasses import replace

from provisioner.profiling.grid import Grid
from provisioner.profiling.shape import Shape

TINY = Shape(
    name="tiny",
    layers=2,
    hidden_size=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    intermediate_size=128,
    vocab_size=128,
    gated_mlp=True,
    positions="rotary",
    norm="rms",
)

KINDS = (
    TINY,
    replace(TINY, name="multi-head", kv_heads=4),
    replace(TINY, name="multi-query", kv_heads=1),
    replace(TINY, name="plain-alibi", kv_heads=4, gated_mlp=False, positions="alibi", norm="layer"),
    replace(TINY, name="alibi-grouped", positions="alibi"),
    replace(TINY, name="learned", gated_mlp=False, positions="learned", norm="layer"),
    replace(TINY, name="six-heads-alibi", heads=6, kv_heads=6, positions="alibi"),
    replace(TINY, name="wide-heads", head_dim=32),
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
