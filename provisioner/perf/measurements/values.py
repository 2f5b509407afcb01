"""Checked values out of the JSON of a result file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import Floats, check_time
from provisioner.specs.units import parse_positive, parse_whole, quoted

PLAIN_COLUMNS: Final = ("phase", "prompt_tokens", "batch", "context_tokens")
"""Columns that a table of points needs beside its latency."""

KNOWN: Final = (
    "known are the JSON of vllm bench serve and GuideLLM, the CSV of AIPerf and genai-perf, and CSV with the columns "
    f"{', '.join(PLAIN_COLUMNS)}, latency_ms"
)


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object of a file: ``InputError`` for a value that is not as asked for names file, field and unit."""

    where: str
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise InputError(f"{self.where}: must be a JSON object, got {quoted(self.values)}")

    def positive(self, key: str, unit: str) -> float:
        """Number above 0."""
        if key not in self.values:
            raise InputError(f"{self.where}: has no {key}")
        value = self.values[key]
        if isinstance(value, str):
            raise InputError(f"{self.where}: {key}: must be a number of {unit}, got {quoted(value)}")
        return parse_positive(value, f"{self.where}: {key}", unit)

    def seconds(self, key: str, allowed_s: tuple[float, float]) -> float:
        """Time in s of a field in ms, in a plausible range."""
        given = self.positive(key, "ms")
        return check_time(1e-3 * given, f"{self.where}: {key}", f"{given:g} ms", allowed_s)

    def count(self, key: str, minimum: int = 0) -> int:
        """Whole number of requests of at least ``minimum``."""
        return parse_whole(self.values.get(key, math.nan), f"{self.where}: {key}", "requests", minimum)

    def count_if_any(self, key: str) -> int | None:
        """Whole number of requests, 1 or more; None if there is none."""
        return None if self.values.get(key) is None else self.count(key, minimum=1)


def objects_of(shown: str, kind: str, values: Sequence[Any]) -> list[Fields]:
    """JSON objects of a file; messages number them if there are several."""
    several = len(values) > 1
    return [Fields(f"{shown}: {kind} {k}" if several else shown, value) for k, value in enumerate(values, start=1)]


def nested(value: Any, *names: str) -> Any:
    """Value under nested names, None if one is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: Any, *names: str) -> str:
    """Text under nested names, empty if there is none."""
    found = nested(value, *names)
    return found if isinstance(found, str) else ""


def number(value: Any, *names: str) -> float | None:
    """Finite number under nested names, None if there is none."""
    found = nested(value, *names)
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def numbers(values: Any, where: str) -> Floats:
    """Finite numbers of a list, shape (n,); ``InputError`` for anything else."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: must be a list of numbers") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{where}: must be a list of finite numbers")
    return array
