"""Shapes: refusals, parameter counts against published ones, and the split of a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.errors import InputError
from provisioner.profiling.shape import Shard, read_shape
from tests.profiling.shapes import TINY, shaped, tiny

LLAMA_8B = shaped("llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, True, "rotary", "rms")
BLOOM = shaped("bloom-176b", 70, 14336, 112, 112, 128, 57344, 250880, False, "alibi", "layer")


def test_parameters_are_the_published_ones() -> None:
    """Llama-3.1-8B: 8,030,261,248 (its model card's 8.03 billion). BLOOM ties embedding and head, and has biases."""
    whole = Shard.of(LLAMA_8B, 1)
    assert whole.layer_parameters * 32 + whole.ends_parameters(8192) == 8_030_261_248
    bloom = Shard.of(BLOOM, 1)
    tied = bloom.layer_parameters * 70 + bloom.ends_parameters(8192) - 250880 * 14336
    assert tied == pytest.approx(176.25e9, rel=1e-3)


@pytest.mark.parametrize(
    ("gpus", "heads", "kv_heads", "width", "vocabulary"),
    [(1, 32, 8, 14336, 128256), (8, 4, 1, 1792, 16032), (16, 2, 1, 896, 8016)],
)
def test_a_gpu_holds_its_share(gpus: int, heads: int, kv_heads: int, width: int, vocabulary: int) -> None:
    share = Shard.of(LLAMA_8B, gpus)
    assert (share.heads, share.kv_heads, share.intermediate_size, share.vocab_size) == (
        heads,
        kv_heads,
        width,
        vocabulary,
    )


def test_a_vocabulary_that_is_not_divided_is_rounded_up() -> None:
    assert Shard.of(tiny(vocab_size=129), 2).vocab_size == 65


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        (3, "model tiny: tensor_parallel 3: must divide heads = 4"),
        (0, "tensor_parallel: must be a whole number, 1 or more, got 0"),
        (1.5, "tensor_parallel: must be a whole number, 1 or more, got 1.5"),
    ],
)
def test_what_cannot_be_split_is_refused(gpus: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Shard.of(TINY, gpus)


def test_kv_heads_that_are_neither_split_nor_repeated_evenly_are_refused() -> None:
    with pytest.raises(InputError, match="must divide kv_heads = 6, or be a multiple of it"):
        Shard.of(tiny(heads=12, kv_heads=6), 4)


def test_rotary_positions_need_an_even_head_dimension() -> None:
    with pytest.raises(InputError, match="head_dim: must be even with rotary positions, got 15"):
        Shard.of(tiny(head_dim=15), 1)


def test_a_file_gives_its_shape_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "shape.yaml"
    path.write_text(yaml.safe_dump(asdict(TINY) | {"more": "ignored"}))
    assert read_shape(path) == TINY
    for content, message in (
        ("", "must be a YAML mapping"),
        ("[1, 2]", "must be a YAML mapping"),
        ("name: x\n  layers: 3", "line 2: is not a YAML text file"),
        ("name: x\ntitle: y\nlayer: 3", "layers: is missing; must have name, layers, hidden_size"),
        (yaml.safe_dump(asdict(TINY) | {"heads": -4}), "shape.yaml: heads: must be a whole number, 1 or more, got -4"),
        (yaml.safe_dump(asdict(TINY) | {"hidden_size": "wide"}), "hidden_size: must be a number, got 'wide'"),
        (yaml.safe_dump(asdict(TINY) | {"gated_mlp": "yes, it has"}), "gated_mlp: must be true or false"),
        (yaml.safe_dump(asdict(TINY) | {"kv_heads": 3}), "kv_heads: must divide the 4 heads, got 3"),
        (yaml.safe_dump(asdict(TINY) | {"positions": "rope"}), "positions: must be rotary or alibi or learned"),
        (yaml.safe_dump(asdict(TINY) | {"norm": "batch"}), "norm: must be rms or layer, got 'batch'"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_shape(path)
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read: No such file"):
        read_shape(tmp_path / "none.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a YAML text file"):
        read_shape(path)
