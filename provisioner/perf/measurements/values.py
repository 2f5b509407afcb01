"""Checked values out of a result file, and the types that its reader returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import Floats, Recognised, Run, check_time
from provisioner.perf.points import CurvePoint
from provisioner.specs.catalog import Catalog, with_own
from provisioner.specs.units import parse_positive, parse_whole, quoted

PLAIN_COLUMNS: Final = ("phase", "prompt_tokens", "batch", "context_tokens")
"""Columns that a table of points needs beside its latency."""

KNOWN: Final = (
    "known are the JSON of vllm bench serve and GuideLLM, the CSV of AIPerf and genai-perf, and CSV with the columns "
    f"{', '.join(PLAIN_COLUMNS)}, latency_ms"
)


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Contents of one file: runs to identify points from, or finished points, of which none is moved."""

    recognised: Recognised
    runs: tuple[Run, ...] = ()
    points: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Replica:
    """Replica that a file is read for, and properties of its runs that the user gives and the file may lack."""

    model: str
    machine: str
    tensor_parallel: int
    input_tokens: float | None = None
    output_tokens: float | None = None
    concurrency: int | None = None
    own: Catalog | None = None

    @property
    def known(self) -> Catalog:
        """Specs by name: the shipped ones, with the user's own."""
        return self.own or with_own(None)


def recognised(shown: str, tool: str, runs: Sequence[Run]) -> Recognised:
    """Interpretation of a file; ``InputError`` if its runs are of several models."""
    models = {run.model_id for run in runs if run.model_id}
    if len(models) > 1:
        raise InputError(f"{shown}: holds runs of several models ({', '.join(sorted(models))}); one curve is of one")
    return Recognised(shown, tool, next(iter(models), ""), tuple(run.title for run in runs))


def json_object(value: Any, where: str) -> dict[str, Any]:
    """Return the value if it is a JSON object, else raise ``InputError``."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be a JSON object, got {quoted(value)}")
    return value


def nested(value: Any, *names: str) -> Any:
    """Value under nested names, None if one is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(data: Any, key: str) -> str:
    """Text under a key, empty if there is none."""
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


def positive(data: Mapping[str, Any], key: str, where: str, unit: str) -> float:
    """Number above 0 under a key; ``InputError`` names file, field and unit."""
    if key not in data:
        raise InputError(f"{where}: has no {key}")
    value = data[key]
    if isinstance(value, str):
        raise InputError(f"{where}: {key}: must be a number of {unit}, got {quoted(value)}")
    return parse_positive(value, f"{where}: {key}", unit)


def milliseconds(data: Mapping[str, Any], key: str, where: str, allowed: tuple[float, float]) -> float:
    """Time in s of a field in ms; ``InputError`` if it is not plausible."""
    given = positive(data, key, where, "ms")
    return check_time(1e-3 * given, f"{where}: {key}", f"{given:g} ms", allowed)


def count_of(data: Mapping[str, Any], key: str, where: str) -> int:
    """Whole number of requests under a key, 0 or more; ``InputError`` for anything else."""
    return parse_whole(data.get(key, math.nan), f"{where}: {key}", "requests", minimum=0)


def optional_count(data: Mapping[str, Any], key: str, where: str) -> int | None:
    """Whole number of requests under a key, 1 or more, None if there is none; ``InputError`` for anything else."""
    return None if data.get(key) is None else parse_whole(data[key], f"{where}: {key}", "requests")


def numbers(values: Any, where: str) -> Floats:
    """Finite numbers of a list, shape (n,); ``InputError`` for anything else."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: must be a list of numbers") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{where}: must be a list of finite numbers")
    return array
