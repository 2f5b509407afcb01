"""Derive the shipped operator tables from measured kernels.

    python hardware_specs/derive_operators.py AIC_KERNELS_FOLDER VIDUR_PROFILES_FOLDER [--out FOLDER] [--refused FILE]

AIC_KERNELS_FOLDER holds AIConfigurator's vLLM kernel times (``h100_sxm__gemm__vllm-0.19.0.parquet`` and so
on), VIDUR_PROFILES_FOLDER Vidur's profiles (``compute__h100__...__mlp.csv``, ``network__...``). Writes
``<gpu>__<operator>.csv``, ``gpus.csv`` and ``provenance.yaml``. The same sources give the same bytes.

A table holds utilisation (physical limit over measured time) at the nodes of a coarse grid, fitted to all
rows that pass the rules by least absolute deviations of the logarithm: no row of the source is in it. Rows that a
rule refuses are counted, with examples, in ``provenance.yaml``, and listed in full with ``--refused``. Needs the
package ``provisioner`` installed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import InputError, ProvisionerError
from provisioner.perf.derived import NO_OVERHEAD, iteration_s
from provisioner.perf.operators import (
    AXES,
    KINDS,
    LIMIT_COLUMNS,
    SMALLEST,
    GpuLimits,
    GridTable,
    Measured,
    Operators,
    all_reduce_limit_s,
    decode_attention_limit_s,
    estimate_operators,
    gemm_limit_s,
    prompt_attention_limit_s,
)
from provisioner.specs import catalog
from provisioner.specs.model import NumberType

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A measured GPU: its limits with their source, its L2 cache, and its names in the two sources."""

    limits: GpuLimits
    source: str
    aic: str = ""
    version: str = ""
    vidur: str = ""
    same_chip_as: str = ""


GPUS: Final = (
    Gpu(
        GpuLimits("a100-sxm-80gb", 312e12, 0.0, 2039e9, 300e9),
        "NVIDIA A100 datasheet: dense BF16 312 TFLOP/s, 80 GB SXM 2039 GB/s, NVLink 600 GB/s both ways; no FP8",
        "a100_sxm",
        "0.14.0",
        "a100",
    ),
    Gpu(
        GpuLimits("h100-sxm-80gb", 989.4e12, 1978.9e12, 3352e9, 450e9),
        "NVIDIA H100 SXM datasheet: dense BF16 989.4 and FP8 1978.9 TFLOP/s, 3352 GB/s, NVLink 900 GB/s both ways",
        "h100_sxm",
        "0.19.0",
        "h100",
    ),
    Gpu(
        GpuLimits("h200-sxm-141gb", 989.4e12, 1978.9e12, 4800e9, 450e9),
        "NVIDIA H200 SXM datasheet: dense BF16 989.4 and FP8 1978.9 TFLOP/s, 4800 GB/s, NVLink 900 GB/s both ways",
        "h200_sxm",
        "0.19.0",
        same_chip_as="h100-sxm-80gb",
    ),
    Gpu(
        GpuLimits("b200-sxm-180gb", 2250e12, 4500e12, 8000e9, 900e9),
        "NVIDIA DGX B200 datasheet, an eighth: dense BF16 18, FP8 36 PFLOP/s, 64 TB/s; NVLink 1800 GB/s both ways",
        "b200_sxm",
        "0.19.0",
    ),
    Gpu(
        GpuLimits("l40s-48gb", 362.05e12, 733e12, 864e9, 32e9, "pcie"),
        "NVIDIA L40S datasheet: dense BF16 362.05 and FP8 733 TFLOP/s, 864 GB/s, PCIe 4 x16 64 GB/s both ways",
        "l40s",
        "0.14.0",
    ),
    Gpu(
        GpuLimits("a40-48gb", 149.7e12, 0.0, 696e9, 56.25e9),
        "NVIDIA A40 datasheet: dense BF16 149.7 TFLOP/s, 696 GB/s, NVLink pair 112.5 GB/s both ways; no FP8",
        vidur="a40",
    ),
)
"""Measured GPUs; a link's bandwidth is one direction, half of the datasheet's value."""

NODES: Final[Mapping[str, tuple[tuple[float, ...], ...]]] = {
    "gemm": (
        (1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 32768),
        (128, 512, 1024, 2048, 4096, 8192, 16384, 65536),
        (128, 512, 1024, 2048, 4096, 8192, 16384, 65536),
    ),
    "prompt_attention": (
        (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
        (1, 2, 4, 8, 16, 32, 64, 128, 512, 2048),
        (1, 4, 16),
    ),
    "decode_attention": (
        (64, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536),
        (1, 4, 8, 16, 32, 64, 128, 256, 1024),
        (1, 2, 4, 8),
        (1, 4, 16),
    ),
    "all_reduce": ((2, 4, 8), tuple(float(4**i) for i in range(5, 16))),
    "elementwise": (tuple(float(4**i) for i in range(5, 16)),),
}
"""Nodes of each operator's grid, by ``operators.AXES``."""

FALL: Final = 1.5
"""Factor by which a row is slower than a larger problem from which it is refused: beyond the 30 % by which kernels
chosen for neighbouring sizes differ."""
SLOWER: Final = 1.25
"""Factor by which a row is slower than the same problem in a wider type or on a lesser GPU from which it takes the
other's time."""
LAUNCH_S: Final = 5e-6
"""Time of one more kernel launch with its quantisation, in s, which either comparison allows for."""
IMPOSSIBLE_SHARE: Final = 0.05
"""Share of rows beyond the arithmetic peak from which all rows of that kernel are refused."""
COLD_BYTES: Final = 256e6
"""Bytes beyond which no cache of these GPUs holds a kernel's operands (the largest is 126 MB)."""
SUSTAINED_QUANTILE: Final = 0.9
"""Quantile of the utilisation of memory-bound rows beyond ``COLD_BYTES`` that counts as sustained by the memory."""
SMOOTHNESS: Final = 0.03
"""Weight of a node's second differences against one row: it only fills nodes that few rows support."""
ROUNDS: Final = 12
"""Rounds of re-weighting from squares to absolute deviations."""


@dataclass(slots=True)
class Rows:
    """Rows of one operator and kind on one GPU: sizes by axis, time, limits, and the outcome of the rules."""

    gpu: str
    operator: str
    kind: str
    sizes: Floats  # (rows, axes)
    time_s: Floats
    limit_s: Floats
    compute_s: Floats
    bytes: Floats
    order: Floats  # sizes that all make the work larger, for the rule "slower than a larger problem"
    within: Floats  # what must be equal for that comparison
    used: NDArray[np.bool_] = field(init=False)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    listed: list[tuple[str, str, float]] = field(default_factory=list)  # rule, problem, by what factor

    def __post_init__(self) -> None:
        """Use all rows until a rule refuses them, except problems below the smallest of the tables."""
        self.used = np.asarray((self.sizes >= np.array(list(SMALLEST[self.operator].values()))).all(axis=1))

    @property
    def rows(self) -> int:
        """Rows of the source that are no smaller than the table's smallest problem."""
        return int((self.sizes >= np.array(list(SMALLEST[self.operator].values()))).all(axis=1).sum())

    @property
    def utilisation(self) -> Floats:
        """Physical limit over time."""
        return self.limit_s / self.time_s

    def refuse(self, rule: str, which: NDArray[np.bool_], ratio: Floats, replaced: bool = False) -> None:
        """Note rows that a rule refuses, with the worst as examples; ``replaced`` rows stay, with another time."""
        which = which & self.used
        if not which.any():
            return
        found = np.flatnonzero(which)[np.argsort(-ratio[which], kind="stable")]
        self.listed += [(rule, self.problem(i), float(ratio[i])) for i in found]
        self.rules[rule] = {
            "rows": int(which.sum()),
            "examples": [f"{problem}: {factor:.2g} times" for _, problem, factor in self.listed[-found.size :][:2]],
        }
        if not replaced:
            self.used &= ~which

    def problem(self, row: int) -> str:
        """Text of a row's sizes."""
        names = AXES[self.operator]
        return ", ".join(f"{name} {size:g}" for name, size in zip(names, self.sizes[row], strict=True))

    def bound(self, rule: str, other: Rows) -> None:
        """Use the time of other rows of the same problem for rows slower than ``SLOWER`` times this and a launch."""
        at: dict[tuple[float, ...], float] = {}
        for key, t, ok in zip(other.identity, other.time_s.tolist(), other.used, strict=True):
            if ok:
                at[key] = min(t, at.get(key, t))
        best = np.array([at.get(key, np.inf) for key in self.identity])
        slower = self.time_s > SLOWER * best + LAUNCH_S
        self.refuse(rule, slower, self.time_s / best, replaced=True)
        self.time_s = np.where(slower, best, self.time_s)

    @property
    def identity(self) -> list[tuple[float, ...]]:
        """Sizes in every respect, which identify a row's problem."""
        return [tuple(row) for row in np.column_stack([self.sizes, self.order]).tolist()]


def check(rows: Rows, wider: Rows | None = None, lesser: Rows | None = None) -> None:
    """Apply the rules to the rows, in order: beyond the limits, slower than a larger problem, than another row.

    ``wider`` are the rows of the same problems in a wider type, ``lesser`` the rows of the same chip with less
    memory bandwidth.
    """
    beyond = rows.compute_s / rows.time_s
    impossible = beyond > 1
    if impossible.mean() > IMPOSSIBLE_SHARE:
        rows.refuse("kernel with rows beyond the arithmetic peak", np.ones_like(impossible), beyond)
        return
    rows.refuse("beyond the arithmetic peak", impossible, beyond)
    memory_bound = rows.limit_s > rows.compute_s
    cold = memory_bound & (rows.bytes > COLD_BYTES) & (rows.utilisation <= 1)
    if cold.sum() >= 10:
        sustained = float(np.quantile(rows.utilisation[cold], SUSTAINED_QUANTILE))
        cached = memory_bound & (rows.utilisation > sustained)
        rows.refuse(
            "faster than memory sustains (operands in the cache): the sustained rate is used",
            cached & (rows.utilisation > 1),
            rows.utilisation,
            replaced=True,
        )
        rows.time_s = np.where(cached, rows.limit_s / sustained, rows.time_s)
    else:
        rows.refuse("beyond the memory bandwidth", rows.utilisation > 1, rows.utilisation)
    fastest = fastest_larger(rows)
    rows.refuse("slower than a larger problem", rows.time_s > FALL * fastest + LAUNCH_S, rows.time_s / fastest)
    if wider is not None:
        rows.bound("slower than a wider type: the wider type's time is used", wider)
    if lesser is not None:
        rows.bound("slower than the same chip with less memory bandwidth: that chip's time is used", lesser)


def fastest_larger(rows: Rows) -> Floats:
    """Shortest time among the used rows that are at least as large in every respect, itself included, in s."""
    result = rows.time_s.copy()
    for group in np.unique(rows.within, axis=0):
        inside = np.flatnonzero((rows.within == group).all(axis=1) & rows.used)
        if not inside.size:
            continue
        index = [np.unique(rows.order[inside, i], return_inverse=True) for i in range(rows.order.shape[1])]
        grid = np.full([values.size for values, _ in index], np.inf)
        place = tuple(position for _, position in index)
        np.minimum.at(grid, place, rows.time_s[inside])
        for axis in range(grid.ndim):
            grid = np.flip(np.minimum.accumulate(np.flip(grid, axis), axis), axis)
        result[inside] = grid[place]
    return result


def fit(nodes: Sequence[Sequence[float]], sizes: Floats, utilisation: Floats) -> GridTable:
    """Grid table nearest to the rows: least absolute deviations of the logarithm of utilisation.

    ``sizes`` (rows, axes), ``utilisation`` (rows,). Rows outside the grid count as on its edge.
    """
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    axes = tuple(np.array(axis, dtype=np.float64) for axis in nodes)
    design: Any = sparse.csr_matrix(np.ones((len(sizes), 1)))
    for axis, size in zip(axes, sizes.T, strict=True):
        design = _row_products(design, _hats(axis, size))
    count = design.shape[1]
    smooth: Any = sum((bend.T @ bend for bend in _bends(axes)), start=sparse.csr_matrix((count, count)))
    smooth = SMOOTHNESS**2 * smooth + 1e-9 * sparse.identity(count)
    target = np.log(utilisation)
    weight = np.ones_like(target)
    for _ in range(ROUNDS):
        normal = design.T @ design.multiply(weight[:, None]).tocsr() + smooth
        values = spsolve(normal.tocsc(), design.T @ (weight * target))
        weight = 1 / np.maximum(np.abs(design @ values - target), 0.02)
        weight /= weight.mean()
    shape = tuple(axis.size for axis in axes)
    return GridTable(axes, np.round(np.exp(np.minimum(values, 0.0)), 4).clip(1e-4).reshape(shape))


def _hats(axis: Floats, size: Floats) -> Any:
    """Weights of linear interpolation in logarithms as a sparse matrix (rows, nodes)."""
    from scipy import sparse

    position = np.interp(np.log(size), np.log(axis), np.arange(axis.size, dtype=np.float64))
    low = np.minimum(position.astype(int), axis.size - 2)
    share = position - low
    row = np.arange(size.size)
    entries = (np.r_[1 - share, share], (np.r_[row, row], np.r_[low, low + 1]))
    return sparse.csr_matrix(entries, (size.size, axis.size))


def _row_products(left: Any, right: Any) -> Any:
    """Products of the rows of two sparse matrices: (rows, a) and (rows, b) to (rows, a x b)."""
    from scipy import sparse

    entries = left.tocoo()
    scaled = right[entries.row].multiply(entries.data[:, None]).tocoo()
    columns = entries.col[scaled.row] * right.shape[1] + scaled.col
    shape = (right.shape[0], left.shape[1] * right.shape[1])
    return sparse.csr_matrix((scaled.data, (entries.row[scaled.row], columns)), shape)


def _bends(axes: Sequence[Floats]) -> Iterable[Any]:
    """Distance of each inner node from the line between its neighbours, per axis: (bends, nodes of the grid)."""
    from scipy import sparse

    for i, axis in enumerate(axes):
        step = np.diff(np.log(axis))
        both = step[:-1] + step[1:]
        inner = (max(axis.size - 2, 0), axis.size)
        bend = sparse.diags([step[1:] / both, -np.ones_like(both), step[:-1] / both], (0, 1, 2), shape=inner)
        whole = sparse.csr_matrix(np.ones((1, 1)))
        for at, other in enumerate(axes):
            whole = sparse.kron(whole, bend if at == i else sparse.identity(other.size), format="csr")
        yield whole


def errors(table: GridTable, rows: Rows) -> dict[str, float | int]:
    """Error of the table's time against the used rows, as fractions of the measured time."""
    used = rows.used
    off = np.abs(rows.utilisation[used] / table(*rows.sizes[used].T) - 1)
    return {
        "rows_used": int(used.sum()),
        "error_median": round(float(np.median(off)), 4),
        "error_p95": round(float(np.quantile(off, 0.95)), 4),
    }


def _parquet(folder: Path, gpu: Gpu, name: str) -> pd.DataFrame:
    import pandas as pd

    path = folder / f"{gpu.aic}__{name}__vllm-{gpu.version}.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def _columns(frame: pd.DataFrame, *names: str) -> Floats:
    return frame[list(names)].to_numpy(dtype=np.float64)


KIND_OF: Final = {"bfloat16": "bf16", "fp8": "fp8"}


def gemm_rows(frame: pd.DataFrame, gpu: Gpu, kind: str) -> Rows:
    """Rows of matrix products of one number type; columns m, n, k, time_s."""
    m, n, k = _columns(frame, "m", "n", "k").T
    width = 1 if kind == "fp8" else 2
    return Rows(
        gpu.limits.name,
        "gemm",
        kind,
        sizes=np.column_stack([m, n, k]),
        time_s=frame["time_s"].to_numpy(dtype=np.float64),
        limit_s=gemm_limit_s(gpu.limits, kind, m, n, k),
        compute_s=2 * m * n * k / gpu.limits.flops(kind),
        bytes=width * k * (m + n) + 2 * m * n,
        order=np.column_stack([m, n, k]),
        within=np.zeros((len(m), 1)),
    )


def is_aligned(m: Floats) -> NDArray[np.bool_]:
    """Whether a product's row count is at most 16 or a multiple of 16, as padded batches and full chunks are."""
    result: NDArray[np.bool_] = (m <= 16) | (m % 16 == 0)
    return result


def aic_gemms(folder: Path, gpu: Gpu) -> tuple[list[Rows], dict[str, float]]:
    """Matrix products, bf16 first, and the median slowdown of an m that is one beyond a multiple of 16."""
    frame = _parquet(folder, gpu, "gemm")
    frame["time_s"] = frame["latency"] / 1e3
    found: list[Rows] = []
    penalty: dict[str, float] = {}
    for source, kind in KIND_OF.items():
        of_kind = frame[frame["gemm_dtype"] == source]
        if of_kind.empty:
            continue
        aligned = is_aligned(of_kind["m"].to_numpy(dtype=np.float64))
        large = of_kind[(of_kind["n"] >= 1024) & (of_kind["k"] >= 1024)]
        time = large.set_index(["m", "n", "k"])["time_s"]
        for m in (128, 512, 2048):
            if m + 1 in large["m"].to_numpy():
                ratio = (time.xs(m + 1) / time.xs(m)).dropna()
                penalty[f"{kind} at {m} + 1 rows"] = round(float(ratio.median()), 3)
        found.append(gemm_rows(of_kind[aligned], gpu, kind))
    return found, penalty


def _whole_attention(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of head size 128 without a window, one per combination (the sources repeat some): their median."""
    frame = frame[frame["head_dim"] == 128]
    if "window_size" in frame:
        frame = frame[frame["window_size"] == 0]
    keys = ["kv_cache_dtype", "batch_size", "isl", "step", "num_heads", "num_key_value_heads"]
    return frame.groupby(keys)["latency"].median().reset_index()


def aic_prompt_attention(folder: Path, gpu: Gpu) -> list[Rows]:
    """Attention of whole prompts, KV cache in bf16."""
    frame = _whole_attention(_parquet(folder, gpu, "context_attention"))
    frame = frame[(frame["kv_cache_dtype"] == "bfloat16") & (frame["isl"] > 1)]
    batch, tokens, heads, kv = _columns(frame, "batch_size", "isl", "num_heads", "num_key_value_heads").T
    limits = gpu.limits
    return [
        Rows(
            limits.name,
            "prompt_attention",
            "bf16",
            sizes=np.column_stack([tokens, batch * heads, heads / kv]),
            time_s=frame["latency"].to_numpy(dtype=np.float64) / 1e3,
            limit_s=prompt_attention_limit_s(limits, tokens, batch, heads, kv, 128),
            compute_s=2 * batch * heads * 128 * tokens * (tokens + 1) / limits.bf16_flops,
            bytes=4 * batch * tokens * 128 * (heads + kv),
            order=np.column_stack([batch, tokens, heads, kv]),
            within=np.zeros((len(batch), 1)),
        )
    ]


def aic_decode_attention(folder: Path, gpu: Gpu) -> list[Rows]:
    """Attention of one new token per sequence, KV cache in bf16 and in fp8."""
    frame = _whole_attention(_parquet(folder, gpu, "generation_attention"))
    found = []
    for source, kind in KIND_OF.items():
        of_kind = frame[(frame["kv_cache_dtype"] == source) & (frame["step"] >= 15)]
        if of_kind.empty:
            continue
        batch, step, heads, kv = _columns(of_kind, "batch_size", "step", "num_heads", "num_key_value_heads").T
        limits, context = gpu.limits, step + 1
        width = 1 if kind == "fp8" else 2
        found.append(
            Rows(
                limits.name,
                "decode_attention",
                kind,
                sizes=np.column_stack([context, batch, kv, heads / kv]),
                time_s=of_kind["latency"].to_numpy(dtype=np.float64) / 1e3,
                limit_s=decode_attention_limit_s(limits, kind, batch, context, heads, kv, 128),
                compute_s=4 * batch * context * heads * 128 / limits.bf16_flops,
                bytes=128 * batch * (2 * width * context * kv + 4 * heads),
                order=np.column_stack([batch, context, heads, kv]),
                within=np.zeros((len(batch), 1)),
            )
        )
    return found


def aic_all_reduce(folder: Path, gpu: Gpu) -> list[Rows]:
    """All-reduce by GPUs and bytes; the source counts 2-byte elements (Vidur's bytes agree with it)."""
    frame = _parquet(folder, gpu, "custom_allreduce")
    found = []
    for launch in ("graph", "eager"):
        of_kind = frame[frame["backend"] == f"vllm_{launch}"]
        gpus, elements = _columns(of_kind, "num_gpus", "message_size").T
        limit_s = all_reduce_limit_s(gpu.limits, 2 * elements)
        found.append(
            Rows(
                gpu.limits.name,
                "all_reduce",
                launch,
                sizes=np.column_stack([gpus, 2 * elements]),
                time_s=of_kind["latency"].to_numpy(dtype=np.float64) / 1e3,
                limit_s=limit_s,
                compute_s=limit_s,
                bytes=np.zeros(len(gpus)),
                order=elements[:, None],
                within=gpus[:, None],
            )
        )
    return found


def _vidur(folder: Path, gpu: Gpu) -> Iterable[pd.DataFrame]:
    import pandas as pd

    paths = sorted(folder.glob(f"compute__{gpu.vidur}__*__mlp.csv"))
    if not paths:
        raise InputError(f"{folder}: has no compute__{gpu.vidur}__*__mlp.csv")
    for path in paths:
        frame = pd.read_csv(path)
        keys = ["num_tokens", "num_tensor_parallel_workers"]
        yield _medians(frame, keys)


def _medians(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Medians of repeated points; flags and sizes are constant within a file."""
    frame = frame.assign(use_gated_mlp=frame["use_gated_mlp"].astype(float))
    return frame.groupby(keys, as_index=False).median()


def vidur_gemms(folder: Path, gpu: Gpu) -> pd.DataFrame:
    """Matrix products of Vidur's layers as m, n, k, time_s: QKV, output, up (with gate) and down projection."""
    import pandas as pd

    parts = []
    for frame in _vidur(folder, gpu):
        tp = frame["num_tensor_parallel_workers"]
        head = frame["n_embd"] / frame["n_head"]
        kv = np.maximum(frame["n_kv_head"] / tp, 1)
        shapes = {
            "attn_pre_proj_ms": ((frame["n_head"] / tp + 2 * kv) * head, frame["n_embd"]),
            "attn_post_proj_ms": (frame["n_embd"], frame["n_embd"] / tp),
            "mlp_up_proj_ms": (frame["n_expanded_embd"] * (1 + frame["use_gated_mlp"]) / tp, frame["n_embd"]),
            "mlp_down_proj_ms": (frame["n_embd"], frame["n_expanded_embd"] / tp),
        }
        for column, (n, k) in shapes.items():
            parts.append(pd.DataFrame({"m": frame["num_tokens"], "n": n, "k": k, "time_s": frame[column] / 1e3}))
    return pd.concat(parts).groupby(["m", "n", "k"], as_index=False).median()


def vidur_elementwise(folder: Path, gpu: Gpu) -> list[Rows]:
    """Element-wise operators of Vidur's layers by the bytes they read and write."""
    import pandas as pd

    parts: dict[str, list[pd.DataFrame]] = {kind: [] for kind in KINDS["elementwise"]}
    for frame in _vidur(folder, gpu):
        tp = frame["num_tensor_parallel_workers"]
        hidden = 2 * frame["num_tokens"] * frame["n_embd"]
        head = frame["n_embd"] / frame["n_head"]
        turned = 2 * frame["num_tokens"] * head * (frame["n_head"] / tp + np.maximum(frame["n_kv_head"] / tp, 1))
        inner = 2 * frame["num_tokens"] * frame["n_expanded_embd"] / tp * (2 + frame["use_gated_mlp"])
        for kind, column, size in (
            ("norm", "input_layernorm_ms", 2 * hidden),
            ("activation", "mlp_act_ms", inner),
            ("rotary", "attn_rope_ms", 2 * turned),
        ):
            part = pd.DataFrame({"bytes": size, "time_s": frame[column] / 1e3})
            parts[kind].append(part[part["time_s"] > 0])
    found = []
    for kind, of_kind in parts.items():
        frame = pd.concat(of_kind)
        nbytes = frame["bytes"].to_numpy(dtype=np.float64)
        limit_s = nbytes / gpu.limits.memory_bytes_per_s
        found.append(
            Rows(
                gpu.limits.name,
                "elementwise",
                kind,
                sizes=nbytes[:, None],
                time_s=frame["time_s"].to_numpy(dtype=np.float64),
                limit_s=limit_s,
                compute_s=np.zeros_like(nbytes),
                bytes=nbytes,
                order=nbytes[:, None],
                within=np.zeros((len(nbytes), 1)),
            )
        )
    return found


def rows_of(
    gpu: Gpu, aic: Path, vidur: Path, of_others: Mapping[str, Sequence[Rows]]
) -> tuple[list[Rows], dict[str, float]]:
    """All rows of one GPU, checked, and the cost of unaligned products; ``of_others`` has the rows of earlier GPUs."""
    found: list[Rows] = []
    penalty: dict[str, float] = {}
    if gpu.aic:
        gemms, penalty = aic_gemms(aic, gpu)
        found += [*gemms, *aic_prompt_attention(aic, gpu), *aic_decode_attention(aic, gpu), *aic_all_reduce(aic, gpu)]
    elif gpu.vidur:
        frame = vidur_gemms(vidur, gpu)
        found.append(gemm_rows(frame[is_aligned(frame["m"].to_numpy(dtype=np.float64))], gpu, "bf16"))
    if gpu.vidur:
        found += vidur_elementwise(vidur, gpu)
    wide: dict[str, Rows] = {}
    lesser = {(rows.operator, rows.kind): rows for rows in of_others.get(gpu.same_chip_as, ())}
    for rows in found:
        wider = wide.get(rows.operator) if rows.operator == "gemm" else None
        check(rows, wider, lesser.get((rows.operator, rows.kind)))
        wide.setdefault(rows.operator, rows)
    return found, penalty


CASES: Final = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "bloom-176b")
"""Models whose iterations are compared where one GPU is predicted from the others."""
CASE_TENSOR_PARALLEL: Final = (1, 2, 4, 8)
CASE_PROMPT_TOKENS: Final = (128, 512, 1024, 2048, 4096, 8192)
CASE_BATCHES: Final = (1, 4, 16, 64, 256)
CASE_CONTEXTS: Final = (512, 2048, 8192)


def iterations_s(operators: Operators, dtype: NumberType) -> tuple[Floats, Floats]:
    """Times of the cases' prompt and decode iterations, in s, without the engine's overhead.

    A GPU with a PCIe link is compared at TP 1 only: all-reduce over PCIe was measured on one GPU, so no other can
    predict it.
    """
    sizes = CASE_TENSOR_PARALLEL if operators.limits.link == "nvlink" else CASE_TENSOR_PARALLEL[:1]
    prompt, decode = [], []
    batch, context = (x.ravel() for x in np.meshgrid(CASE_BATCHES, CASE_CONTEXTS))
    for model in CASES:
        of_type = catalog.model(model).in_dtype(dtype)
        for tp in sizes:
            prompt.append(iteration_s(of_type, operators, tp, prompt_tokens=CASE_PROMPT_TOKENS, overhead=NO_OVERHEAD))
            decode.append(
                iteration_s(of_type, operators, tp, batch=batch, context_tokens=batch * context, overhead=NO_OVERHEAD)
            )
    return np.concatenate(prompt), np.concatenate(decode)


def leave_one_out(gpu: Gpu, measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Error of the estimate from other GPUs, on a GPU that has kernels; GPUs of the same chip are left out."""
    name, limits = gpu.limits.name, gpu.limits
    chip = {gpu.same_chip_as or name, name}
    others = [other.limits.name for other in GPUS if not chip & {other.limits.name, other.same_chip_as}]
    others = [other for other in others if other in measured]
    tables = measured[name][1]
    own = estimate_operators(
        limits, own=tables, like=gpu.same_chip_as or None, references=measured, lookup=measured.__getitem__
    )
    estimate = estimate_operators(limits, references=others, lookup=measured.__getitem__)
    found: dict[str, Any] = {"from": others}
    dtypes: tuple[NumberType, ...] = ("bf16", "fp8") if ("gemm", "fp8") in tables else ("bf16",)
    for dtype in dtypes:
        for phase, at, there in zip(
            ("prompt", "decode"), iterations_s(estimate, dtype), iterations_s(own, dtype), strict=True
        ):
            ratio = at / there
            found[f"{phase} {dtype}"] = {
                "error_median": round(float(np.median(np.abs(ratio - 1))), 3),
                "error_p95": round(float(np.quantile(np.abs(ratio - 1), 0.95)), 3),
                "mean_factor": round(float(np.exp(np.log(ratio).mean())), 3),
            }
    return found


def cross_check(gpu: Gpu, vidur: Path, measured: Mapping[str, Measured]) -> dict[str, float]:
    """Median ratio by row count of Vidur's times of products (other software, same GPU) to the tables' times."""
    frame = vidur_gemms(vidur, gpu)
    frame = frame[is_aligned(frame["m"].to_numpy(dtype=np.float64))]
    m, n, k = _columns(frame, "m", "n", "k").T
    ratio = frame["time_s"].to_numpy() / Operators(*measured[gpu.limits.name]).gemm_s(m, n, k)
    ranges = ((1, 16), (17, 128), (129, 1024), (1025, 32768))
    return {
        f"{low} to {high} rows": round(float(np.median(ratio[(m >= low) & (m <= high)])), 3) for low, high in ranges
    }


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def table_rows(kind: str, table: GridTable) -> Iterable[list[str]]:
    """Rows of a table's CSV file: kind, one size per axis, utilisation."""
    for index in np.ndindex(table.utilisation.shape):
        sizes = [f"{axis[i]:.0f}" for axis, i in zip(table.axes, index, strict=True)]
        yield [kind, *sizes, f"{table.utilisation[index]:.4g}"]


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def derive(
    aic: Path, vidur: Path, gpus: Sequence[Gpu] = GPUS, refused: list[Sequence[object]] | None = None
) -> dict[str, str]:
    """Content of every file, by its name below ``hardware_specs/operators``.

    Rows that a rule refuses are added to ``refused``: GPU, operator, rule, problem, factor.
    """
    import yaml

    files: dict[str, str] = {}
    found: dict[str, Any] = {}
    checked: dict[str, Sequence[Rows]] = {}
    measured: dict[str, Measured] = {}
    for gpu in gpus:
        rows, penalty = rows_of(gpu, aic, vidur, checked)
        checked[gpu.limits.name] = rows
        written: dict[str, list[list[str]]] = {}
        about: dict[str, Any] = {"limits": gpu.source, "tables": {}}
        tables: dict[tuple[str, str], GridTable] = {}
        for of_kind in rows:
            name = f"{of_kind.operator} {of_kind.kind}"
            if refused is not None:
                refused += [(gpu.limits.name, name, rule, problem, f"{x:.3g}") for rule, problem, x in of_kind.listed]
            entry: dict[str, Any] = {"rows": of_kind.rows}
            if of_kind.used.any():
                table = fit(NODES[of_kind.operator], of_kind.sizes[of_kind.used], of_kind.utilisation[of_kind.used])
                tables[of_kind.operator, of_kind.kind] = table
                written.setdefault(of_kind.operator, []).extend(table_rows(of_kind.kind, table))
                entry |= errors(table, of_kind)
            about["tables"][name] = entry | ({"refused": of_kind.rules} if of_kind.rules else {})
        if penalty:
            about["unaligned_products"] = penalty
        found[gpu.limits.name] = about
        measured[gpu.limits.name] = gpu.limits, tables
        for operator, lines in written.items():
            files[f"{gpu.limits.name}__{operator}.csv"] = _csv(("kind", *AXES[operator], "utilisation"), lines)
    for gpu in gpus:
        if gpu.aic and gpu.vidur:
            found[gpu.limits.name]["vidur_products_over_table"] = cross_check(gpu, vidur, measured)
        if len(measured) == len(GPUS):
            found[gpu.limits.name]["estimated_from_others"] = leave_one_out(gpu, measured)
    files["gpus.csv"] = _csv(
        (*LIMIT_COLUMNS, "same_chip_as"),
        (
            [
                gpu.limits.name,
                *(f"{getattr(gpu.limits, c):g}" for c in LIMIT_COLUMNS[1:-1]),
                gpu.limits.link,
                gpu.same_chip_as,
            ]
            for gpu in gpus
        ),
    )
    head = {
        "sources": [
            {
                "title": "AIConfigurator, performance database, vLLM rows",
                "url": "https://github.com/ai-dynamo/aiconfigurator",
                "licence": "Apache-2.0",
                "version": "vLLM 0.14.0 (A100, L40S) and 0.19.0 (H100, H200, B200)",
                "sha256_of_files": _digest(aic.glob("*.parquet")),
            },
            {
                "title": "Vidur, compute profiles",
                "url": "https://github.com/microsoft/vidur",
                "licence": "MIT",
                "paper": "Agrawal et al., Vidur: A Large-Scale Simulation Framework for LLM Inference, MLSys 2024",
                "sha256_of_files": _digest(vidur.glob("compute__*.csv")),
            },
        ],
        "obtained": (
            "Utilisation is the physical limit over the measured time. Each table is fitted to all rows that pass"
            " the rules, by least absolute deviations of its logarithm at the nodes of a coarse grid, and rounded."
            " Errors are of the table against the rows it was fitted to. Products are of row counts up to 16 or a"
            " multiple of 16; unaligned_products has the median factor by which one row more is slower (n and k of"
            " 1024 or more). Derived by hardware_specs/derive_operators.py."
        ),
        "rules": {
            "beyond the arithmetic peak": (
                f"refused; all rows of a kernel where more than {IMPOSSIBLE_SHARE:.0%} of them are: it did other work"
            ),
            "faster than memory sustains": (
                f"memory-bound rows above what {SUSTAINED_QUANTILE:.0%} of those beyond {COLD_BYTES / 1e6:g} MB"
                " reach: operands were in the cache, which in service they are not; that rate is used instead"
                " (counted where they are beyond the bandwidth itself)"
            ),
            "slower than a larger problem": f"refused above {FALL:g} times and {1e6 * LAUNCH_S:g} us more",
            "slower than a wider type": (
                f"above {SLOWER:g} times and {1e6 * LAUNCH_S:g} us more, the time of the wider type is used instead"
            ),
            "slower than the same chip with less memory bandwidth": (
                f"above {SLOWER:g} times and {1e6 * LAUNCH_S:g} us more, the time of that chip is used instead"
                " (H200 after H100)"
            ),
        },
    }
    files["provenance.yaml"] = yaml.safe_dump(head | {"gpus": found}, sort_keys=False, width=110, allow_unicode=True)
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables; exit code 0, or 2 with one line on a source that cannot be used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("aic", type=Path, help="folder of AIConfigurator's kernel times (parquet)")
    parser.add_argument("vidur", type=Path, help="folder of Vidur's profiles (CSV)")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "operators")
    parser.add_argument("--refused", type=Path, help="also list every row that a rule found, as CSV")
    options = parser.parse_args(arguments)
    refused: list[Sequence[object]] = []
    try:
        files = derive(options.aic, options.vidur, refused=refused)
    except ProvisionerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (options.out / name).write_bytes(content.encode())
    if options.refused:
        options.refused.write_text(_csv(("gpu", "operator", "rule", "problem", "factor"), refused), encoding="utf-8")
    print(f"wrote {len(files)} files below {options.out}; the rules found {len(refused)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
