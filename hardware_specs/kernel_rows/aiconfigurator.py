"""Rows of AIConfigurator's kernel times: ``SYSTEM__TABLE__BACKEND-VERSION.parquet``, latency in ms of one kernel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kernel_rows.gpus import Gpu
from kernel_rows.rules import Floats, Rows
from provisioner.errors import InputError
from provisioner.perf.operators import (
    MAX_KV_HEADS,
    all_reduce_limit_s,
    decode_attention_limit_s,
    gemm_limit_s,
    prompt_attention_limit_s,
)
from provisioner.specs.kernels import KINDS, Source
from provisioner.specs.model import DTYPE_BYTES

BACKENDS: Final = {"tensorrt-llm": "trtllm"}
"""Names of engines in the source, where they differ."""


def paths_of(folders: Sequence[Path], gpu: Gpu, source: Source, table: str = "*") -> list[Path]:
    """Files of a table of one software on a GPU, in all folders; one name twice is one file."""
    name = f"{gpu.aic}__{table}__{BACKENDS.get(source[0], source[0])}-{source[1]}.parquet"
    return sorted(path for folder in folders for path in folder.glob(name))


def used(folders: Sequence[Path], gpu: Gpu) -> list[Path]:
    """Files that a GPU's tables come from."""
    tables = ("gemm", "context_attention", "generation_attention", "custom_allreduce")
    return [path for source in gpu.software for table in tables for path in paths_of(folders, gpu, source, table)]


def _parquet(folders: Sequence[Path], gpu: Gpu, source: Source, table: str) -> pd.DataFrame | None:
    """Rows of a table of one software on a GPU, None if no folder has it."""
    frames = []
    for path in paths_of(folders, gpu, source, table):
        try:
            frames.append(pd.read_parquet(path))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if len(frames) < 2:
        return frames[0] if frames else None
    shared = [name for name in frames[0] if all(name in frame for frame in frames)]
    return pd.concat([frame[shared] for frame in frames], ignore_index=True).drop_duplicates()


def columns(frame: pd.DataFrame, *names: str) -> Floats:
    """Columns of a frame as numbers (rows, columns)."""
    return frame[list(names)].to_numpy(dtype=np.float64)


KIND_OF: Final = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4"}
"""Number types by their names in the source, a wider one before a narrower."""


def gemm_rows(frame: pd.DataFrame, gpu: Gpu, source: Source, kind: str) -> Rows:
    """Rows of matrix products of one number type; columns m, n, k, time_s."""
    m, n, k = columns(frame, "m", "n", "k").T
    return Rows(
        gpu.name,
        source,
        "gemm",
        kind,
        sizes=np.column_stack([m, n, k]),
        time_s=frame["time_s"].to_numpy(dtype=np.float64),
        limit_s=gemm_limit_s(gpu.limits, kind, m, n, k),
        compute_s=2 * m * n * k / gpu.limits.flops(kind),
        bytes=DTYPE_BYTES[kind] * k * (m + n) + 2 * m * n,
        order=np.column_stack([m, n, k]),
        within=np.zeros((len(m), 1)),
    )


def is_aligned(m: Floats) -> NDArray[np.bool_]:
    """Whether a product's row count is at most 16 or a multiple of 16, as padded batches and full chunks are."""
    result: NDArray[np.bool_] = (m <= 16) | (m % 16 == 0)
    return result


def gemms(folders: Sequence[Path], gpu: Gpu, source: Source) -> tuple[list[Rows], dict[str, float]]:
    """Matrix products, bf16 first, and the median slowdown of an m that is one beyond a multiple of 16."""
    frame = _parquet(folders, gpu, source, "gemm")
    if frame is None:
        return [], {}
    frame["time_s"] = frame["latency"] / 1e3
    found: list[Rows] = []
    penalty: dict[str, float] = {}
    for name, kind in KIND_OF.items():
        of_kind = frame[frame["gemm_dtype"] == name]
        if of_kind.empty:
            continue
        aligned = is_aligned(of_kind["m"].to_numpy(dtype=np.float64))
        large = of_kind[(of_kind["n"] >= 1024) & (of_kind["k"] >= 1024)]
        time = large.set_index(["m", "n", "k"])["time_s"]
        for m in (128, 512, 2048):
            if m + 1 in large["m"].to_numpy():
                ratio = (time.xs(m + 1) / time.xs(m)).dropna()
                penalty[f"{kind} at {m} + 1 rows"] = round(float(ratio.median()), 3)
        found.append(gemm_rows(of_kind[aligned], gpu, source, kind))
    return found, penalty


def _whole_attention(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of head size 128 without a window, one per combination (the sources repeat some): their median."""
    frame = frame[frame["head_dim"] == 128]
    if "window_size" in frame:
        frame = frame[frame["window_size"] == 0]
    keys = ["kv_cache_dtype", "batch_size", "isl", "step", "num_heads", "num_key_value_heads"]
    return frame.groupby(keys)["latency"].median().reset_index()


def prompt_attention(folders: Sequence[Path], gpu: Gpu, source: Source) -> list[Rows]:
    """Attention of whole prompts, KV cache in bf16."""
    frame = _parquet(folders, gpu, source, "context_attention")
    if frame is None:
        return []
    frame = _whole_attention(frame)
    frame = frame[(frame["kv_cache_dtype"] == "bfloat16") & (frame["isl"] > 1)]
    batch, tokens, heads, kv = columns(frame, "batch_size", "isl", "num_heads", "num_key_value_heads").T
    limits = gpu.limits
    return [
        Rows(
            limits.name,
            source,
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


def decode_attention(folders: Sequence[Path], gpu: Gpu, source: Source) -> list[Rows]:
    """Attention of one new token per sequence, KV cache in bf16 and in fp8."""
    frame = _parquet(folders, gpu, source, "generation_attention")
    if frame is None:
        return []
    frame = _whole_attention(frame)
    found = []
    for name, kind in KIND_OF.items():
        of_kind = frame[(frame["kv_cache_dtype"] == name) & (frame["step"] >= 15)]
        if of_kind.empty:
            continue
        batch, step, heads, kv = columns(of_kind, "batch_size", "step", "num_heads", "num_key_value_heads").T
        counted = np.minimum(kv, MAX_KV_HEADS)
        limits, context = gpu.limits, step + 1
        width = 1 if kind == "fp8" else 2
        found.append(
            Rows(
                limits.name,
                source,
                "decode_attention",
                kind,
                sizes=np.column_stack([context, batch * kv / counted, counted, heads / kv]),
                time_s=of_kind["latency"].to_numpy(dtype=np.float64) / 1e3,
                limit_s=decode_attention_limit_s(limits, kind, batch, context, heads, kv, 128),
                compute_s=4 * batch * context * heads * 128 / limits.bf16_flops,
                bytes=128 * batch * (2 * width * context * kv + 4 * heads),
                order=np.column_stack([batch, context, heads, kv]),
                within=np.zeros((len(batch), 1)),
            )
        )
    return found


def all_reduce(folders: Sequence[Path], gpu: Gpu, source: Source) -> list[Rows]:
    """All-reduce by GPUs and bytes; the source counts 2-byte elements (Vidur's bytes agree with it)."""
    frame = _parquet(folders, gpu, source, "custom_allreduce")
    if frame is None:
        return []
    found = []
    for launch in KINDS["all_reduce"]:
        if "backend" in frame:
            of_kind = frame[frame["backend"] == f"{source[0]}_{launch}"]
        elif launch == "graph":  # TensorRT-LLM's rows do not say, and the shortest take 3 us
            of_kind = frame
        else:
            continue
        gpus, elements = columns(of_kind, "num_gpus", "message_size").T
        limit_s = all_reduce_limit_s(gpu.limits, 2 * elements)
        found.append(
            Rows(
                gpu.name,
                source,
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
