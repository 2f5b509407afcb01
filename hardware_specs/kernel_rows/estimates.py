"""Errors of estimates: each GPU's iterations predicted from the kernels of the others, and products of two sources."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from kernel_rows import vidur
from kernel_rows.aiconfigurator import columns, is_aligned
from kernel_rows.gpus import GPUS, Gpu
from kernel_rows.rules import Floats
from provisioner.perf.derived import iteration_s
from provisioner.perf.operators import Measured, Operators, estimate_operators
from provisioner.specs import catalog
from provisioner.specs.model import NumberType

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
            prompt.append(iteration_s(of_type, operators, tp, prompt_tokens=CASE_PROMPT_TOKENS))
            decode.append(iteration_s(of_type, operators, tp, batch=batch, context_tokens=batch * context))
    return np.concatenate(prompt), np.concatenate(decode)


def leave_one_out(gpu: Gpu, measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Error of the estimate from other GPUs, on a GPU that has kernels; GPUs of the same chip are left out.

    A GPU without preferred tables has no error of its own: it is estimated itself.
    """
    name, limits = gpu.limits.name, gpu.limits
    chip = {gpu.limits.same_chip_as or name, name}
    others = [other.limits.name for other in GPUS if not chip & {other.limits.name, other.limits.same_chip_as}]
    others = [other for other in others if other in measured]
    if name not in measured:
        return {"from": []}
    tables = measured[name][1]
    own = estimate_operators(
        limits, own=tables, like=gpu.limits.same_chip_as or None, references=measured, lookup=measured.__getitem__
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


def cross_check(gpu: Gpu, profiles: Path, measured: Mapping[str, Measured]) -> dict[str, float]:
    """Median ratio by row count of Vidur's times of products (other software, same GPU) to the tables' times."""
    frame = vidur.gemms(profiles, gpu)
    frame = frame[is_aligned(frame["m"].to_numpy(dtype=np.float64))]
    m, n, k = columns(frame, "m", "n", "k").T
    ratio = frame["time_s"].to_numpy() / Operators(*measured[gpu.limits.name]).gemm_s(m, n, k)
    ranges = ((1, 16), (17, 128), (129, 1024), (1025, 32768))
    return {
        f"{low} to {high} rows": round(float(np.median(ratio[(m >= low) & (m <= high)])), 3) for low, high in ranges
    }
