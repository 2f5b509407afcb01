"""Specs by name: the shipped data, ``hardware_specs/`` and ``workloads/``, and a folder of a user's own.

A user's own folder is laid out as ``hardware_specs/``, any part of it may be missing, and its specs replace
shipped ones of the same name. The loaders are imported on first use, so that importing this module costs nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from provisioner.deadline import check_time
from provisioner.errors import InputError, UnknownNameError
from provisioner.specs.shipped import data_folder
from provisioner.specs.trace_formats import TraceRules
from provisioner.spelling import spelled

if TYPE_CHECKING:
    from provisioner.specs.engine import Engine
    from provisioner.specs.hardware import InstanceList, Machine
    from provisioner.specs.model import ModelArchitecture
    from provisioner.specs.power_caps import PowerCaps
    from provisioner.specs.prices import MachinePrice, PriceList
    from provisioner.specs.workload import Workload

_Spec = TypeVar("_Spec", "Engine", "Machine", "ModelArchitecture")

_STEM = attrgetter("stem")

OWN_FOLDERS: Final = {
    "machines": "*.yaml",
    "instances": "*.yaml",
    "models": "*.yaml",
    "prices": "*.yaml",
    "curves": "*.csv",
    "engines": "*.yaml",
}
"""Parts of a user's own folder, with the files that each holds."""

POWER_CAPS: Final = "power_caps.yaml"


@lru_cache(maxsize=1)
def architectures() -> dict[str, Any]:
    """Tables of ``architectures.yaml``: families of models, quantizations, and what is not described."""
    from provisioner.specs.schema import read_yaml

    return read_yaml(data_folder("hardware_specs") / "architectures.yaml", "hardware_specs/architectures.yaml")


class Catalog:
    """Machines, models, engines, price lists and curve files by name: shipped, and of a user's folder ``own``."""

    def __init__(self, own: str | None = None) -> None:
        self.own = own

    def _specs(self, folder: str) -> list[tuple[str, Path, str]]:
        """List (name, path, path as messages show it) of the shipped files, then the user's own, in order of name."""
        own = [] if self.own is None else [Path(self.own) / folder]
        folders = [(data_folder("hardware_specs") / folder, f"hardware_specs/{folder}"), *((at, str(at)) for at in own)]
        files = ((path, shown) for at, shown in folders for path in sorted(at.glob("*.yaml"), key=_STEM))
        return [(path.stem, path, f"{shown}/{path.name}") for path, shown in files]

    def _loaded(self, folder: str, load: Callable[[Path, str], _Spec]) -> dict[str, _Spec]:
        """Specs of a folder by name, which must be the file's."""
        loaded: dict[str, _Spec] = {}
        for stem, path, shown in self._specs(folder):
            check_time()
            loaded[stem] = load(path, shown)
            if loaded[stem].name != stem:
                raise InputError(f"{shown}: name: must be the file's own, {stem}, got {loaded[stem].name!r}")
        return loaded

    @cached_property
    def _instance_lists(self) -> Mapping[str, "InstanceList"]:
        """Lists of instances by the path that messages show, the user's own last."""
        from provisioner.specs.schema import load_instances

        return {shown: load_instances(path, shown) for _, path, shown in self._specs("instances")}

    @cached_property
    def machines(self) -> Mapping[str, "Machine"]:
        """Machine types by name: the files of machines, then the instances that clouds sell."""
        from provisioner.specs.schema import load_machine

        loaded = self._loaded("machines", load_machine)
        for shown, listed in self._instance_lists.items():
            for name, instance in listed.instances.items():
                if instance.gpu_of not in loaded:
                    unknown = UnknownNameError("machine", instance.gpu_of, loaded)
                    raise InputError(f"{shown}: instances.{name}.gpu_of: {unknown}")
                try:
                    loaded[name] = instance.machine(name, loaded[instance.gpu_of], listed)
                except InputError as error:
                    raise InputError(f"{shown}: {error}") from None
        letters: dict[str, str] = {}
        for name, machine in loaded.items():
            other = letters.setdefault(machine.letter.lower(), name)
            if other != name:
                raise InputError(f"machine {name}: letter: {machine.letter} is that of {other}; designs need their own")
            if machine.capped_from and machine.capped_from not in loaded:
                unknown = UnknownNameError("machine", machine.capped_from, loaded)
                raise InputError(f"machine {name}: capped_from: {unknown}")
        return MappingProxyType(loaded)

    @property
    def whole_machines(self) -> Mapping[str, "Machine"]:
        """Machine types by name that are no instances with part of a server's GPUs."""
        return {name: machine for name, machine in self.machines.items() if not machine.cloud}

    def machine(self, name: str) -> "Machine":
        """Machine type of a name; ``MACHINE@70`` has its GPUs capped to 70 % of their TDP.

        Raises ``UnknownNameError``, which names the nearest known name.
        """
        from provisioner.specs.power_caps import parse_caps

        uncapped, mark, percent = name.partition("@")
        if uncapped not in self.machines:
            raise UnknownNameError("machine", uncapped, self.machines)
        machine = self.machines[uncapped]
        return self.at_cap(machine, *parse_caps((percent,), name)) if mark else machine

    def at_cap(self, machine: "Machine", cap: float) -> "Machine":
        """A machine with its GPUs limited to a share of their TDP: the catalogue's own file if there is one."""
        from provisioner.specs.power_caps import at_cap

        if machine.power_cap < 1.0:
            raise InputError(f"{machine.name} is capped already; cap {machine.capped_from or 'the uncapped one'}")
        if cap == 1.0:
            return machine
        self.power_caps.at(cap)
        same = (each for each in self.machines.values() if (each.capped_from, each.power_cap) == (machine.name, cap))
        return next(same, None) or at_cap(machine, cap)

    @cached_property
    def power_caps(self) -> "PowerCaps":
        """Effects of power caps on latency: the user's own ``power_caps.yaml``, else the shipped one."""
        from provisioner.specs.schema import load_power_caps

        if self.own is not None and (path := Path(self.own) / POWER_CAPS).is_file():
            return load_power_caps(path, str(path))
        return load_power_caps(data_folder("hardware_specs") / POWER_CAPS, f"hardware_specs/{POWER_CAPS}")

    def price(self, prices: "PriceList", name: str) -> "MachinePrice":
        """Price of a machine in a list; if the list lacks a capped machine, from the price of the uncapped one."""
        from provisioner.specs.power_caps import price_at_cap

        machine = self.machine(name)
        if name in prices.machines or not machine.capped_from:
            return prices.price(name)
        return price_at_cap(prices.price(machine.capped_from), self.machine(machine.capped_from), machine.power_cap)

    @cached_property
    def models(self) -> Mapping[str, "ModelArchitecture"]:
        """Models by name."""
        from provisioner.specs.schema import load_model

        return MappingProxyType(self._loaded("models", load_model))

    def model(self, name: str) -> "ModelArchitecture":
        """Model of a name, an alias, or a quantized variant's name, which sets number types; errors say why not."""
        if name in self.models:
            return self.models[name]
        aliases = ((alias.lower(), model) for model in self.models.values() for alias in (model.name, *model.aliases))
        names = {each: model for alias, model in aliases for each in (alias, alias.rpartition("/")[2])}
        base = name.lower().rpartition("/")[2]
        if name.lower() in names:
            return names[name.lower()]
        for ending, types in architectures()["variants"].items():
            if (variant := re.fullmatch(f"(.+?)[-._]{ending}", base)) and variant[1] in names:
                if types:
                    return names[variant[1]].in_dtype(**types)
                of = f"is {names[variant[1]].name} in a number type of which there is no latency data"
                raise InputError(f"model {name}: {of}; import its config.json and your measurements of it")
        for beginning, why in architectures()["not_described"].items():
            if re.match(beginning, base):
                raise InputError(f"model {name}: is not described: {why} (known: {', '.join(self.models)})")
        raise UnknownNameError("model", name, self.models)

    @cached_property
    def engines(self) -> Mapping[str, "Engine"]:
        """Engines by name."""
        from provisioner.specs.schema import load_engine

        return MappingProxyType(self._loaded("engines", load_engine))

    def engine(self, text: str) -> "Engine":
        """Engine of a name or a YAML file, with other numbers: ``vllm,batch_tokens=4096``."""
        from provisioner.specs.schema import load_engine

        name, *changes = (part.strip() for part in text.split(","))
        path = Path(name)
        if name in self.engines:
            engine = self.engines[name]
        elif path.suffix in (".yaml", ".yml"):
            engine = load_engine(path, name)
        else:
            raise UnknownNameError("engine", name, (*self.engines, "a YAML file"))
        values: dict[str, str] = {}
        for change in changes:
            number, equals, value = (part.strip() for part in change.partition("="))
            if not (number and equals and value) or number in values:
                raise InputError(f"engine {text}: must be NAME,NUMBER=VALUE with each number once, got {change!r}")
            values[number] = value
        try:
            return engine.with_values(values) if values else engine
        except InputError as error:
            raise InputError(f"engine {text}: {error}") from None

    @cached_property
    def _price_lists(self) -> Mapping[str, "PriceList"]:
        """Price lists by name, which the user's own prices join, and those of instances."""
        from provisioner.specs.schema import load_price_list

        loaded: dict[str, PriceList] = {}
        for stem, path, shown in self._specs("prices"):
            found = load_price_list(path, shown)
            shipped = loaded.get(stem, found)
            if found.currency != shipped.currency:
                mixed = f"must be {shipped.currency}, as that of the shipped list {stem}, got {found.currency}"
                raise InputError(f"{shown}: currency: {mixed}; give the list another name")
            loaded[stem] = replace(shipped, machines={**shipped.machines, **found.machines})
        for shown, listed in self._instance_lists.items():
            if listed.price_list not in loaded:
                raise InputError(f"{shown}: price_list: {UnknownNameError('price list', listed.price_list, loaded)}")
            joined, prices = loaded[listed.price_list], listed.prices(self.machines)
            loaded[listed.price_list] = replace(joined, machines={**joined.machines, **prices, **joined.machines})
        return MappingProxyType(loaded)

    @property
    def price_lists(self) -> tuple[str, ...]:
        """Names of the price lists."""
        return tuple(dict.fromkeys(stem for stem, _, _ in self._specs("prices")))

    def price_list(self, name_or_path: str | Path) -> "PriceList":
        """Price list of a name, or of a YAML file."""
        if str(name_or_path) in self.price_lists:
            return self._price_lists[str(name_or_path)]
        path = Path(name_or_path)
        if not (path.exists() or path.suffix in (".yaml", ".yml")):
            raise UnknownNameError("price list", str(name_or_path), (*self.price_lists, "a YAML file"))
        from provisioner.specs.schema import load_price_list

        return load_price_list(path, str(name_or_path))

    @cached_property
    def own_curves(self) -> Mapping[tuple[str, str], Path]:
        """The user's own curve files by (model, machine), named ``MACHINE__MODEL.csv`` like the shipped ones."""
        found: dict[tuple[str, str], Path] = {}
        for path in [] if self.own is None else sorted((Path(self.own) / "curves").glob("*.csv")):
            machine, mark, model = path.stem.partition("__")
            if not (mark and machine and model):
                raise InputError(f"{path}: must be named MACHINE__MODEL.csv, such as dgx-h100__llama2-70b.csv")
            for kind, name, known in (("machine", machine, self.machines), ("model", model, self.models)):
                if name not in known:
                    raise InputError(f"{path}: {UnknownNameError(kind, name, known)}")
            found[model, machine] = path
        return MappingProxyType(found)


SHIPPED: Final = Catalog()  # the catalog without specs of a user's own

engine = SHIPPED.engine
machine = SHIPPED.machine
model = SHIPPED.model
price_list = SHIPPED.price_list
"""Shipped engine, machine type, model and price list of a name; ``UnknownNameError`` names the nearest."""


def with_own(own: str | None) -> Catalog:
    """Catalog of the shipped specs and a user's own folder; ``InputError`` if it is no folder of specs.

    The object stays the same as long as no file of the folder changes.
    """
    if own is None:
        return SHIPPED
    folder = Path(own)
    if not folder.is_dir():
        raise InputError(f"{spelled('specs')}: must be a folder with {', '.join(OWN_FOLDERS)}, got {own}")
    parts = {**OWN_FOLDERS, ".": POWER_CAPS}
    files = sorted(path for part, names in parts.items() for path in (folder / part).glob(names))
    if not files:
        has = ", ".join(f"{part}/{names}" for part, names in OWN_FOLDERS.items())
        raise InputError(f"{spelled('specs')}: {own} has no {has}, {POWER_CAPS}")
    return _opened(own, tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=8)
def _opened(own: str, _: tuple[tuple[str, int, int], ...]) -> Catalog:
    return Catalog(own)


@lru_cache(maxsize=1)
def workloads() -> tuple[str, ...]:
    """Names of the shipped workloads."""
    return tuple(sorted(map(_STEM, data_folder("workloads").glob("*.yaml"))))


@lru_cache(maxsize=8)
def _shipped_workload(name: str) -> "Workload":
    return workload(data_folder("workloads") / f"{name}.yaml")


def workload(name_or_path: str | Path, rules: object = None) -> "Workload":
    """Workload of a shipped name, of a workload file (.yaml), or of a trace, read by the rules among options."""
    path = Path(name_or_path)
    shipped, file = str(name_or_path) in workloads(), path.suffix in (".yaml", ".yml")
    for name in getattr(rules, "OF_TRACES", ()) if shipped or file else ():
        if getattr(rules, name) not in (None, "drop", 0):
            raise InputError(f"{spelled(name)}: is of trace files, and {name_or_path} is none; leave it out")
    if shipped:
        return _shipped_workload(str(name_or_path))
    if file:
        from provisioner.specs.schema import load_workload

        return load_workload(path, str(name_or_path))
    if not path.exists() and path.suffix == "":
        raise UnknownNameError("workload", str(name_or_path), (*workloads(), "a trace file"))
    from provisioner.specs.traces import check_seed, read_trace

    if "seed" in getattr(rules, "OF_TRACES", ()):
        check_seed(path, getattr(rules, "seed", 0))
    return read_trace(path, TraceRules.of(rules or TraceRules())).workload(path.stem)
