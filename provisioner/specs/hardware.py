"""Machines: units that are bought or rented, with their GPUs, memory, links and power."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from provisioner.errors import InputError
from provisioner.specs.prices import PLAUSIBLE_RANGES as PRICES
from provisioner.specs.prices import MachinePrice
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
_OF_HOST = {"vcpus": (1, 100_000), "host_memory_gib": (0.5, 1_000_000)}


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type: the unit that plans count, price and power.

    Quantities named ``gpu`` or ``per_gpu``, the memory bandwidth, the peaks (dense) and the link between GPUs (both
    directions together) are of one GPU; ``max_power_w`` and ``network_gbps`` (one direction) of the whole machine.
    ``peak_fp8_tflops`` is 0 without FP8. ``power_cap`` is the GPUs' power limit as a fraction of their TDP; all numbers
    but ``max_power_w`` are without cap. ``capped_from`` names the uncapped machine, whose latency curves, slowed down
    (``power_caps``), and price a capped one has, unless it has its own. ``kernels`` names the table of measured
    kernels, ``kernels_like`` that of a similar GPU, for what was not measured; ``estimate_note`` says how far times
    estimated from others are known to be off. ``letter`` names the type in a design (Splitwise-HA). ``cloud`` is who
    sells an instance with part of a server's GPUs; a whole machine has none. ``vcpus`` and ``host_memory_gib`` are of
    the instance's host, None where unknown; no time depends on them.

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
    estimate_note: str = ""
    cloud: str = ""
    vcpus: int | None = None
    host_memory_gib: float | None = None
    sources: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        what = f"machine {self.name}"
        check_plausible(what, self, PLAUSIBLE_RANGES)
        if self.peak_fp8_tflops:
            check_plausible(what, self, {"peak_fp8_tflops": (1, 200_000)})
        check_plausible(what, self, {name: of for name, of in _OF_HOST.items() if getattr(self, name)})
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


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance that a cloud sells, ``sold_as``, with GPUs of a machine type, ``gpu_of``, its own network and host.

    Its price, if known, is in the currency of the list that its file names. Other fields are as in ``Machine``.
    """

    gpu_of: str
    gpus: int
    letter: str
    sold_as: str
    network: str
    network_gbps: float
    vcpus: int | None = None
    host_memory_gib: float | None = None
    cost_usd_per_h: float | None = None
    price_source: str = ""

    def __post_init__(self) -> None:
        if self.cost_usd_per_h is not None:
            check_plausible("price", self, {"cost_usd_per_h": PRICES["cost_usd_per_h"]})

    def machine(self, name: str, whole: Machine, listed: "InstanceList") -> Machine:
        """The instance as a machine type: the GPU and links of ``whole``, its power in proportion to the GPUs."""
        share = f"max_power_w is an estimate: the share of its GPUs in the power of {whole.name}."
        return replace(
            whole,
            name=name,
            title=f"{listed.cloud} {self.sold_as}: {self.gpus} x {whole.gpu}",
            letter=self.letter,
            gpus=self.gpus,
            max_power_w=whole.max_power_w * self.gpus / whole.gpus,
            network=self.network,
            network_gbps=self.network_gbps,
            cloud=listed.cloud,
            vcpus=self.vcpus,
            host_memory_gib=self.host_memory_gib,
            sources=(*listed.sources, *whole.sources),
            note=" ".join(filter(None, (listed.note, share))),
        )


@dataclass(frozen=True, slots=True)
class InstanceList:
    """Instances of one cloud by name, with the sources of their sizes.

    Their prices join those of ``price_list``; ``price_source`` is of all that have no other.
    """

    cloud: str
    instances: Mapping[str, Instance]
    price_list: str = "2026"
    price_source: str = ""
    sources: tuple[str, ...] = ()
    note: str = ""

    def prices(self, machines: Mapping[str, Machine]) -> dict[str, MachinePrice]:
        """The prices of the instances that have one; their power is that of ``machines``, an estimate."""
        return {
            name: MachinePrice(
                row.cost_usd_per_h,
                machines[name].max_power_w,
                f"{self.cloud} {row.sold_as}, {row.price_source or self.price_source}; power: estimated, the share of "
                f"its GPUs in that of {row.gpu_of}",
            )
            for name, row in self.instances.items()
            if row.cost_usd_per_h is not None
        }
