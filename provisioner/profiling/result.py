"""Profile of a model: the timed points, written as a curve file, and a file on their method and environment."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from provisioner.errors import InputError
from provisioner.files import check_writable, write_files
from provisioner.perf.points import CurvePoint, Provenance, curve_text
from provisioner.profiling.grid import Grid
from provisioner.profiling.shape import shape_of
from provisioner.specs.model import ModelArchitecture

NOT_MEASURED: Final = (
    "scheduling, sampling and network of a serving engine",
    "paged KV caches: each sequence's cache is contiguous",
    "fused kernels beyond PyTorch's own: norms, rotary positions and the MLP's gate take longer than in an engine",
)
"""Work that a point leaves out, for any model and GPU."""

NO_ALL_REDUCE: Final = (
    "all-reduce not measured: one GPU's share was timed by itself, and every iteration of the replica takes two"
    " all-reduces a layer longer; they are assumed to take no time"
)

ADDED_ALL_REDUCE: Final = "all-reduces: one GPU's share was timed by itself, and those that were added are {provenance}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Work that was not timed, with the reason."""

    work: str
    reason: str


@dataclass(frozen=True, slots=True)
class AllReduces:
    """Time of the all-reduces added to each point, in s, with the kind of evidence and its source."""

    seconds: tuple[float, ...]
    provenance: Provenance
    source: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Points of a curve, timed on one device with random weights.

    Points of one GPU are ``measured``. Points of a share (``tensor_parallel`` above 1) lack the all-reduces and are
    ``assumed``, until ``with_all_reduces`` adds them; then they have the provenance of the all-reduces.

    ``layers_timed`` of the shape's layers were timed together; fewer than all are scaled to all, with embedding and LM
    head timed by themselves. ``environment`` has the device, its driver, clocks and the versions. ``without_graph``
    names points on a GPU that were timed launch by launch, not as replays of a CUDA graph.
    """

    shape: ModelArchitecture
    machine: str
    tensor_parallel: int
    points: tuple[CurvePoint, ...]
    left_out: tuple[LeftOut, ...]
    without_graph: tuple[str, ...]
    layers_timed: int
    grid: Grid
    dtype: str
    repeats: int
    warm_up: int
    seed: int
    environment: dict[str, Any]
    all_reduces: AllReduces | None = None

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.shape.name

    @property
    def not_measured(self) -> tuple[str, ...]:
        """Descriptions of the work that the points leave out."""
        if self.tensor_parallel == 1:
            return NOT_MEASURED
        if self.all_reduces is None:
            return NO_ALL_REDUCE, *NOT_MEASURED
        return ADDED_ALL_REDUCE.format(provenance=self.all_reduces.provenance), *NOT_MEASURED

    @property
    def provenance(self) -> Provenance:
        """Provenance of the weakest part of every point."""
        return self.points[0].provenance

    def with_all_reduces(self, added: AllReduces) -> Self:
        """Profile with the all-reduces of a replica added to its points; they can be added once."""
        if self.all_reduces is not None or self.tensor_parallel == 1:
            raise ValueError(f"TP {self.tensor_parallel}: has no all-reduces, or has them already")

        def longer(point: CurvePoint, more_s: float) -> CurvePoint:
            times = {name: getattr(point, name) + more_s for name in ("latency_s", "min_s", "max_s")}
            return replace(point, provenance=added.provenance, **times)

        points = tuple(longer(*each) for each in zip(self.points, added.seconds, strict=True))
        return replace(self, points=points, all_reduces=added)

    def to_dict(self) -> dict[str, Any]:
        """Content of the file beside the curve file, as plain values: everything but the points' rows."""
        added = self.all_reduces
        return {
            "title": f"{self.model} on {self.machine} at TP {self.tensor_parallel}, timed with random weights",
            **{name: getattr(self, name) for name in ("provenance", "model", "machine", "tensor_parallel")},
            "points": len(self.points),
            "left_out": [asdict(each) for each in self.left_out],
            "not_measured": list(self.not_measured),
            "all_reduces": added
            and {
                "provenance": added.provenance,
                "source": added.source,
                "added_s": {
                    point.label: float(f"{seconds:.9g}")
                    for point, seconds in zip(self.points, added.seconds, strict=True)
                },
            },
            "layers": self.shape.layers,
            **{name: getattr(self, name) for name in ("layers_timed", "dtype", "repeats", "warm_up", "seed")},
            "without_cuda_graph": list(self.without_graph),
            "shape": shape_of(self.shape),
            "grid": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.grid).items()},
            "environment": self.environment,
        }

    def about_text(self) -> str:
        """``to_dict`` as YAML."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110, allow_unicode=True)

    def csv_text(self) -> str:
        """Points as the text of a curve file; power is not measured, and its columns are empty."""
        return curve_text({self.tensor_parallel: self.points}, model=self.model, machine=self.machine)

    def write(self, path: str | Path) -> tuple[Path, Path]:
        """Write the curve file and the .yaml file beside it, both or none (``InputError``); return their paths."""
        curve, about = paths = output_paths(path)
        write_files({str(curve): self.csv_text(), str(about): self.about_text()})
        return paths


def output_paths(path: str | Path) -> tuple[Path, Path]:
    """Paths of the curve file and the file beside it; ``InputError``, before any work, if they cannot be written."""
    curve = Path(path)
    if curve.suffix != ".csv":
        raise InputError(f"{curve}: must end in .csv: a profile is written as a curve file")
    about = curve.with_suffix(".yaml")
    for each in (curve, about):
        check_writable(str(each))
    return curve, about
