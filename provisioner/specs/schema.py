"""File formats of the specs: YAML files read, checked by pydantic, and turned into the dataclasses.

A file has the fields and types of its dataclass, which also states the ranges. Every failure becomes one
line: ``hardware_specs/machines/x.yaml: memory_gib_per_gpu: must be above 0 GiB, got -3``.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Strict, ValidationError, create_model

from provisioner.errors import InputError
from provisioner.files import read_text, write_files
from provisioner.specs.engine import Engine
from provisioner.specs.hardware import InstanceList, Machine
from provisioner.specs.lengths import FloatArray, Lengths
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.power_caps import PowerCaps
from provisioner.specs.prices import PriceList
from provisioner.specs.units import parse_number, parse_positive, quoted, unit_of
from provisioner.specs.workload import Workload

MAX_SPEC_BYTES = 4_000_000  # a spec is a page of text; a far larger file is a wrong one
# The compiled YAML loader is ten times faster, but tens of thousands of nested brackets exhaust its stack and
# end the process; the other one raises RecursionError.
MAX_COMPILED_BYTES = 10_000

_SpecT = TypeVar("_SpecT")


def _number(value: object) -> object:
    """Convert text that is a number to this number, since YAML 1.1 reads 70e9 (no dot, no sign) as text."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


BINS: Final = ("prompt_low", "prompt_high", "prompt_mean", "output_low", "output_high", "output_mean", "count")
"""Columns of a table of bins: the bounds and the mean of each side of a class of requests, and their number."""

_IN_FILE: Final[Mapping[Any, Any]] = {
    bool: Annotated[bool, Strict()],
    int: Annotated[int, Strict()],
    float: Annotated[float, Strict(), BeforeValidator(_number)],
    str: Annotated[str, BeforeValidator(lambda value: value.isoformat() if isinstance(value, date) else value)],
}
"""Types of plain values in a file: true is not 1 there, a date is text."""

# What an error of a dataclass begins with; a file names the place in it instead.
_NAMED: Final = re.compile(r"^(?:(?:machine|model|workload|engine) [^:]*|price|power cap): ")


def _built(spec: type[_SpecT], content: Any) -> _SpecT:
    """A dataclass of checked fields; pydantic adds the place in the file to a ``ValueError``."""
    try:
        return spec(**dict(content))
    except InputError as error:
        raise ValueError(_NAMED.sub("", str(error))) from None


def _in_file(kind: Any) -> Any:
    """Type of a field in a file, from its type in a dataclass."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return Annotated[_file_of(kind), AfterValidator(partial(_built, kind))]
    if get_origin(kind) is typing.Literal:  # the dataclass refuses others, naming the allowed values
        return str
    origin = typing.Union if isinstance(kind, types.UnionType) else get_origin(kind)
    return origin[tuple(map(_in_file, get_args(kind)))] if origin else _IN_FILE.get(kind, kind)


def _file_of(spec: Any) -> type[BaseModel]:
    """Model of a YAML file with the fields of a dataclass; a workload's arrays are in a file that it names.

    Defaults are the dataclass's, but ``sources`` are required, and a field that may be None may be missing.
    """
    fields: dict[str, Any] = {"bins": (str, ...)} if spec is Workload else {}
    hints = get_type_hints(spec)
    for field in dataclasses.fields(spec):
        if spec is Workload and field.name in ("weight", "prompt", "output"):
            continue
        kind, default = hints[field.name], field.default
        if default is dataclasses.MISSING or field.name == "sources":
            default = None if types.NoneType in get_args(kind) else ...
        fields[field.name] = (_in_file(kind), default)
    return create_model(f"{spec.__name__}File", __config__={"extra": "forbid", "frozen": True}, **fields)


_FILES: Final[Mapping[type, type[BaseModel]]] = {
    spec: _file_of(spec) for spec in (Engine, InstanceList, Machine, ModelArchitecture, PowerCaps, PriceList, Workload)
}


def read_yaml(path: Path, shown: str) -> dict[str, Any]:
    """Mapping of a YAML file, which messages name ``shown``; ``InputError`` if it cannot be read or is no mapping."""
    text = read_text(path, MAX_SPEC_BYTES, shown, "YAML text file")
    try:
        compiled = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        loader: Any = compiled if len(text) <= MAX_COMPILED_BYTES else yaml.SafeLoader
        content = yaml.load(text, Loader=loader)
    except yaml.reader.ReaderError:
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


_MUST_BE = {"float": "a number", "int": "a whole number", "string": "a text", "tuple": "a list", "dict": "a mapping"}
_MUST_BE["model"] = _MUST_BE["dict"]


def _one_line(file: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"] if part != "[key]")
    kind, value = first["type"], first["input"]
    if kind == "value_error":
        return f"{field}.{first['ctx']['error']}"
    if kind == "missing":
        return f"{field}: is missing{_of_unit(field, ' (in {})')}"
    if kind == "extra_forbidden":
        near = get_close_matches(field, file.model_fields, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}{_of_unit(near[0], ' (in {})')}?" if near else ""
        return f"{field}: unknown field, got {quoted(value)}{hint}"
    wanted = _MUST_BE.get(kind.split("_")[0])
    must = f"must be {wanted}{_of_unit(field, ' of {}')}" if wanted else first["msg"]
    return f"{field}: {must}, got {quoted(value)}"


def _of_unit(field: str, template: str) -> str:
    unit = unit_of(field)
    return template.format(unit) if unit else ""


def _load(spec: type[_SpecT], path: Path, shown: str) -> _SpecT:
    """A spec of a YAML file, and of the table of bins beside it that a workload names."""
    file, content = _FILES[spec], read_yaml(path, shown)
    try:
        fields = dict(file.model_validate(content))
        if "bins" in fields:
            fields |= _read_bins(path, shown, fields.pop("bins"))
        return _built(spec, fields)
    except ValidationError as error:
        raise InputError(f"{shown}: {_one_line(file, error)}") from None
    except ValueError as error:
        raise InputError(f"{shown}: {error}") from None


load_engine: Final = partial(_load, Engine)
load_instances: Final = partial(_load, InstanceList)
load_machine: Final = partial(_load, Machine)
load_model: Final = partial(_load, ModelArchitecture)
load_power_caps: Final = partial(_load, PowerCaps)
load_workload: Final = partial(_load, Workload)
"""Specs of a YAML file, given with the path that messages show."""


def load_price_list(path: Path, shown: str) -> PriceList:
    """Price list of a YAML file; the default name is the file's."""
    prices = _load(PriceList, path, shown)
    if not prices.machines:
        raise InputError(
            f"{shown}: machines: has no prices; give cost_usd_per_h and provisioned_power_w of each machine"
        )
    name = prices.name or path.stem
    return dataclasses.replace(prices, name=name, title=prices.title or name)


def _read_bins(beside: Path, shown: str, name: str) -> dict[str, FloatArray | Lengths]:
    """Classes of a workload from the table of bins beside its file; ``InputError`` names file, line and column."""
    if Path(name).name != name:
        raise InputError(f"{shown}: bins: must be the name of a file beside it, got {name!r}")
    shown = str(Path(shown).parent / name)
    header, *lines = read_text(beside.with_name(name), shown=shown).split("\n")
    if header.strip() != ",".join(BINS):
        raise InputError(f"{shown}: line 1: must be {','.join(BINS)}, got {quoted(header)}")
    table = []
    for number, line in enumerate(lines, start=2):
        if row := line.split(",") if line.strip() else []:
            where = f"{shown}: line {number}"
            if len(row) != len(BINS):
                raise InputError(f"{where}: has {len(row)} columns, must have {len(BINS)}")
            table.append([parse_number(cell, f"{where}: {column}") for column, cell in zip(BINS, row, strict=True)])
    if not table:
        raise InputError(f"{shown}: has no bins")
    columns = np.array(table).T.copy()
    prompt, output = (
        Lengths(mean, low.astype(np.int64), high.astype(np.int64)) for low, high, mean in (columns[:3], columns[3:6])
    )
    return {"weight": columns[6], "prompt": prompt, "output": output}


IMPORTED_MODEL: Final = "# Written by provision models import."
"""First line of a model file that was imported, by which the next import knows that it may replace it."""


def model_text(model: ModelArchitecture) -> str:
    """Text of a model's YAML file, which ``load_model`` reads back as the same model."""
    stated = ((name, value) for name, value in dataclasses.asdict(model).items() if value not in (None, "", ()))
    content = {name: list(value) if isinstance(value, tuple) else value for name, value in stated}
    content["parameters"] = int(model.parameters) if model.parameters == int(model.parameters) else model.parameters
    return f"{IMPORTED_MODEL}\n{_yaml_text(content)}"


def _yaml_text(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)


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
        requests = (arrivals.requests if arrivals else 0) or UNMEASURED_REQUESTS
    parse_positive(requests, f"workload {workload.name}: requests")
    measured = () if arrivals is None or arrivals.peak_rate_rps is None else ("peak_rate_rps", "cv_within_windows")
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
            **{name: _rounded(getattr(arrivals, name)) for name in ("mean_rate_rps", "cv", *measured)},
            "index_of_dispersion": {k: _rounded(v) for k, v in arrivals.index_of_dispersion.items()},
            "rate_by_minute_rps": [_rounded(rate, 5) for rate in arrivals.rate_by_minute_rps],
        },
    }
    content = {field: value for field, value in content.items() if value is not None}
    text_of = {"mean": lambda tokens: f"{round(tokens, 4):.15g}", "count": lambda weight: f"{weight * requests:.10g}"}
    sides = ((lengths.low, lengths.high, lengths.tokens) for lengths in (workload.prompt, workload.output))
    arrays = (*chain(*sides), workload.weight)
    columns = (map(text_of.get(name.split("_")[-1], str), array) for name, array in zip(BINS, arrays, strict=True))
    rows = [",".join(BINS), *map(",".join, zip(*columns, strict=True))]
    header = "".join(f"# {line}\n" for line in comment.splitlines())
    paths = folder / f"{workload.name}.yaml", folder / f"{workload.name}.csv"
    texts = header + _yaml_text(content), "\n".join(rows) + "\n"
    write_files(dict(zip(map(str, paths), texts, strict=True)), "--out")
    return paths


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
