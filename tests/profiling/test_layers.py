"""The layers compute what a decoder-only transformer does: against a slow second implementation, cached and split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from provisioner.profiling.layers import (
    Cache,
    Decoder,
    Layer,
    Place,
    Window,
    alibi_slopes,
    attention_part,
    mlp_part,
)
from provisioner.profiling.shape import Shard
from provisioner.specs.model import ModelArchitecture
from tests.profiling.reference import logits_of
from tests.profiling.shapes import KINDS, TINY, tiny

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra provisioner[profile])")

torch.set_num_threads(1)
TOKENS, BATCH = 7, 2

kinds = pytest.mark.parametrize("shape", KINDS, ids=[shape.name for shape in KINDS])


def _decoder(shape: ModelArchitecture, seed: int = 7) -> Decoder:
    return Decoder.random(Shard.of(shape, 1), Place.of("cpu", "float32", seed), shape.layers, TOKENS + 1)


def _ids(decoder: Decoder) -> Any:
    return torch.randint(decoder.shard.vocab_size, (BATCH, TOKENS), generator=decoder.place.generator)


def _prompt_logits(decoder: Decoder, ids: Any) -> Any:
    batch, tokens = ids.shape
    window = Window.of(decoder.shard, decoder.place, 0, tokens)
    return decoder.iterate(ids, decoder.caches(batch, tokens), window)


@kinds
def test_a_prompt_gives_the_logits_of_the_slow_implementation(shape: ModelArchitecture) -> None:
    decoder = _decoder(shape)
    ids = _ids(decoder)
    found = _prompt_logits(decoder, ids).double().numpy()
    for row in range(BATCH):
        expected = logits_of(decoder, ids[row].tolist())[-1]
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=2e-4 * np.abs(expected).max())


@kinds
@pytest.mark.parametrize("prompt", [1, 4])
def test_tokens_decoded_one_by_one_give_the_logits_of_one_prompt(shape: ModelArchitecture, prompt: int) -> None:
    """The cache is right: of random content before, and read and written where it must be."""
    decoder = _decoder(shape)
    ids = _ids(decoder)
    caches = decoder.caches(BATCH, TOKENS)
    shard, place = decoder.shard, decoder.place
    decoder.iterate(ids[:, :prompt], caches, Window.of(shard, place, 0, prompt))
    for position in range(prompt, TOKENS):
        found = decoder.iterate(ids[:, position : position + 1], caches, Window.of(shard, place, position, 1))
        expected = _prompt_logits(decoder, ids[:, : position + 1])
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


@kinds
def test_a_token_sees_what_was_before_it_and_not_what_comes(shape: ModelArchitecture) -> None:
    decoder = _decoder(shape)
    ids = _ids(decoder)
    window = Window.of(decoder.shard, decoder.place, 0, TOKENS)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % decoder.shard.vocab_size
    states = [
        decoder.through_layers(decoder.embed(each, window), decoder.caches(BATCH, TOKENS), window)
        for each in (ids, changed)
    ]
    torch.testing.assert_close(states[0][:, :-1], states[1][:, :-1])
    assert not torch.allclose(states[0][:, -1], states[1][:, -1])
    changed = ids.clone()
    changed[:, 0] = (changed[:, 0] + 1) % decoder.shard.vocab_size
    other = decoder.through_layers(decoder.embed(changed, window), decoder.caches(BATCH, TOKENS), window)
    assert not torch.allclose(states[0][:, -1], other[:, -1])


def _split(layer: Layer, shape: ModelArchitecture, gpus: int, rank: int) -> tuple[Shard, Layer]:
    """The share of a rank, cut out of a whole layer's weights by their meaning."""
    size, heads = shape.head_dim, shape.heads
    mine = [h for h in range(heads) if h * gpus // heads == rank]
    groups = sorted({h * shape.kv_heads // heads for h in mine})
    query, key, value = layer.qkv.split([heads * size, shape.kv_heads * size, shape.kv_heads * size])

    def rows(matrix: Any, chosen: list[int]) -> Any:
        return torch.cat([matrix[h * size : (h + 1) * size] for h in chosen])

    width = shape.intermediate_size // gpus
    of_mlp = slice(rank * width, (rank + 1) * width)
    parts = layer.up.split(shape.intermediate_size)
    return Shard.of(shape, gpus, rank), Layer(
        attention_norm=layer.attention_norm,
        qkv=torch.cat([rows(query, mine), rows(key, groups), rows(value, groups)]),
        out=rows(layer.out.T, mine).T.contiguous(),
        mlp_norm=layer.mlp_norm,
        up=torch.cat([part[of_mlp] for part in parts]),
        down=layer.down[:, of_mlp].contiguous(),
    )


@kinds
@pytest.mark.parametrize("gpus", [2, 4])
def test_the_shares_of_all_gpus_add_up_to_the_whole_layer(shape: ModelArchitecture, gpus: int) -> None:
    """The sum replaces the all-reduces, for a prompt and for the token after it."""
    if shape.heads % gpus:
        pytest.skip(f"{shape.heads} heads are not divided by {gpus}")
    whole = Shard.of(shape, 1)
    place = Place.of("cpu", "float32", 3)
    layer = Layer.random(whole, place)
    x, token = place.normal(BATCH, TOKENS, shape.hidden_size), place.normal(BATCH, 1, shape.hidden_size)

    def parts(shard: Shard, of: Layer) -> tuple[Any, Any, Any]:
        cache = Cache.random(shard, place, BATCH, TOKENS + 1)
        prompt = attention_part(shard, of, x, cache, Window.of(shard, place, 0, TOKENS))
        after = attention_part(shard, of, token, cache, Window.of(shard, place, TOKENS, 1))
        return prompt, after, mlp_part(shard, of, x)

    shares = [parts(*_split(layer, shape, gpus, rank)) for rank in range(gpus)]
    for one, expected in zip(zip(*shares, strict=True), parts(whole, layer), strict=True):
        torch.testing.assert_close(sum(one), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
        assert not torch.allclose(one[0], expected, atol=1e-3)  # one share alone is not the whole


@kinds
@pytest.mark.parametrize("gpus", [1, 2])
def test_weights_have_as_many_elements_as_the_estimate_says(shape: ModelArchitecture, gpus: int) -> None:
    shard = Shard.of(shape, gpus)
    decoder = Decoder.random(shard, Place.of("cpu", "float32"), 1, TOKENS)
    (layer,) = decoder.layers
    of_layer = [*layer.attention_norm, layer.qkv, layer.out, *layer.mlp_norm, layer.up, layer.down]
    assert sum(each.numel() for each in of_layer) == shard.layer_parameters
    ends = [decoder.embedding, decoder.head, *decoder.norm]
    ends += [] if decoder.positions is None else [decoder.positions]
    assert sum(each.numel() for each in ends) == shard.ends_parameters(TOKENS)
    (cache,) = decoder.caches(BATCH, TOKENS)
    assert cache.keys.numel() + cache.values.numel() == shard.kv_elements(BATCH * TOKENS)


def test_every_layer_has_a_cache_of_its_own() -> None:
    """One cache for all would fit where the model's do not, and stay near the GPU's cores."""
    decoder = Decoder.random(Shard.of(tiny(layers=5), 1), Place.of("cpu", "float32"), 5, TOKENS)
    parts = [part for cache in decoder.caches(BATCH, TOKENS) for part in (cache.keys, cache.values)]
    assert len({part.untyped_storage().data_ptr() for part in parts}) == 2 * 5
    elements = Shard.of(TINY, 1).kv_elements(BATCH * TOKENS)
    assert sum(part.untyped_storage().nbytes() for part in parts) == 4 * 5 * elements


def test_in_half_precision_the_logits_are_near() -> None:
    """The same weights in bf16: as near as 8 bits of mantissa allow, and finite."""
    exact = _decoder(TINY)
    ids = _ids(exact)
    half = replace(
        exact,
        place=Place.of("cpu", "bfloat16"),
        embedding=exact.embedding.bfloat16(),
        layers=tuple(_halved(layer) for layer in exact.layers),
        norm=tuple(each.bfloat16() for each in exact.norm),
        head=exact.head.bfloat16(),
    )
    found, expected = _prompt_logits(half, ids).float(), _prompt_logits(exact, ids)
    error = float((found - expected).norm() / expected.norm())
    assert 1e-4 < error < 5e-2


def _halved(layer: Layer) -> Layer:
    return Layer(
        attention_norm=tuple(each.bfloat16() for each in layer.attention_norm),
        qkv=layer.qkv.bfloat16(),
        out=layer.out.bfloat16(),
        mlp_norm=tuple(each.bfloat16() for each in layer.mlp_norm),
        up=layer.up.bfloat16(),
        down=layer.down.bfloat16(),
    )


def test_values_stay_in_range_through_many_layers() -> None:
    """Random weights that let values grow or vanish would be timed at other power than a trained model's."""
    deep = tiny(layers=40, hidden_size=128, head_dim=32)
    decoder = Decoder.random(Shard.of(deep, 1), Place.of("cpu", "bfloat16"), deep.layers, TOKENS)
    x = decoder.embed(_ids(decoder), Window.of(decoder.shard, decoder.place, 0, TOKENS))
    after = decoder.through_layers(x, decoder.caches(BATCH, TOKENS), Window.of(decoder.shard, decoder.place, 0, TOKENS))
    assert 0.5 < float(after.float().std()) < 100


def test_slopes_of_published_head_counts() -> None:
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]  # Press et al., section 3
    of_112 = alibi_slopes(112)  # BLOOM-176B: 64 of the power of two below, 48 between
    assert len(of_112) == len(set(of_112)) == 112
    assert of_112[63] == pytest.approx(2**-8)
    assert of_112[64] == pytest.approx(2**-0.0625)


def test_a_window_is_a_whole_prompt_or_one_token() -> None:
    with pytest.raises(ValueError, match="whole prompt or one token"):
        Window.of(Shard.of(TINY, 1), Place.of("cpu", "float32"), 4, 2)
