"""Shapes: refusals, parameter counts against published ones, and the split of a model."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from provisioner.errors import InputError
from provisioner.profiling.shape import Shape, Shard, read_shape
from tests.profiling.shapes import TINY

LLAMA_8B = Shape("llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, True, "rotary", "rms")
BLOOM = Shape("bloom-176b", 70, 14336, 112, 112, 128, 57344, 250880, False, "alibi", "layer")


def test_parameters_are_the_published_ones() -> None:
    """Llama-3.1-8B: 8,030,261,248 (its model card's 8.03 billion). BLOOM ties embedding and head, and has biases."""
    whole = LLAMA_8B.shard(1)
    assert whole.layer_parameters * 32 + whole.ends_parameters(8192) == 8_030_261_248
    bloom = BLOOM.shard(1)
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
    assert replace(TINY, vocab_size=129).shard(2).vocab_size == 65


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
        TINY.shard(gpus)


def test_kv_heads_that_are_neither_split_nor_repeated_evenly_are_refused() -> None:
    with pytest.raises(InputError, match="must divide kv_heads = 6, or be a multiple of it"):
        replace(TINY, heads=12, kv_heads=6).shard(4)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("layers", 0, "model tiny: layers: must be a whole number, 1 or more, got 0"),
        ("hidden_size", "wide", "model tiny: hidden_size: must be a number, got 'wide'"),
        ("kv_heads", 3, "kv_heads: must divide the 4 heads, got 3"),
        ("head_dim", 15, "head_dim: must be even with rotary positions, got 15"),
        ("gated_mlp", "yes", "gated_mlp: must be true or false, got 'yes'"),
        ("positions", "rope", "positions: must be rotary or alibi or learned, got 'rope'"),
        ("norm", "batch", "norm: must be rms or layer, got 'batch'"),
    ],
)
def test_nonsense_is_refused_by_name(field: str, value: Any, message: str) -> None:
    fields: dict[str, Any] = asdict(TINY) | {field: value}
    with pytest.raises(InputError, match=message):
        Shape(**fields)


def test_a_shape_is_taken_from_anything_with_its_fields() -> None:
    assert Shape.of(SimpleNamespace(**asdict(TINY), title="Tiny", parameters=1e6)) == TINY
    fields = asdict(TINY)
    del fields["intermediate_size"]
    with pytest.raises(InputError, match="model tiny: intermediate_size: is missing"):
        Shape.of(SimpleNamespace(**fields))


def test_a_file_gives_its_shape_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "shape.yaml"
    path.write_text(yaml.safe_dump(asdict(TINY) | {"title": "Tiny", "sources": ["a test"]}))
    assert read_shape(path) == TINY
    for content, message in (
        ("", "must be a YAML mapping"),
        ("[1, 2]", "must be a YAML mapping"),
        ("name: x\n  layers: 3", "line 2: is not a YAML text file"),
        ("name: x\nlayer: 3", "layers: is missing; must have name, layers, hidden_size"),
        (yaml.safe_dump(asdict(TINY) | {"heads": -4}), "shape.yaml: model tiny: heads: must be a whole number"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_shape(path)
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read: No such file"):
        read_shape(tmp_path / "none.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a YAML text file"):
        read_shape(path)
