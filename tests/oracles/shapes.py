"""Architectures made of their numbers."""

from provisioner.specs.model import ModelArchitecture, NumberType


def architecture(
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    intermediate: int,
    vocabulary: int,
    *,
    gated: bool = True,
    rotary: bool = True,
    dtype: NumberType = "bf16",
    kv_dtype: NumberType = "bf16",
) -> ModelArchitecture:
    """A model without a name, whose parameters are those of its shape."""
    attention = 2 * hidden * (heads + kv_heads) * head_dim
    layer = attention + (3 if gated else 2) * hidden * intermediate
    return ModelArchitecture(
        name="made-up",
        title="Made up",
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=intermediate,
        gated_mlp=gated,
        vocab_size=vocabulary,
        positions="rotary" if rotary else "alibi",
        norm="rms",
        parameters=layers * layer + 2 * vocabulary * hidden,
        trained_context_tokens=4096,
        dtype=dtype,
        kv_dtype=kv_dtype,
    )
