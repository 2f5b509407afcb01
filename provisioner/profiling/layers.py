"""A decoder-only transformer in PyTorch with random weights: its layers, KV cache, embedding and LM head.

Tensors are (batch, tokens, hidden size); a KV cache is (batch, KV heads, tokens, head dimension). Only one GPU's share
of a tensor-parallel replica is built; the parts that an all-reduce would add up are not added.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from provisioner.profiling.shape import Shard
from provisioner.profiling.torch_import import Tensor, import_torch

ROTARY_BASE: Final = 10_000.0
"""Base of the rotary frequencies (Su et al., 2021, arXiv 2104.09864); models differ in it, their times do not."""

NORM_EPSILON: Final = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Place and type of new tensors: device, type, and the generator of random values."""

    device: Any
    dtype: Any
    generator: Any

    @classmethod
    def of(cls, device: str, dtype: str, seed: int = 0) -> Self:
        """A place by names, such as ``cuda`` and ``bfloat16``."""
        torch = import_torch()
        made = torch.device(device)
        return cls(made, getattr(torch, dtype), torch.Generator(made).manual_seed(seed))

    def normal(self, *size: int, std: float = 1.0) -> Tensor:
        """A tensor of normally distributed values: zeros would draw less power and run at higher clocks."""
        made = import_torch().empty(*size, device=self.device, dtype=self.dtype)
        return made.normal_(0.0, std, generator=self.generator)

    def norm(self, shard: Shard) -> tuple[Tensor, ...]:
        """Weight of a norm, and the bias of a layer norm."""
        weight = 1.0 + self.normal(shard.shape.hidden_size, std=0.1)
        return (weight,) if shard.shape.norm == "rms" else (weight, self.normal(shard.shape.hidden_size, std=0.1))

    def matrix(self, rows: int, columns: int) -> Tensor:
        """A weight (outputs, inputs) that keeps the magnitude of its input."""
        return self.normal(rows, columns, std=columns**-0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Weights of one layer's share; matrices are (outputs, inputs).

    Rows of ``qkv`` are the heads of the queries, then keys, then values; rows of ``up`` are the gate, then the gated
    part.
    """

    attention_norm: tuple[Tensor, ...]
    qkv: Tensor
    out: Tensor
    mlp_norm: tuple[Tensor, ...]
    up: Tensor
    down: Tensor

    @classmethod
    def random(cls, shard: Shard, place: Place) -> Self:
        """A layer of random weights."""
        hidden = shard.shape.hidden_size
        return cls(
            attention_norm=place.norm(shard),
            qkv=place.matrix(shard.qkv_width, hidden),
            out=place.matrix(hidden, shard.heads * shard.shape.head_dim),
            mlp_norm=place.norm(shard),
            up=place.matrix(shard.up_width, hidden),
            down=place.matrix(hidden, shard.intermediate_size),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """Keys and values of one layer, (batch, KV heads, tokens, head dimension) each."""

    keys: Tensor
    values: Tensor

    @classmethod
    def random(cls, shard: Shard, place: Place, batch: int, tokens: int) -> Self:
        """A cache with room for ``tokens`` tokens of each sequence, full of random values."""
        size = (batch, shard.kv_heads, tokens, shard.shape.head_dim)
        return cls(place.normal(*size), place.normal(*size))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Tokens of an iteration in their sequences, from position ``start`` on, with the terms of their positions.

    A window is a whole prompt (``start`` 0) or one token after ``start`` cached ones. ``cosine`` and ``sine`` (tokens,
    1, head dimension) rotate queries and keys; ``bias`` is added to the attention scores, broadcast to their shape.
    """

    start: int
    tokens: int
    cosine: Tensor | None
    sine: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, shard: Shard, place: Place, start: int, tokens: int) -> Self:
        """Window of a prompt of ``tokens`` tokens, or of one token at position ``start``."""
        if start and tokens != 1:
            raise ValueError(f"a window is a whole prompt or one token, got {tokens} tokens from {start}")
        torch = import_torch()
        exact = {"device": place.device, "dtype": torch.float32}
        cosine = sine = bias = None
        positions = torch.arange(start, start + tokens, **exact)
        if shard.shape.positions == "rotary":
            half = shard.shape.head_dim // 2
            angles = positions[:, None, None] * ROTARY_BASE ** -(torch.arange(half, **exact) / half)
            cosine = torch.cat([angles.cos(), angles.cos()], dim=-1).to(place.dtype)
            sine = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(place.dtype)
        elif shard.shape.positions == "alibi":
            mine = alibi_slopes(shard.shape.heads)[shard.rank * shard.heads : (shard.rank + 1) * shard.heads]
            slopes = torch.tensor(mine, **exact)
            gap = torch.arange(start + tokens, **exact)[None, :] - positions[:, None]
            if tokens == 1:
                bias = (slopes.view(1, shard.kv_heads, -1, 1) * gap).to(place.dtype)
            else:
                bias = torch.empty(1, shard.heads, tokens, tokens, device=place.device, dtype=place.dtype)
                future = gap > 0
                for head in range(shard.heads):  # one at a time: all would take twice the room
                    bias[0, head] = (slopes[head] * gap).masked_fill_(future, -math.inf)
        return cls(start, tokens, cosine, sine, bias)


def alibi_slopes(heads: int) -> list[float]:
    """Slope of each head's linear bias (Press et al., 2021, arXiv 2108.12409, section 3).

    2^(-8 i / n) for i from 1 to n, n a power of 2. For other head counts, the rest is every second slope of 2n.

    >>> alibi_slopes(4), len(alibi_slopes(112))
    ([0.25, 0.0625, 0.015625, 0.00390625], 112)
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * i / power) for i in range(1, power + 1)]
    return slopes + [2 ** (-8 * i / (2 * power)) for i in range(1, 2 * (heads - power), 2)]


def _normed(x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    functional = import_torch().nn.functional
    if len(weights) == 1:
        return functional.rms_norm(x, (x.shape[-1],), weights[0], NORM_EPSILON)
    return functional.layer_norm(x, (x.shape[-1],), weights[0], weights[1], NORM_EPSILON)


def attention_part(shard: Shard, layer: Layer, x: Tensor, cache: Cache, window: Window) -> Tensor:
    """Attention of the share's heads, to add to ``x`` (batch, tokens, hidden size); fills the cache.

    A prompt attends to itself, causally. A token attends to its sequence's cache up to itself; the query heads of a
    KV head are then rows of one attention, so that the cache is read once.
    """
    functional = import_torch().nn.functional
    batch, tokens, _ = x.shape
    heads, kv_heads, head_dim = shard.heads, shard.kv_heads, shard.shape.head_dim
    projected = functional.linear(_normed(x, layer.attention_norm), layer.qkv)
    projected = projected.view(batch, tokens, heads + 2 * kv_heads, head_dim)
    rotated, values = projected.split([heads + kv_heads, kv_heads], dim=2)
    if window.cosine is not None:
        rotated = (rotated * window.cosine).addcmul(rotated.roll(head_dim // 2, -1), window.sine)
    queries, keys = rotated.split([heads, kv_heads], dim=2)
    keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    end = window.start + tokens
    cache.keys[:, :, window.start : end] = keys
    cache.values[:, :, window.start : end] = values
    if tokens == 1:
        queries = queries.reshape(batch, kv_heads, heads // kv_heads, head_dim)
        keys, values = cache.keys[:, :, :end], cache.values[:, :, :end]
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=window.bias)
        mixed = mixed.reshape(batch, 1, heads * head_dim)
    else:
        if heads != kv_heads and window.bias is not None:  # no fused kernel takes both
            keys, values = (each.repeat_interleave(heads // kv_heads, dim=1) for each in (keys, values))
        mixed = functional.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys,
            values,
            attn_mask=window.bias,
            is_causal=window.bias is None,
            enable_gqa=keys.shape[1] != heads,
        )
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, heads * head_dim)
    return functional.linear(mixed, layer.out)


def mlp_part(shard: Shard, layer: Layer, x: Tensor) -> Tensor:
    """Output of the share's part of the MLP, to add to ``x`` (batch, tokens, hidden size): SiLU if gated, else GELU."""
    functional = import_torch().nn.functional
    wide = functional.linear(_normed(x, layer.mlp_norm), layer.up)
    if shard.shape.gated_mlp:
        gate, up = wide.split(shard.intermediate_size, dim=-1)
        wide = functional.silu(gate) * up
    else:
        wide = functional.gelu(wide)
    return functional.linear(wide, layer.down)


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """One GPU's share of a model, or of some of its layers."""

    shard: Shard
    place: Place
    embedding: Tensor
    positions: Tensor | None
    layers: tuple[Layer, ...]
    norm: tuple[Tensor, ...]
    head: Tensor

    @classmethod
    def random(cls, shard: Shard, place: Place, layers: int, longest_tokens: int) -> Self:
        """Random weights of ``layers`` layers; learned positions go up to ``longest_tokens``."""
        hidden = shard.shape.hidden_size
        return cls(
            shard=shard,
            place=place,
            embedding=place.normal(shard.vocab_size, hidden),
            positions=place.normal(longest_tokens, hidden) if shard.shape.positions == "learned" else None,
            layers=tuple(Layer.random(shard, place) for _ in range(layers)),
            norm=place.norm(shard),
            head=place.matrix(shard.vocab_size, hidden),
        )

    def caches(self, batch: int, tokens: int) -> tuple[Cache, ...]:
        """A KV cache for each layer."""
        return tuple(Cache.random(self.shard, self.place, batch, tokens) for _ in self.layers)

    def embed(self, ids: Tensor, window: Window) -> Tensor:
        """Hidden states (batch, tokens, hidden size) of token ids (batch, tokens)."""
        functional = import_torch().nn.functional
        x = functional.embedding(ids, self.embedding)
        if self.positions is not None:
            x = x + self.positions[window.start : window.start + window.tokens]
        return x

    def through_layers(self, x: Tensor, caches: Sequence[Cache], window: Window) -> Tensor:
        """Hidden states after all layers."""
        for layer, cache in zip(self.layers, caches, strict=True):
            x = x + attention_part(self.shard, layer, x, cache, window)
            x = x + mlp_part(self.shard, layer, x)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Logits (batch, vocabulary) of the last token of each sequence."""
        return import_torch().nn.functional.linear(_normed(x[:, -1], self.norm), self.head)

    def iterate(self, ids: Tensor, caches: Sequence[Cache], window: Window) -> Tensor:
        """One iteration: logits (batch, vocabulary) after the tokens ``ids`` (batch, tokens)."""
        return self.logits(self.through_layers(self.embed(ids, window), caches, window))
