"""The shipped data: finds ``hardware_specs/`` and ``workloads/`` and gives their content by name.

Installed from a wheel the data lie in the package (``provisioner/_data``); in a checkout they are the
top-level folders. The loaders are imported on first use, so that importing this module costs nothing.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from provisioner.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from provisioner.specs.hardware import Machine
    from provisioner.specs.model import ModelArchitecture
    from provisioner.specs.prices import PriceList
    from provisioner.specs.workload import Workload

_PACKAGE = Path(__file__).resolve().parent.parent


def data_folder(kind: Literal["hardware_specs", "workloads"]) -> Path:
    """Folder of the shipped data: inside an installed package, else at the top of the checkout."""
    inside = _PACKAGE / "_data" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def _files(kind: Literal["hardware_specs", "workloads"], folder: str = "") -> list[tuple[str, Path, str]]:
    """(name, path, how messages show it) of every YAML file of a data folder, in order of name."""
    paths = sorted((data_folder(kind) / folder).glob("*.yaml"), key=lambda path: path.stem)
    return [(path.stem, path, f"{kind}/{folder}{'/' if folder else ''}{path.name}") for path in paths]


def _same_name(given: str, stem: str, shown: str) -> None:
    if given != stem:
        raise InputError(f"{shown}: name: must be the file's own, {stem}, got {given!r}")


@lru_cache(maxsize=1)
def machines() -> Mapping[str, "Machine"]:
    """Shipped machine types by name."""
    from provisioner.specs.schema import load_machine

    loaded: dict[str, Machine] = {}
    for stem, path, shown in _files("hardware_specs", "machines"):
        loaded[stem] = load_machine(path, shown)
        _same_name(loaded[stem].name, stem, shown)
    return MappingProxyType(loaded)


def machine(name: str) -> "Machine":
    """Machine type of that name; ``UnknownNameError`` names the nearest."""
    known = machines()
    if name not in known:
        raise UnknownNameError("machine", name, known)
    return known[name]


@lru_cache(maxsize=1)
def models() -> Mapping[str, "ModelArchitecture"]:
    """Shipped models by name."""
    from provisioner.specs.schema import load_model

    loaded: dict[str, ModelArchitecture] = {}
    for stem, path, shown in _files("hardware_specs", "models"):
        loaded[stem] = load_model(path, shown)
        _same_name(loaded[stem].name, stem, shown)
    return MappingProxyType(loaded)


def model(name: str) -> "ModelArchitecture":
    """Model of that name; ``UnknownNameError`` names the nearest."""
    known = models()
    if name not in known:
        raise UnknownNameError("model", name, known)
    return known[name]


@lru_cache(maxsize=1)
def price_lists() -> tuple[str, ...]:
    """Names of the shipped price lists."""
    return tuple(stem for stem, _, _ in _files("hardware_specs", "prices"))


@lru_cache(maxsize=8)
def _shipped_price_list(name: str) -> "PriceList":
    from provisioner.specs.schema import load_price_list

    path = data_folder("hardware_specs") / "prices" / f"{name}.yaml"
    return load_price_list(path, f"hardware_specs/prices/{name}.yaml")


def price_list(name_or_path: str | Path) -> "PriceList":
    """Price list of a shipped name, or of a YAML file."""
    if str(name_or_path) in price_lists():
        return _shipped_price_list(str(name_or_path))
    path = Path(name_or_path)
    if not (path.exists() or path.suffix in (".yaml", ".yml")):
        raise UnknownNameError("price list", str(name_or_path), (*price_lists(), "a YAML file"))
    from provisioner.specs.schema import load_price_list

    return load_price_list(path, str(name_or_path))


@lru_cache(maxsize=1)
def workloads() -> tuple[str, ...]:
    """Names of the shipped workloads."""
    return tuple(stem for stem, _, _ in _files("workloads"))


@lru_cache(maxsize=8)
def _shipped_workload(name: str) -> "Workload":
    from provisioner.specs.schema import load_workload

    return load_workload(data_folder("workloads") / f"{name}.yaml", f"workloads/{name}.yaml")


def workload(name_or_path: str | Path) -> "Workload":
    """Workload of a shipped name, of a workload file (.yaml), or of a trace file."""
    if str(name_or_path) in workloads():
        return _shipped_workload(str(name_or_path))
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        from provisioner.specs.schema import load_workload

        return load_workload(path, str(name_or_path))
    if not path.exists() and path.suffix == "":
        raise UnknownNameError("workload", str(name_or_path), (*workloads(), "a trace file"))
    from provisioner.specs.traces import read_trace

    return read_trace(path).workload(path.stem)
