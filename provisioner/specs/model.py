"""Models: the architecture of an LLM, as far as latency, memory and transfer depend on it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from provisioner.errors import InputError
from provisioner.specs.units import check_plausible, quoted

PLAUSIBLE_RANGES = {
    "layers": (1, 1000),
    "hidden_size": (16, 1_000_000),
    "heads": (1, 10_000),
    "kv_heads": (1, 10_000),
    "head_dim": (1, 4096),
    "intermediate_size": (16, 10_000_000),
    "vocab_size": (16, 10_000_000),
    "parameters": (1e4, 1e14),
    "trained_context_tokens": (16, 1e9),
}

NumberType = Literal[
    "bf16", "fp8", "fp8_block", "int8", "mxfp8", "w8a16", "w4a16", "w4a8", "nvfp4", "nvfp4a16", "mxfp4"
]

DTYPE_BYTES: Final[Mapping[str, float]] = {"bf16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "nvfp4": 0.5625}
"""Bytes of the number types whose kernels were measured: ``bf16`` stands for both 16-bit floating-point types, whose
speed is the same, ``fp8_block`` has a scale per 128 x 128 weights, ``nvfp4`` one of 8 bits per 16 weights. A model in
any other type states its bytes, and has curves only if its user measured them."""

ON_SOME_GPUS: Final = ("fp8_block", "nvfp4")
"""Number types of products that are derived on GPUs where they were measured, and estimated on no other: the kernels
differ from chip to chip."""

KV_TYPES: Final = ("bf16", "fp8")  # of a KV cache

POSITIONS: Final = ("rotary", "alibi", "learned")
NORMS: Final = ("rms", "layer")

PARAMETER_TOLERANCE: Final = 0.02
"""Largest relative difference between the stated number of parameters and the shape's.

Biases and the like are not counted: BLOOM-176B's shape gives 0.01 % less than is published.
"""


@dataclass(frozen=True, slots=True)
class ModelArchitecture:
    """A dense decoder-only transformer, with grouped-query attention if ``kv_heads < heads``.

    ``gated_mlp`` says whether the MLP has three matrices (SwiGLU) or two. ``dtype`` is the number type of the linear
    layers' weights and their inputs, ``kv_dtype`` the number type of the KV cache; embedding and head have 16 bits, and
    so has ``share_in_16_bits`` of the layers. ``bytes_per_weight`` are those of the other weights with their scales.
    ``aliases`` are the model's names on the Hugging Face hub.

    >>> from provisioner.specs.catalog import model
    >>> model("llama2-70b").kv_bytes_per_token, model("bloom-176b").kv_bytes_per_token
    (327680.0, 4014080.0)
    """

    name: str
    title: str
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    gated_mlp: bool
    vocab_size: int
    positions: str
    norm: str
    parameters: float
    trained_context_tokens: int
    tied_embeddings: bool = False
    dtype: NumberType = "bf16"
    kv_dtype: NumberType = "bf16"
    bytes_per_weight: float | None = None
    share_in_16_bits: float = 0.0
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        what = f"model {self.name}"
        check_plausible(what, self, PLAUSIBLE_RANGES)
        if self.heads % self.kv_heads:
            raise InputError(f"{what}: kv_heads: must divide the {self.heads} heads, got {self.kv_heads}")
        allowed = {"dtype": get_args(NumberType), "kv_dtype": KV_TYPES, "positions": POSITIONS, "norm": NORMS}
        for field, known in allowed.items():
            if getattr(self, field) not in known:
                raise InputError(f"{what}: {field}: must be {' or '.join(known)}, got {quoted(getattr(self, field))}")
        if not (0.0 <= self.share_in_16_bits <= 1.0 and 0.1 <= self.layer_bytes_per_weight <= 4.0):
            raise InputError(f"{what}: bytes_per_weight: must be 0.1 to 4 for {self.dtype}, share_in_16_bits 0 to 1")
        if abs(self.parameters / self.shape_parameters - 1.0) > PARAMETER_TOLERANCE:
            raise InputError(
                f"{what}: parameters: must be within {PARAMETER_TOLERANCE:.0%} of the {self.shape_parameters:.4g} that "
                f"the layers, embedding and head have, got {self.parameters:.4g}"
            )

    @property
    def layer_parameters(self) -> int:
        """Parameters of the matrices of one layer.

        Attention: hidden x heads x head dimension for queries and output, hidden x KV heads x head dimension for keys
        and values. MLP: hidden x intermediate size, three times if gated, else twice.
        """
        attention = 2 * self.hidden_size * (self.heads + self.kv_heads) * self.head_dim
        return attention + (3 if self.gated_mlp else 2) * self.hidden_size * self.intermediate_size

    @property
    def shape_parameters(self) -> int:
        """Parameters that the shape gives: matrices of the layers, embedding, head unless tied; no norms or biases."""
        embedding = self.vocab_size * self.hidden_size
        return (1 if self.tied_embeddings else 2) * embedding + self.layers * self.layer_parameters

    @property
    def weight_bytes(self) -> float:
        """Memory of the weights in bytes: 2 per parameter, for the layers' as many as their number types have."""
        layers = self.layers * self.layer_parameters
        return layers * self.layer_bytes_per_weight + (self.parameters - layers) * DTYPE_BYTES["bf16"]

    @property
    def layer_bytes_per_weight(self) -> float:
        """Mean bytes of a weight of the layers, with its scales."""
        narrow = self.bytes_per_weight or DTYPE_BYTES.get(self.dtype, 0.0)
        return narrow + self.share_in_16_bits * (DTYPE_BYTES["bf16"] - narrow)

    @property
    def kv_bytes_per_token(self) -> float:
        """KV cache of one token in bytes, over all layers.

        2 (key and value) x layers x KV heads x head dimension x bytes per element: with grouped-query
        attention the KV heads count, not the query heads.
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * DTYPE_BYTES[self.kv_dtype]

    def in_dtype(self, dtype: NumberType, kv_dtype: NumberType | None = None) -> "ModelArchitecture":
        """Model with another number type of its layers' weights, and of its KV cache if ``kv_dtype`` is given.

        >>> from provisioner.specs.catalog import model
        >>> model("llama2-70b").in_dtype("fp8").weight_bytes / 1e9
        69.50895872
        """
        model = self if dtype == self.dtype else replace(self, dtype=dtype, bytes_per_weight=None, share_in_16_bits=0.0)
        return replace(model, kv_dtype=self.kv_dtype if kv_dtype is None else kv_dtype)
