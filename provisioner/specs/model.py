"""Models: the architecture of an LLM as far as memory and transfer need it."""

from dataclasses import dataclass

from provisioner.errors import InputError
from provisioner.specs.units import check_plausible, check_positive

PLAUSIBLE_RANGES = {
    "layers": (1, 1000),
    "hidden_size": (16, 1_000_000),
    "heads": (1, 10_000),
    "kv_heads": (1, 10_000),
    "head_dim": (1, 4096),
    "parameters": (1e6, 1e14),  # a value such as 70 is in billions
    "bytes_per_parameter": (0.1, 8),
    "bytes_per_kv_element": (0.1, 8),
    "trained_context_tokens": (16, 1e9),
}


@dataclass(frozen=True, slots=True)
class ModelArchitecture:
    """A dense decoder-only transformer, with grouped-query attention where ``kv_heads < heads``.

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
    parameters: float
    trained_context_tokens: int
    bytes_per_parameter: float = 2
    bytes_per_kv_element: float = 2
    sources: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        what = f"model {self.name}"
        numbers = {field: getattr(self, field) for field in PLAUSIBLE_RANGES}
        check_positive(what, **numbers)
        check_plausible(what, PLAUSIBLE_RANGES, **numbers)
        if self.heads % self.kv_heads:
            raise InputError(f"{what}: kv_heads: must divide the {self.heads} heads, got {self.kv_heads}")

    @property
    def weight_bytes(self) -> float:
        """Memory of the weights in bytes: parameters x bytes per parameter."""
        return self.parameters * self.bytes_per_parameter

    @property
    def kv_bytes_per_token(self) -> float:
        """KV cache of one token in bytes, over all layers.

        2 (key and value) x layers x KV heads x head dimension x bytes per element: with grouped-query
        attention the KV heads count, not the query heads.
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * self.bytes_per_kv_element
