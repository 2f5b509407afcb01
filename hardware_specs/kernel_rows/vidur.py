"""Rows of Vidur's profiles: products and element-wise operators of whole layers."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from kernel_rows.gpus import VIDUR, Gpu
from kernel_rows.rules import Rows
from provisioner.errors import InputError
from provisioner.specs.kernels import KINDS


def _vidur(folder: Path, gpu: Gpu) -> Iterable[pd.DataFrame]:
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


def gemms(folder: Path, gpu: Gpu) -> pd.DataFrame:
    """Matrix products of Vidur's layers as m, n, k, time_s: QKV, output, up (with gate) and down projection."""
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


def elementwise(folder: Path, gpu: Gpu) -> list[Rows]:
    """Element-wise operators of Vidur's layers by the bytes they read and write."""
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
                gpu.name,
                VIDUR,
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
