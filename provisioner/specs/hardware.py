"""Machines: units that are bought or rented, with their GPUs, memory, links and power."""

from dataclasses import dataclass

from provisioner.errors import InputError
from provisioner.specs.units import check_plausible, quoted

GPU_LINKS = ("nvlink", "xgmi", "pcie")

# Wide enough for every accelerator from a 2017 V100 to several generations ahead; a value outside is
# nearly always one in another unit (TB/s for GB/s, kW for W, GB/s for Gb/s).
PLAUSIBLE_RANGES = {
    "gpus": (1, 1024),
    "memory_gib_per_gpu": (1, 4096),
    "memory_bandwidth_gb_per_s": (50, 200_000),
    "peak_fp16_tflops": (1, 100_000),
    "gpu_tdp_w": (20, 10_000),
    "max_power_w": (50, 1_000_000),
    "gpu_link_gb_per_s": (1, 50_000),
    "network_gbps": (1, 500_000),
    "released": (2010, 2100),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type: the unit that plans count, price and power.

    Quantities named ``gpu`` or ``per_gpu``, the memory bandwidth, the peaks (dense) and the link between GPUs (both
    directions together) are of one GPU; ``max_power_w`` and ``network_gbps`` (one direction) of the whole machine.
    ``peak_fp8_tflops`` is 0 without FP8. ``power_cap`` is the GPUs' power limit as a fraction of their TDP; all numbers
    but ``max_power_w`` are without cap. ``capped_from`` names the uncapped machine, whose latency curves, slowed down
    (``power_caps``), and price a capped one has, unless it has its own. ``kernels`` names the table of measured
    kernels, ``kernels_like`` the table of a similar GPU. ``letter`` names the type in a design (Splitwise-HA).

    >>> from provisioner.specs.catalog import machine
    >>> h = machine("dgx-h100")
    >>> h.gpus, h.memory_bytes // 2**30, h.network_bytes_per_s
    (8, 640, 400000000000.0)
    """

    name: str
    title: str
    letter: str
    gpu: str
    gpus: int
    memory_gib_per_gpu: float
    memory_bandwidth_gb_per_s: float
    peak_fp16_tflops: float
    gpu_tdp_w: float
    max_power_w: float
    gpu_link: str
    gpu_link_gb_per_s: float
    network: str
    network_gbps: float
    released: int
    peak_fp8_tflops: float = 0.0
    power_cap: float = 1.0
    capped_from: str = ""
    kernels: str = ""
    kernels_like: str = ""
    sources: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        what = f"machine {self.name}"
        check_plausible(what, self, PLAUSIBLE_RANGES)
        if self.peak_fp8_tflops:
            check_plausible(what, self, {"peak_fp8_tflops": (1, 200_000)})
        if self.gpu_link not in GPU_LINKS:
            raise InputError(f"{what}: gpu_link: must be {', '.join(GPU_LINKS)}, got {quoted(self.gpu_link)}")
        if not 0 < self.power_cap <= 1:
            raise InputError(f"{what}: power_cap: must be above 0 and at most 1 of the TDP, got {self.power_cap}")
        if self.capped_from and self.power_cap == 1:
            raise InputError(f"{what}: capped_from: needs a power_cap below 1 of the TDP")

    @property
    def memory_bytes(self) -> int:
        """GPU memory of the whole machine in bytes: GPUs x GiB x 2^30."""
        return round(self.gpus * self.memory_gib_per_gpu * 2**30)

    @property
    def network_bytes_per_s(self) -> float:
        """Bandwidth of all network ports of the machine together, one direction, in bytes/s."""
        return self.network_gbps * 1e9 / 8
