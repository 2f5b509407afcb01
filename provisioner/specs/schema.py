"""File formats of the specs: YAML files read, checked by pydantic, and turned into the dataclasses.

A file has the fields and types of its dataclass, which also states the ranges. Every failure becomes one
line: ``hardware_specs/machines/x.yaml: memory_gib_per_gpu: must be above 0 GiB, got -3``.
"""

import builtins
import dataclasses
import datetime
import types
import typing
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from provisioner.errors import InputError
from provisioner.specs.hardware import Machine
from provisioner.specs.lengths import FloatArray
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.power_caps import PowerCap, PowerCaps
from provisioner.specs.prices import MachinePrice, PriceList
from provisioner.specs.units import parse_number, parse_positive, quoted, unit_of
from provisioner.specs.workload import ArrivalProfile, Workload

# A spec is a page of text; a far larger file is a wrong one.
MAX_SPEC_BYTES = 4_000_000
# The compiled YAML loader is ten times faster, but tens of thousands of nested brackets exhaust its stack and
# end the process; the other one raises RecursionError.
MAX_COMPILED_BYTES = 10_000


def _number(value: object) -> object:
    """Convert text that is a number to this number, since YAML 1.1 reads 70e9 (no dot, no sign) as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number)]
Date = Annotated[str, BeforeValidator(lambda value: value.isoformat() if isinstance(value, datetime.date) else value)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _as_in_file(kind: Any) -> Any:
    """Type of a field in a YAML file, from its type in a dataclass: numbers may be text, tuples are lists."""
    if kind is float:
        return Number
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return file_of(kind)
    arguments = [_as_in_file(argument) for argument in get_args(kind)]
    match get_origin(kind):
        case None:
            return kind
        case typing.Literal:  # the dataclass refuses others, naming the allowed values
            return str
        case types.UnionType:
            return arguments[0] | None
        case builtins.tuple:
            return list[arguments[0]]  # type: ignore[valid-type]
        case _:
            return dict[arguments[0], arguments[1]]  # type: ignore[valid-type]


def file_of(spec: type, without: Collection[str] = (), **others: Any) -> Any:
    """Model of a YAML file with the fields of a dataclass, and ``others`` (type, default) in place or in addition.

    Defaults are the dataclass's, but ``sources`` are required, and a field that may be None may be missing.
    """
    fields: dict[str, Any] = {}
    hints = get_type_hints(spec)
    for field in dataclasses.fields(spec):
        if field.name in without:
            continue
        kind, default = hints[field.name], field.default
        if default is dataclasses.MISSING or field.name == "sources":
            default = None if types.NoneType in get_args(kind) else ...
        fields[field.name] = (_as_in_file(kind), default)
    return create_model(f"{spec.__name__}File", __base__=_File, **fields | others)


BINS: Final[Mapping[str, str]] = {
    "prompt_low": "prompt_low",
    "prompt_high": "prompt_high",
    "prompt_mean": "prompt_tokens",
    "output_low": "output_low",
    "output_high": "output_high",
    "output_mean": "output_tokens",
    "count": "weight",
}
"""Columns of a table of bins, with the field of ``Workload`` that each holds."""

MachineFile = file_of(Machine)
ModelFile = file_of(ModelArchitecture)
PowerCapsFile = file_of(PowerCaps, title=(str, ""), note=(str, ""))
PriceFile = file_of(PriceList, name=(str, ""), title=(str, ""), date=(Date, ""))
WorkloadFile = file_of(Workload, without=BINS.values(), bins=(str, ...))

_FileT = TypeVar("_FileT", bound=_File)
_SpecT = TypeVar("_SpecT")


def read_yaml(path: Path, shown: str) -> dict[str, Any]:
    """Mapping of a YAML file, which messages name ``shown``; ``InputError`` if it cannot be read or is no mapping."""
    try:
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise InputError(f"{shown}: is {path.stat().st_size:,} bytes, too large for a YAML spec")
        text = path.read_text(encoding="utf-8")
        compiled = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        loader: Any = compiled if len(text) <= MAX_COMPILED_BYTES else yaml.SafeLoader
        content = yaml.load(text, Loader=loader)
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise InputError(f"{shown}: is not a YAML text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise InputError(f"{shown}:{where} is not valid YAML: {problem}") from None
    except RecursionError:
        raise InputError(f"{shown}: is nested too deeply") from None
    if not isinstance(content, dict):
        kind = "is empty" if content is None else f"holds a {type(content).__name__}"
        raise InputError(f"{shown}: {kind}; must be a YAML mapping of fields to values")
    return content


def check_file(file: type[_FileT], content: dict[str, Any], shown: str) -> _FileT:
    """Content as a checked model of its file; ``InputError`` is one line with file, field, value and unit."""
    try:
        return file.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{shown}: {_one_line(file, error)}") from None


_MUST_BE = {
    "float": "a number",
    "int": "a whole number",
    "string": "a text",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}


def _one_line(file: type[_File], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"] if part != "[key]")
    kind = first["type"]
    value = first["input"]
    if kind == "missing":
        return f"{field}: is missing{_of_unit(field, ' (in {})')}"
    if kind == "extra_forbidden":
        near = get_close_matches(field, file.model_fields, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}{_of_unit(near[0], ' (in {})')}?" if near else ""
        return f"{field}: unknown field, got {quoted(value)}{hint}"
    wanted = _MUST_BE.get(kind.split("_")[0])
    if wanted is None:
        return f"{field}: {first['msg']}, got {quoted(value)}"
    return f"{field}: must be {wanted}{_of_unit(field, ' of {}')}, got {quoted(value)}"


def _of_unit(field: str, template: str) -> str:
    unit = unit_of(field)
    return template.format(unit) if unit else ""


def _built(build: Callable[[], _SpecT], where: str, dropped: str) -> _SpecT:
    """Build a dataclass; ``where`` replaces ``dropped`` at the start of its error."""
    try:
        return build()
    except InputError as error:
        raise InputError(f"{where}{str(error).removeprefix(dropped)}") from None


def _fields(file: _File) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in file.model_dump().items()}


def load_machine(path: Path, shown: str) -> Machine:
    """Machine of a YAML file."""
    file = check_file(MachineFile, read_yaml(path, shown), shown)
    return _built(partial(Machine, **_fields(file)), f"{shown}: ", f"machine {file.name}: ")


def load_model(path: Path, shown: str) -> ModelArchitecture:
    """Model of a YAML file."""
    file = check_file(ModelFile, read_yaml(path, shown), shown)
    return _built(partial(ModelArchitecture, **_fields(file)), f"{shown}: ", f"model {file.name}: ")


def load_power_caps(path: Path, shown: str) -> PowerCaps:
    """Power caps and their slowdowns of a YAML file."""
    file = check_file(PowerCapsFile, read_yaml(path, shown), shown)
    rows = [
        _built(partial(PowerCap, **row.model_dump()), f"{shown}: rows.{number}: ", "")
        for number, row in enumerate(file.rows, start=1)
    ]
    return _built(partial(PowerCaps, tuple(rows), tuple(file.sources)), f"{shown}: ", "")


def load_price_list(path: Path, shown: str) -> PriceList:
    """Price list of a YAML file; the default name is the file's."""
    file = check_file(PriceFile, read_yaml(path, shown), shown)
    if not file.machines:
        raise InputError(
            f"{shown}: machines: has no prices; give cost_usd_per_h and provisioned_power_w of each machine"
        )
    prices = {
        machine: _built(partial(MachinePrice, **price.model_dump()), f"{shown}: machines.{machine}.", "price: ")
        for machine, price in file.machines.items()
    }
    name = file.name or path.stem
    return PriceList(**file.model_dump() | {"name": name, "title": file.title or name, "machines": prices})


IMPORTED_MODEL: Final = "# Written by provision models import."
"""First line of a model file that was imported, by which the next import knows that it may replace it."""


def model_text(model: ModelArchitecture) -> str:
    """Text of a model's YAML file, which ``load_model`` reads back as the same model."""
    content = dataclasses.asdict(model)
    content["parameters"] = int(model.parameters) if model.parameters == int(model.parameters) else model.parameters
    content["sources"] = list(model.sources)
    if not model.note:
        del content["note"]
    return f"{IMPORTED_MODEL}\n{_yaml_text(content)}"


def _yaml_text(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)


def load_workload(path: Path, shown: str) -> Workload:
    """Workload of a YAML file and of the table of bins beside it that it names."""
    file = check_file(WorkloadFile, read_yaml(path, shown), shown)
    if Path(file.bins).name != file.bins:
        raise InputError(f"{shown}: bins: must be the name of a file beside it, got {file.bins!r}")
    table = _read_bins(path.parent / file.bins, str(Path(shown).parent / file.bins))
    fields = _fields(file) | {field: table[:, k] for k, field in enumerate(BINS.values())}
    del fields["bins"]
    if file.arrivals is not None:
        fields["arrivals"] = ArrivalProfile(**_fields(file.arrivals))
    return _built(partial(Workload, **fields), f"{shown}: ", f"workload {file.name}: ")


def _read_bins(path: Path, shown: str) -> FloatArray:
    """Table of bins, a row per class and a column per key of ``BINS``; ``InputError`` names file, line and column."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{shown}: is not a text file") from None
    header = ",".join(BINS)
    if lines[0].strip() != header:
        raise InputError(f"{shown}: line 1: must be {header}, got {quoted(lines[0])}")
    rows = [(number, line.split(",")) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if not rows:
        raise InputError(f"{shown}: has no bins")
    try:
        table = np.array([row for _, row in rows], dtype=np.float64)
    except ValueError:
        table = np.empty((0, 0))
    if table.shape != (len(rows), len(BINS)) or not np.isfinite(table).all():
        for number, row in rows:
            where = f"{shown}: line {number}"
            if len(row) != len(BINS):
                raise InputError(f"{where}: has {len(row)} columns, must have {len(BINS)}")
            for column, value in zip(BINS, row, strict=True):
                parse_number(value, f"{where}: {column}")
    return table


UNMEASURED_REQUESTS = 1_000_000
"""Sum of the counts in a saved workload without a trace, whose number of requests is unknown."""


def save_workload(
    workload: Workload, folder: Path, comment: str = "", requests: int | None = None
) -> tuple[Path, Path]:
    """Write a workload as ``<name>.yaml`` and ``<name>.csv`` in a folder; return the paths of both.

    ``comment`` goes to the top of the YAML file; ``requests`` is the sum of the bins' counts, by default the trace's.
    ``load_workload`` gives the workload back, its means to four decimals, measured values to six digits.
    """
    arrivals = workload.arrivals
    if requests is None:
        requests = arrivals.requests if arrivals is not None and arrivals.requests else UNMEASURED_REQUESTS
    parse_positive(requests, f"workload {workload.name}: requests")
    content: dict[str, Any] = {
        "name": workload.name,
        "title": workload.title,
        "rate_rps": _rounded(workload.rate_rps),
        "cv": _rounded(workload.cv),
        "bins": f"{workload.name}.csv",
        "context_share_reused": _rounded(workload.context_share_reused),
        "sources": list(workload.sources),
        "note": workload.note or None,
        "arrivals": arrivals
        and {
            "duration_s": _rounded(arrivals.duration_s, 9),
            "requests": arrivals.requests,
            "mean_rate_rps": _rounded(arrivals.mean_rate_rps),
            "cv": _rounded(arrivals.cv),
            "index_of_dispersion": {k: _rounded(v) for k, v in arrivals.index_of_dispersion.items()},
            "rate_by_minute_rps": [_rounded(rate, 5) for rate in arrivals.rate_by_minute_rps],
        },
    }
    content = {field: value for field, value in content.items() if value is not None}
    text_of = {"mean": _mean, "count": lambda weight: f"{weight * requests:.10g}"}
    columns = (map(text_of.get(name.split("_")[-1], str), getattr(workload, BINS[name])) for name in BINS)
    rows = [",".join(BINS), *map(",".join, zip(*columns, strict=True))]
    header = "".join(f"# {line}\n" for line in comment.splitlines())
    paths = folder / f"{workload.name}.yaml", folder / f"{workload.name}.csv"
    paths[0].write_text(header + _yaml_text(content), encoding="utf-8")
    paths[1].write_text("\n".join(rows) + "\n", encoding="utf-8")
    return paths


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _mean(tokens: float) -> str:
    return f"{tokens:.4f}".rstrip("0").rstrip(".")
