"""A second, slow forward pass of the same weights: double precision, one head and one token at a time."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np

Array = Any


def _array(tensor: Any) -> Array:
    return tensor.detach().to("cpu").double().numpy()


def _norm(x: Array, weights: tuple[Any, ...]) -> Array:
    if len(weights) == 1:
        return x / np.sqrt((x**2).mean() + 1e-5) * _array(weights[0])
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * _array(weights[0]) + _array(weights[1])


def _rotated(head: Array, position: int) -> Array:
    """Each pair (i, i + half) as a complex number, turned by position x base^(-i / half)."""
    half = len(head) // 2
    out = np.empty_like(head)
    for i in range(half):
        turned = complex(head[i], head[i + half]) * cmath.exp(1j * position * 10_000.0 ** (-i / half))
        out[i], out[i + half] = turned.real, turned.imag
    return out


def _slopes(heads: int) -> list[float]:
    if math.log2(heads).is_integer():
        return [2.0 ** (-8.0 * (i + 1) / heads) for i in range(heads)]
    below = 2 ** int(math.log2(heads))
    return _slopes(below) + _slopes(2 * below)[0::2][: heads - below]


def _activation(x: float) -> float:
    return x * 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def logits_of(decoder: Any, ids: list[int]) -> Array:
    """Logits after every token of one sequence, (tokens, vocabulary), of a model that is not split."""
    shape = decoder.shard.shape
    heads, kv_heads, size = shape.heads, shape.kv_heads, shape.head_dim
    embedding = _array(decoder.embedding)
    states = [embedding[token].copy() for token in ids]
    if shape.positions == "learned":
        table = _array(decoder.positions)
        states = [state + table[position] for position, state in enumerate(states)]
    for layer in decoder.layers:
        qkv, out = _array(layer.qkv), _array(layer.out)
        projected = [qkv @ _norm(x, layer.attention_norm) for x in states]
        pieces = [p.reshape(heads + 2 * kv_heads, size) for p in projected]
        mixed = []
        for t, mine in enumerate(pieces):
            rows = []
            for h in range(heads):
                k = h // (heads // kv_heads)
                scores = []
                for s in range(t + 1):
                    query, key = mine[h], pieces[s][heads + k]
                    if shape.positions == "rotary":
                        query, key = _rotated(query, t), _rotated(key, s)
                    score = float(query @ key) / math.sqrt(size)
                    if shape.positions == "alibi":
                        score -= _slopes(heads)[h] * (t - s)
                    scores.append(score)
                share = np.exp(np.array(scores) - max(scores))
                share /= share.sum()
                rows.append(sum(share[s] * pieces[s][heads + kv_heads + k] for s in range(t + 1)))
            mixed.append(np.concatenate(rows))
        states = [x + out @ m for x, m in zip(states, mixed, strict=True)]
        up, down = _array(layer.up), _array(layer.down)
        for t, x in enumerate(states):
            wide = up @ _norm(x, layer.mlp_norm)
            if shape.gated_mlp:
                gate, value = wide[: shape.intermediate_size], wide[shape.intermediate_size :]
                wide = gate / (1.0 + np.exp(-gate)) * value
            else:
                wide = np.array([_activation(each) for each in wide.tolist()])
            states[t] = x + down @ wide
    head = _array(decoder.head)
    return np.stack([head @ _norm(x, decoder.norm) for x in states])
