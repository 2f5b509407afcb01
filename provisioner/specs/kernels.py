"""Shipped kernel tables: operators and their kinds, the files by GPU and software, and the choice among them.

A file is ``hardware_specs/operators/GPU/ENGINE-VERSION__OPERATOR__KIND.csv``; ``perf.operators`` reads it.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from provisioner.errors import InputError, UnknownNameError
from provisioner.specs.shipped import data_folder

Source = tuple[str, str]
"""Software and version that kernels were measured with, such as ``("vllm", "0.19.0")``."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "gemm": ("bf16", "fp8", "fp8_block", "nvfp4"),
    "prompt_attention": ("bf16",),
    "decode_attention": ("bf16", "fp8"),
    "all_reduce": ("graph", "eager"),
    "elementwise": ("norm", "activation", "rotary"),
}
"""Kinds of each operator: number type (``fp8_block``: FP8 with a scale per 128 x 128 weights), launch, or function."""

ENGINES: Final = ("vllm", "sglang", "tensorrt-llm", "vidur", "pcie-ring")
"""Software with tables, and the ring that stands for sums over PCIe. Among any, the newest of the first is taken, then
the newest of the next."""

ANY: Final = ("any", None)  # in a preference: the newest table of any software, in the order of ENGINES


class Take(NamedTuple):
    """Software whose tables are taken, best first, for an operator on a GPU.

    ``sources`` are engines with a version, None for the newest that has the table, or ``ANY``. ``operator`` may have a
    kind (``gemm fp8``); empty, as an empty ``gpu``, it stands for all.
    """

    sources: tuple[tuple[str, str | None], ...]
    operator: str = ""
    gpu: str = ""

    def check(self) -> None:
        """Refuse software, operators and GPUs without tables: ``InputError`` names the nearest."""
        files = table_files()
        software = {*ENGINES, ANY[0], *("-".join(source) for of in files.values() for source in of)}
        operators = {*KINDS, *(f"{operator} {kind}" for operator, kinds in KINDS.items() for kind in kinds)}
        software_of = "software with kernel tables"
        named = [("tables", software_of, "-".join(filter(None, source)), software) for source in self.sources]
        named.append(("operator", "operator", self.operator, operators))
        named.append(("gpu", "GPU with kernel tables", self.gpu, {gpu for gpu, _, _ in files}))
        for field, what, name, known in named:
            if name and name not in known:
                raise InputError(f"{field}: {UnknownNameError(what, name, sorted(known))}")


Preference = tuple[Take, ...]
"""Choice of tables: for a GPU and an operator the first entry that fits counts, and what it does not name is unused."""


def folder() -> Path:
    """Folder of the shipped operator tables."""
    return data_folder("hardware_specs") / "operators"


def source_of(path: Path) -> Source:
    """Software and version of a table, from the name of its file."""
    engine, _, version = path.name.split("__")[0].rpartition("-")
    return engine, version


@lru_cache(maxsize=1)
def table_files() -> Mapping[tuple[str, str, str], Mapping[Source, Path]]:
    """Files of the shipped tables by (GPU, operator, kind) and software."""
    files: dict[tuple[str, str, str], dict[Source, Path]] = {}
    for path in sorted(folder().glob("*/*.csv")):
        _, operator, kind = path.stem.split("__")
        files.setdefault((path.parent.name, operator, kind), {})[source_of(path)] = path
    return files


def is_measured(gpu: str, operator: str, kind: str) -> bool:
    """Whether a GPU has a table of an operator and kind, of any software."""
    return (gpu, operator, kind) in table_files()


def _release(version: str) -> tuple[list[int], bool, int]:
    """Order of versions: numbers, a release candidate (``1.3.0rc20``) before its release."""
    release, _, candidate = version.partition("rc")
    return [int(part) for part in release.split(".")], not candidate, int(candidate or 0)


def preferred(available: Iterable[Source], preference: Preference, gpu: str, operator: str, kind: str) -> Source | None:
    """Software whose table a preference takes from those available; None if it names none of them.

    >>> both = ("vllm", "0.19.0"), ("vllm", "0.24.0")
    >>> preferred(both, (Take((("sglang", None), ("vllm", None))),), "h100-sxm-80gb", "gemm", "fp8")
    ('vllm', '0.24.0')
    """
    names = ("", operator, f"{operator} {kind}")
    fits = (take for take in preference if take.gpu in ("", gpu) and take.operator in names)
    for wanted, version in next(fits, Take(())).sources:
        for engine in ENGINES if wanted == ANY[0] else (wanted,):
            versions = [found for name, found in available if name == engine and version in (None, found)]
            if versions:
                return engine, max(versions, key=_release)
    return None
