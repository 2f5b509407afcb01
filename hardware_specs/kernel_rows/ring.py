"""All-reduce over PCIe as a ring, in place of rows that one slow host gave all engines.

    time = 2 (g - 1) x (step + bytes / (g x rate))

g GPUs send and receive a g-th of the bytes in each of 2 (g - 1) steps.
"""

from typing import Any, Final

import numpy as np

from kernel_rows.fits import NODES
from kernel_rows.rules import Floats, Rows
from provisioner.perf.operators import GpuLimits, GridTable, all_reduce_limit_s
from provisioner.specs.kernels import Source

RING: Final[Source] = ("pcie-ring", "4.0")

STEP_S: Final = 3e-6
"""Time of one step in s, whatever its bytes: nccl-tests on eight RTX 4090 over PCIe 4.0 show 24 us for 8 bytes over
five GPUs and 40 to 42 us over eight, so 3.0 us for each of 8 and of 14 steps (github.com/NVIDIA/nccl, issue 1530)."""

RATE_BYTES_PER_S: Final = 20e9
"""Rate of one direction of PCIe 4.0 x16 in a ring: two L40S reach 18.8 to 20.2 GB/s in the rows of three engines. NCCL
plans with 24 (its log in github.com/NVIDIA/nccl-tests, issue 307), 10 between sockets."""

SLOW_HOST: Final = 2.0
"""Times of the ring beyond which large sums over more than two GPUs are those of a slow host."""
LARGE_BYTES: Final = 2.0**20

ABOUT: Final[dict[str, Any]] = {
    "rows": 0,
    "formula": f"2 (g - 1) x ({1e6 * STEP_S:g} us + bytes / (g x {RATE_BYTES_PER_S / 1e9:g} GB/s)) over g GPUs",
    "sources": [
        "step: nccl-tests on eight RTX 4090, github.com/NVIDIA/nccl, issue 1530",
        "rate: two L40S in the rows of vLLM, SGLang and TensorRT-LLM; NCCL plans with 24 GB/s",
    ],
}
"""Provenance of the ring's tables, which are of no rows."""


def ring_s(gpus: Floats, size_bytes: Floats) -> Floats:
    """Time of a sum of ``size_bytes`` over ``gpus`` GPUs on PCIe 4.0 x16, in s; broadcast."""
    return np.asarray(2 * (gpus - 1) * (STEP_S + size_bytes / (gpus * RATE_BYTES_PER_S)))


def ring_table(limits: GpuLimits) -> GridTable:
    """Utilisation of a GPU's link by the ring, at the nodes of all-reduce."""
    axes = tuple(np.array(axis, dtype=np.float64) for axis in NODES["all_reduce"])
    gpus, size_bytes = np.meshgrid(*axes, indexing="ij")
    return GridTable(axes, all_reduce_limit_s(limits, size_bytes) / ring_s(gpus, size_bytes), RING)


def refuse_slow_host(rows: Rows) -> None:
    """Refuse all sums over PCIe if most large ones over more than two GPUs take far longer than the ring."""
    gpus, size_bytes = rows.sizes.T
    ratio = rows.time_s / ring_s(gpus, size_bytes)
    large = (gpus > 2) & (size_bytes >= LARGE_BYTES)
    if large.any() and np.median(ratio[large]) > SLOW_HOST:
        rows.refuse("sums over PCIe of one slow host: a ring is taken in place", rows.used.copy(), ratio)
