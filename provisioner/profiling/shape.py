"""Shape of a decoder-only transformer, and the share of it that one GPU of a tensor-parallel replica holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from provisioner.errors import InputError
from provisioner.specs.units import parse_whole, quoted

Positions = Literal["rotary", "alibi", "learned"]
Norm = Literal["rms", "layer"]

_COUNTS: Final = (
    "layers",
    "hidden_size",
    "heads",
    "kv_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a dense decoder-only transformer without its weights, on which the time of a layer depends.

    ``gated_mlp`` says whether the MLP has a gate (three matrices) or not (two). Biases of linear layers are left
    out: they add no matrix product.
    """

    name: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    gated_mlp: bool
    positions: Positions
    norm: Norm

    def __post_init__(self) -> None:
        """Refuse a shape that cannot be built, naming model, field and value."""
        what = f"model {self.name}"
        for field in _COUNTS:
            parse_whole(getattr(self, field), f"{what}: {field}")
        if not isinstance(self.gated_mlp, bool):
            raise InputError(f"{what}: gated_mlp: must be true or false, got {quoted(self.gated_mlp)}")
        for field, known in (("positions", get_args(Positions)), ("norm", get_args(Norm))):
            value = getattr(self, field)
            if value not in known:
                raise InputError(f"{what}: {field}: must be {' or '.join(known)}, got {quoted(value)}")
        if self.heads % self.kv_heads:
            raise InputError(f"{what}: kv_heads: must divide the {self.heads} heads, got {self.kv_heads}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise InputError(f"{what}: head_dim: must be even with rotary positions, got {self.head_dim}")

    @classmethod
    def of(cls, model: object) -> Shape:
        """Shape of any object that has its fields as attributes, such as a model; ``InputError`` if one is missing."""
        name = getattr(model, "name", type(model).__name__)
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = getattr(model, field.name, None)
            if value is None:
                raise InputError(f"model {name}: {field.name}: is missing, and without it no layer can be built")
            values[field.name] = value
        return cls(**values)

    def shard(self, tensor_parallel: int) -> Shard:
        """One GPU's share at a tensor parallelism; ``InputError`` if heads or MLP cannot be divided."""
        return Shard.of(self, tensor_parallel)


@dataclass(frozen=True, slots=True)
class Shard:
    """Share of one GPU of a replica in every layer, the embedding and the LM head.

    Matrices are split as in Megatron-LM (Shoeybi et al., 2019, arXiv 1909.08053, section 3): query heads and
    the MLP's width by columns, the output of either by rows, the vocabulary by rows. KV heads are split while there
    are enough, then repeated. ``rank`` is the number of the GPU.
    """

    shape: Shape
    tensor_parallel: int
    rank: int
    heads: int
    kv_heads: int
    intermediate_size: int
    vocab_size: int

    @classmethod
    def of(cls, shape: Shape, tensor_parallel: int, rank: int = 0) -> Shard:
        """Share of GPU ``rank`` of ``tensor_parallel``."""
        gpus = parse_whole(tensor_parallel, "tensor_parallel")
        what = f"model {shape.name}: tensor_parallel {gpus}"
        for field in ("heads", "intermediate_size"):
            if getattr(shape, field) % gpus:
                raise InputError(f"{what}: must divide {field} = {getattr(shape, field)}")
        if shape.kv_heads % gpus and gpus % shape.kv_heads:
            raise InputError(f"{what}: must divide kv_heads = {shape.kv_heads}, or be a multiple of it")
        return cls(
            shape=shape,
            tensor_parallel=gpus,
            rank=rank,
            heads=shape.heads // gpus,
            kv_heads=max(1, shape.kv_heads // gpus),
            intermediate_size=shape.intermediate_size // gpus,
            vocab_size=math.ceil(shape.vocab_size / gpus),
        )

    @property
    def up_width(self) -> int:
        """Columns of the MLP's first matrix: its width, twice with a gate."""
        return self.intermediate_size * (2 if self.shape.gated_mlp else 1)

    @property
    def qkv_width(self) -> int:
        """Columns of the projection to queries, keys and values."""
        return (self.heads + 2 * self.kv_heads) * self.shape.head_dim

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer: QKV, attention output, MLP, norms.

        >>> shape = Shape("llama2-70b", 80, 8192, 64, 8, 128, 28672, 32000, True, "rotary", "rms")
        >>> shape.shard(1).layer_parameters * 80 + shape.shard(1).ends_parameters(0)  # published: 68.98 billion
        68976648192
        """
        hidden = self.shape.hidden_size
        attention = hidden * (self.qkv_width + self.heads * self.shape.head_dim)
        mlp = hidden * (self.up_width + self.intermediate_size)
        return attention + mlp + 2 * self._norm_parameters

    def ends_parameters(self, longest_tokens: int) -> int:
        """Weights of embedding, LM head, last norm, and learned positions up to ``longest_tokens``."""
        hidden = self.shape.hidden_size
        learned = longest_tokens * hidden if self.shape.positions == "learned" else 0
        return 2 * self.vocab_size * hidden + self._norm_parameters + learned

    def kv_elements(self, tokens: int) -> int:
        """Elements of one layer's KV cache for ``tokens`` tokens: keys and values."""
        return 2 * self.kv_heads * self.shape.head_dim * tokens

    @property
    def _norm_parameters(self) -> int:
        return self.shape.hidden_size * (2 if self.shape.norm == "layer" else 1)


def read_shape(path: Path) -> Shape:
    """Shape in a YAML file, such as one of ``hardware_specs/models``; other fields are ignored.

    Raises ``InputError`` with file and field.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        raise InputError(f"{path}:{where} is not a YAML text file") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a YAML mapping of fields to values")
    wanted = [field.name for field in fields(Shape)]
    missing = [field for field in wanted if content.get(field) is None]
    if missing:
        raise InputError(f"{path}: {missing[0]}: is missing; must have {', '.join(wanted)}")
    try:
        return Shape(**{field: cast(Any, content[field]) for field in wanted})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
