"""Share of a model that one GPU of a tensor-parallel replica holds, and the shape on which its times depend."""

import math
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.units import parse_positive, parse_whole, quoted

SHAPE: Final = (
    *("name", "layers", "hidden_size", "heads", "kv_heads", "head_dim", "intermediate_size", "vocab_size"),
    *("gated_mlp", "positions", "norm"),
)
"""Fields of a model on which the time of an iteration depends. Biases are left out: they add no matrix product."""


def shape_of(model: ModelArchitecture) -> dict[str, Any]:
    """Shape of a model, by field."""
    return {field: getattr(model, field) for field in SHAPE}


@dataclass(frozen=True, slots=True)
class Shard:
    """Share of one GPU of a replica in every layer, the embedding and the LM head.

    Matrices are split as in Megatron-LM (Shoeybi et al., 2019, arXiv 1909.08053, section 3): query heads and
    the MLP's width by columns, the output of either by rows, the vocabulary by rows. KV heads are split while there
    are enough, then repeated. ``rank`` is the number of the GPU.
    """

    shape: ModelArchitecture
    tensor_parallel: int
    rank: int
    heads: int
    kv_heads: int
    intermediate_size: int
    vocab_size: int

    @classmethod
    def of(cls, shape: ModelArchitecture, tensor_parallel: int, rank: int = 0) -> Self:
        """Share of GPU ``rank`` of ``tensor_parallel``."""
        gpus = parse_whole(tensor_parallel, "tensor_parallel")
        what = f"model {shape.name}: tensor_parallel {gpus}"
        for field in ("heads", "intermediate_size"):
            if getattr(shape, field) % gpus:
                raise InputError(f"{what}: must divide {field} = {getattr(shape, field)}")
        if shape.positions == "rotary" and shape.head_dim % 2:
            raise InputError(f"model {shape.name}: head_dim: must be even with rotary positions, got {shape.head_dim}")
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

        >>> from provisioner.specs.catalog import model
        >>> whole = Shard.of(model("llama2-70b"), 1)
        >>> whole.layer_parameters * 80 + whole.ends_parameters(0)  # published: 68.98 billion
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


def read_shape(path: Path) -> ModelArchitecture:
    """Model of a YAML file, such as one of ``hardware_specs/models``, by PyYAML alone; errors name file and field."""
    import yaml

    text = read_text(path, kind="YAML text file")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        raise InputError(f"{path}:{where} is not a YAML text file") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a YAML mapping of fields to values")
    values: dict[str, Any] = {}
    for field in fields(ModelArchitecture):
        value = content.get(field.name)
        if value is not None and value != field.default:
            values[field.name] = _checked(field.type, value, f"{path}: {field.name}")
        elif field.default is MISSING:
            raise InputError(f"{path}: {field.name}: is missing; must have {', '.join(SHAPE)} and the rest of a model")
    try:
        return ModelArchitecture(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _checked(kind: Any, value: Any, what: str) -> Any:
    """Value of a field of a type, as a file states it."""
    if kind in (int, float, float | None):
        return parse_whole(value, what) if kind is int else parse_positive(value, what)
    if kind is bool and not isinstance(value, bool):
        raise InputError(f"{what}: must be true or false, got {quoted(value)}")
    return tuple(value) if isinstance(value, list) else value
