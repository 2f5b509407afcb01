"""GPUs with measured kernels: limits with their source, names in the sources, and the software measured."""

from dataclasses import dataclass
from typing import Final

from provisioner.perf.operators import GpuLimits
from provisioner.specs.kernels import Source


@dataclass(frozen=True, slots=True)
class Gpu:
    """A measured GPU: its limits with their source, names in the two sources, and the software AIConfigurator ran."""

    limits: GpuLimits
    origin: str
    aic: str = ""
    software: tuple[Source, ...] = ()
    vidur: str = ""

    @property
    def name(self) -> str:
        """Key of the GPU's tables."""
        return self.limits.name


OF_2026: Final = (("vllm", "0.24.0"), ("sglang", "0.5.14"), ("tensorrt-llm", "1.3.0rc20"))
"""Software of 2026 with kernels on most GPUs."""

GPUS: Final = (
    Gpu(
        GpuLimits("a100-sxm-80gb", 312e12, 0.0, 2039e9, 300e9),
        "NVIDIA A100 datasheet: dense BF16 312 TFLOP/s, 80 GB SXM 2039 GB/s, NVLink 600 GB/s both ways; no FP8",
        "a100_sxm",
        (("vllm", "0.14.0"),),
        "a100",
    ),
    Gpu(
        GpuLimits("h100-sxm-80gb", 989.4e12, 1978.9e12, 3352e9, 450e9),
        "NVIDIA H100 SXM datasheet: dense BF16 989.4 and FP8 1978.9 TFLOP/s, 3352 GB/s, NVLink 900 GB/s both ways",
        "h100_sxm",
        (("vllm", "0.19.0"), *OF_2026),
        "h100",
    ),
    Gpu(
        GpuLimits("h200-sxm-141gb", 989.4e12, 1978.9e12, 4800e9, 450e9, same_chip_as="h100-sxm-80gb"),
        "NVIDIA H200 SXM datasheet: dense BF16 989.4 and FP8 1978.9 TFLOP/s, 4800 GB/s, NVLink 900 GB/s both ways",
        "h200_sxm",
        (("vllm", "0.19.0"), *OF_2026),
    ),
    Gpu(
        GpuLimits("b200-sxm-180gb", 2250e12, 4500e12, 8000e9, 900e9, fp4_flops=9000e12),
        "NVIDIA DGX B200 datasheet, an eighth: dense BF16 18, FP8 36, FP4 72 PFLOP/s; 64 TB/s; NVLink 14.4 TB/s",
        "b200_sxm",
        (("vllm", "0.19.0"), *OF_2026),
    ),
    Gpu(
        GpuLimits("gb200-nvl-186gb", 2500e12, 5000e12, 8000e9, 900e9, "nvlink", "b200-sxm-180gb", 10000e12),
        "NVIDIA GB200 NVL72 datasheet, a 72nd: dense BF16 180, FP8 360, FP4 720 PFLOP/s, 576 TB/s; NVLink as on B200",
        "gb200",
        (("vllm", "0.24.0"), ("sglang", "0.5.14")),
    ),
    Gpu(
        GpuLimits("l40s-48gb", 362.05e12, 733e12, 864e9, 32e9, "pcie"),
        "NVIDIA L40S datasheet: dense BF16 362.05 and FP8 733 TFLOP/s, 864 GB/s, PCIe 4 x16 64 GB/s both ways",
        "l40s",
        (("vllm", "0.14.0"), *OF_2026),
    ),
    Gpu(
        GpuLimits("a40-48gb", 149.7e12, 0.0, 696e9, 56.25e9),
        "NVIDIA A40 datasheet: dense BF16 149.7 TFLOP/s, 696 GB/s, NVLink pair 112.5 GB/s both ways; no FP8",
        vidur="a40",
    ),
)

VIDUR: Final[Source] = ("vidur", "2024")
"""Name of Vidur's profiles among the software: its paper's year stands for the version, which it does not state."""
