"""Times of single operators on one GPU: matrix products, attention, all-reduce and element-wise work.

    time = max(FLOP / peak, bytes / bandwidth) / utilisation

The utilisation comes from a table over the problem's size, derived by ``hardware_specs/derive_operators.py``. A GPU or
an operator without one gets an estimate from the measured GPUs (``Borrowed``), named in ``Operators.estimated``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from itertools import product
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provisioner.errors import InputError, UnknownNameError
from provisioner.files import refusing
from provisioner.specs.catalog import engine as shipped_engine
from provisioner.specs.kernels import KINDS, Preference, Source, folder, preferred, source_of, table_files
from provisioner.specs.model import DTYPE_BYTES, ON_SOME_GPUS, NumberType
from provisioner.specs.units import parse_positive, unit_of

Floats = NDArray[np.float64]
ACTIVATION_BYTES: Final = 2  # bytes of one activation: bf16 between operators, whatever the weights

MIN_KERNEL_S: Final = 1.65e-6
"""Shortest time of any kernel, in s: the shortest of all measured rows (a GEMM on the L40S)."""

SMALLEST: Final[Mapping[str, Mapping[str, float]]] = {
    "gemm": {"m": 1, "n": 128, "k": 128},
    "prompt_attention": {"tokens": 16, "sequence_heads": 1, "heads_per_kv_head": 1},
    "decode_attention": {"context_tokens": 64, "batch": 1, "kv_heads": 1, "heads_per_kv_head": 1},
    "all_reduce": {"gpus": 2, "bytes": 1024},
    "elementwise": {"bytes": 1024},
}
"""Smallest problem of each operator's tables, by axis; a smaller problem takes the same time."""

AXES: Final[Mapping[str, tuple[str, ...]]] = {operator: tuple(sizes) for operator, sizes in SMALLEST.items()}
"""Axes of each operator's table, in their order."""


@dataclass(frozen=True, slots=True)
class GpuLimits:
    """Physical limits of one GPU: dense peaks in FLOP/s, memory and link bandwidth in bytes/s.

    ``fp8_flops`` and ``fp4_flops`` are 0 for a GPU without such arithmetic: fp8 weights are read as one byte each and
    computed in bf16.
    ``link_bytes_per_s`` is to other GPUs of the machine in one direction, half of the NVLink bandwidth in datasheets.
    ``link`` is ``pcie`` if it goes through the host; ``same_chip_as`` is the key of a GPU with the same chip, if any.

    >>> GpuLimits("a100", 312e12, 0, 2039e9, 300e9).flops("fp8")
    312000000000000.0
    """

    name: str
    bf16_flops: float
    fp8_flops: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    link: Literal["nvlink", "pcie"] = "nvlink"
    same_chip_as: str = ""
    fp4_flops: float = 0.0

    def __post_init__(self) -> None:
        for name in ("bf16_flops", "memory_bytes_per_s", "link_bytes_per_s"):
            parse_positive(getattr(self, name), f"GPU {self.name}: {name}", unit_of(name) or "FLOP/s")
        for name in ("fp8_flops", "fp4_flops"):
            if not 0 <= (flops := getattr(self, name)) < float("inf"):
                raise InputError(f"GPU {self.name}: {name}: must be 0 (none) or above, got {flops}")
        if self.link not in ("nvlink", "pcie"):
            raise InputError(f"GPU {self.name}: link: must be nvlink or pcie, got {self.link!r}")

    def flops(self, kind: str) -> float:
        """Dense peak in FLOP/s for a number type; the bf16 peak for one whose arithmetic a GPU lacks."""
        return float({"bf16": 0.0, "nvfp4": self.fp4_flops}.get(kind, self.fp8_flops) or self.bf16_flops)


def _floats(*values: ArrayLike) -> list[Floats]:
    return [np.asarray(value, dtype=np.float64) for value in values]


def gemm_limit_s(gpu: GpuLimits, kind: str, m: ArrayLike, n: ArrayLike, k: ArrayLike) -> Floats:
    """Physical limit of (m, k) x (k, n), in s: max(2 m n k / peak, bytes / bandwidth); broadcast.

    Bytes count both inputs in their type and the bf16 result.
    """
    rows, columns, depth = _floats(m, n, k)
    size = DTYPE_BYTES[kind] * depth * (rows + columns) + ACTIVATION_BYTES * rows * columns
    return np.maximum(2 * rows * columns * depth / gpu.flops(kind), size / gpu.memory_bytes_per_s)


def prompt_attention_limit_s(
    gpu: GpuLimits, tokens: ArrayLike, batch: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike, head_dim: ArrayLike
) -> Floats:
    """Physical limit of causal attention of whole prompts, in s; broadcast.

    A token attends to itself and to all tokens before it: 4 x head_dim FLOP per head and pair of tokens.
    """
    new, sequences, queries, keys, dimension = _floats(tokens, batch, heads, kv_heads, head_dim)
    of_queries, of_keys = queries * dimension, keys * dimension
    pairs = sequences * new * ((new + 1) / 2)
    size = ACTIVATION_BYTES * sequences * 2 * (new * of_queries + new * of_keys)
    return np.maximum(4 * pairs * of_queries / gpu.flops("bf16"), size / gpu.memory_bytes_per_s)


def decode_attention_limit_s(
    gpu: GpuLimits,
    kind: str,
    batch: ArrayLike,
    context_tokens: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
) -> Floats:
    """Physical limit of attention of one new token per sequence, each with ``context_tokens``, in s; broadcast.

    Bytes count the KV cache in its type, and queries and results in bf16.
    """
    sequences, context, queries, keys, dimension = _floats(batch, context_tokens, heads, kv_heads, head_dim)
    of_queries, of_keys = queries * dimension, keys * dimension
    size = sequences * (2 * DTYPE_BYTES[kind] * context * of_keys + 2 * ACTIVATION_BYTES * of_queries)
    flop = 4 * sequences * context * of_queries
    return np.maximum(flop / gpu.flops("bf16"), size / gpu.memory_bytes_per_s)


def all_reduce_limit_s(gpu: GpuLimits, size_bytes: ArrayLike) -> Floats:
    """Physical limit of a sum of ``size_bytes`` over several GPUs, in s: bytes / link, any shape.

    A switch that adds up the parts reaches this limit. Without one, g GPUs need 2 (g - 1) / g times this time.
    """
    return np.asarray(size_bytes, dtype=np.float64) / gpu.link_bytes_per_s


@dataclass(frozen=True, slots=True, eq=False)
class GridTable:
    """Utilisation over a full grid of sizes, interpolated linearly in logarithms, constant outside.

    ``axes`` has one rising array of sizes above 0 per dimension, ``utilisation`` their shape. ``source`` is the
    software that was measured.

    >>> table = GridTable((np.array([1.0, 4.0]),), np.array([0.1, 0.4]))
    >>> [round(float(u), 3) for u in table([0.5, 1, 2, 4, 9])]
    [0.1, 0.1, 0.2, 0.4, 0.4]
    """

    axes: tuple[Floats, ...]
    utilisation: Floats
    source: Source = ("", "")
    _log: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.utilisation.shape != tuple(axis.size for axis in self.axes):
            raise InputError("operator table: must have a utilisation for each combination of sizes")
        if any(not (axis[0] > 0 and bool((np.diff(axis) > 0).all())) for axis in self.axes):
            raise InputError("operator table: sizes must be above 0 and rise")
        if not bool((self.utilisation > 0).all()):
            raise InputError("operator table: utilisation must be above 0")
        object.__setattr__(self, "_log", np.log(self.utilisation))

    def __call__(self, *sizes: ArrayLike) -> Floats:
        """Utilisation at ``sizes``, one argument per axis; broadcast."""
        at = np.broadcast_arrays(*_floats(*sizes))
        total = np.zeros(at[0].shape)
        for corner in product(*map(_neighbours, self.axes, at)):
            index, weights = zip(*corner, strict=True)
            total += prod(weights) * self._log[index]
        return np.exp(total)


def _neighbours(axis: Floats, size: Floats) -> tuple[tuple[NDArray[np.intp], Floats], ...]:
    """Index and weight of the nodes below and above each size; the weights are shares of the logarithms' distance."""
    position = np.interp(np.log(size), np.log(axis), np.arange(axis.size, dtype=np.float64))
    low = np.minimum(position.astype(np.intp), max(axis.size - 2, 0))
    share = position - low
    return (low, 1 - share), (np.minimum(low + 1, axis.size - 1), share)


Utilisation = Callable[..., Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Operators:
    """Operator times of one GPU.

    ``tables`` maps (operator, kind) to the utilisation as a function of the operator's ``AXES``;
    ``estimated`` names the operators whose utilisation was not measured on this GPU.

    >>> h100 = load_operators("h100-sxm-80gb")
    >>> product_s = float(h100.gemm_s(4096, 8192, 8192))     # 0.55 TFLOP at 989 TFLOP/s take 0.56 ms at least
    >>> 0.56e-3 < product_s < 0.9e-3
    True
    """

    limits: GpuLimits
    tables: Mapping[tuple[str, str], Utilisation]
    estimated: tuple[str, ...] = ()

    @property
    def sources(self) -> dict[tuple[str, str], Source]:
        """Software that each (operator, kind) was measured with on this GPU; estimated ones are left out.

        >>> load_operators("h100-sxm-80gb").sources["gemm", "bf16"]
        ('vllm', '0.19.0')
        """
        return {key: table.source for key, table in self.tables.items() if isinstance(table, GridTable)}

    def _time_s(self, operator: str, kind: str, work: ArrayLike, limit_s: Floats, *sizes: Floats) -> Floats:
        """Limit over utilisation, at least the shortest kernel; 0 without work; ``InputError`` without a table."""
        table = self.tables.get((operator, kind))
        if table is None:
            raise InputError(f"no table of {operator} in {kind} is taken on {self.limits.name}")
        time_s = np.maximum(limit_s / table(*sizes), MIN_KERNEL_S)
        return np.where(np.asarray(work) > 0, time_s, 0.0)

    def gemm_s(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, kind: NumberType = "bf16") -> Floats:
        """Time of (m, k) x (k, n) with weights of a number type, in s; broadcast; 0 without rows."""
        sizes = _at_least("gemm", m, n, k)
        return self._time_s("gemm", kind, m, gemm_limit_s(self.limits, kind, *sizes), *sizes)

    def prompt_attention_s(
        self, tokens: ArrayLike, batch: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike, head_dim: ArrayLike = 128
    ) -> Floats:
        """Time of causal attention of ``batch`` prompts of ``tokens`` each, in s; broadcast."""
        new, sequences, queries, keys = _floats(tokens, batch, heads, kv_heads)
        sizes = _at_least("prompt_attention", new, sequences * queries, queries / keys)
        limit_s = prompt_attention_limit_s(self.limits, sizes[0], batch, heads, kv_heads, head_dim)
        return self._time_s("prompt_attention", "bf16", new * sequences, limit_s, *sizes)

    def decode_attention_s(
        self,
        batch: ArrayLike,
        context_tokens_per_sequence: ArrayLike,
        heads: ArrayLike,
        kv_heads: ArrayLike,
        head_dim: ArrayLike = 128,
        kv_kind: NumberType = "bf16",
    ) -> Floats:
        """Time of attention of one new token in each of ``batch`` sequences, in s; broadcast.

        More than 8 KV heads on a GPU count as a larger batch of 8: the kernels spread sequences and KV heads alike.
        """
        sequences, context, queries, keys = _floats(batch, context_tokens_per_sequence, heads, kv_heads)
        counted = np.minimum(keys, MAX_KV_HEADS)
        sizes = _at_least("decode_attention", context, sequences * keys / counted, counted, queries / keys)
        limit_s = decode_attention_limit_s(self.limits, kv_kind, sequences, sizes[0], heads, kv_heads, head_dim)
        return self._time_s("decode_attention", kv_kind, batch, limit_s, *sizes)

    def all_reduce_s(
        self, gpus: ArrayLike, size_bytes: ArrayLike, launch: Literal["graph", "eager"] = "graph"
    ) -> Floats:
        """Time of summing ``size_bytes`` over ``gpus`` GPUs of one machine, in s; broadcast; 0 for one GPU."""
        sizes = _at_least("all_reduce", gpus, size_bytes)
        several = (np.asarray(gpus) > 1) & (np.asarray(size_bytes) > 0)
        return self._time_s("all_reduce", launch, several, all_reduce_limit_s(self.limits, sizes[1]), *sizes)

    def elementwise_s(self, size_bytes: ArrayLike, kind: Literal["norm", "activation", "rotary"] = "norm") -> Floats:
        """Time of work that reads and writes ``size_bytes`` in total, in s; any shape."""
        (size,) = _at_least("elementwise", size_bytes)
        return self._time_s("elementwise", kind, size_bytes, size / self.limits.memory_bytes_per_s, size)


def _at_least(operator: str, *sizes: ArrayLike) -> list[Floats]:
    return [np.maximum(size, least) for size, least in zip(_floats(*sizes), SMALLEST[operator].values(), strict=True)]


MAX_KV_HEADS: Final = 8  # KV heads on one GPU up to which decode attention was measured


def _name(path: Path) -> str:
    inside = path.name if path.parent == folder() else f"{path.parent.name}/{path.name}"
    return f"hardware_specs/operators/{inside}"


def _lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (file and row, line) of a CSV file without quotes, after checking its first line."""
    name = _name(path)
    with refusing(name, "CSV file"):
        first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if first != ",".join(columns):
        raise InputError(f"{name}: row 1: must be {','.join(columns)}")
    for number, line in enumerate(lines, start=2):
        if line.count(",") != len(columns) - 1:
            raise InputError(f"{name}: row {number}: must have {len(columns)} fields, has {line.count(',') + 1}")
        yield f"{name}: row {number}", line


LIMIT_COLUMNS: Final = ("gpu", *(each.name for each in fields(GpuLimits)[1:]))


@lru_cache(maxsize=1)
def gpu_limits() -> Mapping[str, GpuLimits]:
    """Physical limits of the GPUs with tables, by key."""
    gpus: dict[str, GpuLimits] = {}
    for where, line in _lines(folder() / "gpus.csv", LIMIT_COLUMNS):
        name, *peaks, link, same, fp4 = line.split(",")
        try:
            bf16, fp8, memory, between, narrow = map(float, (*peaks, fp4))
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
        gpus[name] = GpuLimits(name, bf16, fp8, memory, between, cast(Literal["nvlink", "pcie"], link), same, narrow)
    return gpus


def read_table(path: Path, operator: str) -> GridTable:
    """Table of one operator and kind from its CSV file, ``ENGINE-VERSION__OPERATOR__KIND.csv`` in the GPU's folder.

    ``InputError`` names file and row of a value that is not above 0, and of rows that are not a full grid.
    """
    name = _name(path)
    axes = AXES[operator]
    rows = [line for _, line in _lines(path, (*axes, "utilisation"))]
    if not rows:
        raise InputError(f"{name}: has no rows")
    try:
        numbers = np.loadtxt(rows, delimiter=",", dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    wrong = ~(np.isfinite(numbers) & (numbers > 0)).all(axis=1)
    if wrong.any():
        raise InputError(f"{name}: numbers must be above 0, got {rows[int(np.argmax(wrong))]}")
    nodes, places = zip(*(np.unique(column, return_inverse=True) for column in numbers.T[:-1]), strict=True)
    values = np.full([axis.size for axis in nodes], np.nan)
    values[places] = numbers[:, -1]
    if len(numbers) != values.size or np.isnan(values).any():
        raise InputError(f"{name}: must have each combination of {', '.join(axes)} once")
    return GridTable(nodes, values, source_of(path))


Measured = tuple[GpuLimits, Mapping[tuple[str, str], GridTable]]  # limits and tables of a measured GPU


def usual_tables() -> Preference:
    """Tables that are taken unless others are preferred: those of the engine of version 0.1."""
    return shipped_engine("provisioner-0.1").preference


@lru_cache(maxsize=64)
def measured(gpu: str, preference: Preference | None = None) -> Measured:
    """Limits and preferred tables of a measured GPU; ``UnknownNameError`` for any other GPU or software."""
    if gpu not in gpu_limits():
        raise UnknownNameError("GPU with operator tables", gpu, gpu_limits())
    preference = usual_tables() if preference is None else preference
    for take in preference:
        take.check()
    tables = {}
    for (name, operator, kind), files in table_files().items():
        if name == gpu and (source := preferred(files, preference, gpu, operator, kind)):
            tables[operator, kind] = _cached(files[source], operator)
    return gpu_limits()[gpu], tables


_cached = lru_cache(maxsize=512)(read_table)


@lru_cache(maxsize=64)
def load_operators(gpu: str, preference: Preference | None = None) -> Operators:
    """Operators of a GPU from its preferred tables; those without one are estimated, if possible from its chip.

    >>> load_operators("b200-sxm-180gb").limits.link
    'nvlink'
    """
    limits, tables = measured(gpu, preference)
    lookup = partial(measured, preference=preference)
    return estimate_operators(limits, own=tables, like=limits.same_chip_as or None, lookup=lookup)


def estimate_operators(
    limits: GpuLimits,
    *,
    own: Mapping[tuple[str, str], Utilisation] = MappingProxyType({}),
    like: str | None = None,
    references: Iterable[str] | None = None,
    lookup: Callable[[str], Measured] = measured,
) -> Operators:
    """Operators of a GPU from its limits: the utilisation of measured GPUs at a problem that takes them as long.

    ``own`` tables are used unchanged. A missing table is taken from the measured GPU ``like`` if it has it, else from
    the mean of ``references``: by default all measured GPUs but this one, whose tables are read when first needed.
    """
    names = tuple(name for name in (gpu_limits() if references is None else references) if name != limits.name)
    wanted = [(operator, kind) for operator, kinds in KINDS.items() for kind in kinds if kind not in ON_SOME_GPUS]
    missing = [key for key in wanted if key not in own]
    borrowed = {(operator, kind): Borrowed(limits, operator, kind, like, names, lookup) for operator, kind in missing}
    estimated = (operator if len(KINDS[operator]) == 1 else f"{operator} {kind}" for operator, kind in missing)
    return Operators(limits, {**own, **borrowed}, tuple(estimated))


@dataclass(frozen=True, slots=True, eq=False)
class Borrowed:
    """Utilisation of an operator on a GPU where it was not measured: the geometric mean over measured GPUs.

    Each measured GPU is read at the problem that keeps it busy for as long: with more columns and depth of a product,
    more sequences of attention, more bytes elsewhere. An all-reduce is read from GPUs with the same kind of link only.
    """

    limits: GpuLimits
    operator: str
    kind: str
    like: str | None
    names: tuple[str, ...]
    lookup: Callable[[str], Measured]

    @property
    def references(self) -> list[tuple[GpuLimits, GridTable]]:
        """Measured GPUs with a table of this operator: ``like`` if it has one, else all; ``InputError`` without any."""
        key = (self.operator, self.kind)
        for names in ((self.like,) if self.like else (), self.names):
            gpus = [(limits, tables[key]) for limits, tables in map(self.lookup, names) if key in tables]
            if self.operator == "all_reduce":
                gpus = [(limits, table) for limits, table in gpus if limits.link == self.limits.link]
            if gpus:
                return gpus
        link = f" over {self.limits.link}" if self.operator == "all_reduce" else ""
        raise InputError(f"no measured GPU has a table of {self.operator}{link} in {self.kind}")

    def __call__(self, *sizes: ArrayLike) -> Floats:
        """Utilisation at ``sizes``, one argument per axis of the operator; broadcast."""
        first, *rest = _floats(*sizes)
        here_s = self._limit_s(self.limits, first, *rest)
        logarithms = []
        for other, table in self.references:
            longer = here_s / self._limit_s(other, first, *rest)
            if self.operator == "gemm":
                as_long = [first, *(size * longer**0.5 for size in rest)]
            else:
                as_long = [first, rest[0] * longer, *rest[1:]] if rest else [first * longer]
            logarithms.append(np.log(table(*as_long)))
        return np.exp(np.asarray(sum(logarithms), dtype=np.float64) / len(logarithms))

    def _limit_s(self, gpu: GpuLimits, *sizes: Floats) -> Floats:
        """Physical limit on a GPU in s, at sizes by the operator's ``AXES`` and heads of dimension 128."""
        if self.operator == "gemm":
            return gemm_limit_s(gpu, self.kind, *sizes)
        if self.operator == "prompt_attention":
            tokens, heads, per_key = sizes
            return prompt_attention_limit_s(gpu, tokens, 1, heads, heads / per_key, 128)
        if self.operator == "decode_attention":
            context, batch, kv_heads, per_key = sizes
            return decode_attention_limit_s(gpu, self.kind, batch, context, kv_heads * per_key, kv_heads, 128)
        return sizes[-1] / (gpu.link_bytes_per_s if self.operator == "all_reduce" else gpu.memory_bytes_per_s)
