"""Checked values out of the JSON of a result file."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements.runs import Floats, check_time
from provisioner.specs.units import parse_non_negative, parse_positive, parse_whole, quoted

PLAIN_COLUMNS: Final = ("phase", "prompt_tokens", "batch", "context_tokens")  # of a table of points, with its latency
KNOWN: Final = (
    "known are results of vLLM, SGLang, GuideLLM, AIPerf, genai-perf, inference-perf, llm-d and InferenceX, and CSV "
    f"with the columns {', '.join(PLAIN_COLUMNS)}, latency_ms"
)
SECONDS: Final = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6, "ns": 1e-9}  # units of times in files


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object of a file: ``InputError`` for a value that is not as asked for names file, field and unit."""

    where: str
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise InputError(f"{self.where}: must be a JSON object, got {quoted(self.values)}")

    def at(self, path: str) -> Any:
        """Value at a path of names joined by dots, None if there is none."""
        return nested(self.values, *path.split(".")) if path else None

    def positive(self, path: str, unit: str, parse: Callable[[Any, str, str], float] = parse_positive) -> float:
        """Number above 0, or as ``parse`` asks for."""
        value = self.at(path)
        if value is None:
            raise InputError(f"{self.where}: has no {path}")
        if isinstance(value, str):
            raise InputError(f"{self.where}: {path}: must be a number of {unit}, got {quoted(value)}")
        return parse(value, f"{self.where}: {path}", unit)

    def seconds(self, path: str, allowed_s: tuple[float, float], unit: str = "ms") -> float:
        """Time in s of a field in ``unit``, in a plausible range; of 0 only if the range begins there."""
        given = self.positive(path, unit, parse_positive if allowed_s[0] else parse_non_negative)
        return check_time(SECONDS[unit] * given, f"{self.where}: {path}", f"{given:g} {unit}", allowed_s)

    def unit(self, path: str) -> str:
        """Unit of time that the object at a path states beside its values."""
        unit = (text(self.at(path), "unit") or text(self.at(path), "units")).partition("/")[0]
        if unit not in SECONDS:
            raise InputError(f"{self.where}: {path}: must state its unit ({', '.join(SECONDS)})")
        return unit

    def count(self, path: str, minimum: int = 0) -> int:
        """Whole number of requests of at least ``minimum``."""
        value = self.at(path)
        return parse_whole(math.nan if value is None else value, f"{self.where}: {path}", "requests", minimum)

    def count_if_any(self, path: str, minimum: int = 1) -> int | None:
        """Whole number of requests of at least ``minimum``; None if there is none, or no limit."""
        return None if self.at(path) in (None, math.inf) else self.count(path, minimum)


def objects_of(shown: str, kind: str, values: Sequence[Any]) -> list[Fields]:
    """JSON objects of a file; messages number them if there are several."""
    several = len(values) > 1
    return [Fields(f"{shown}: {kind} {k}" if several else shown, value) for k, value in enumerate(values, start=1)]


def nested(value: Any, *names: str) -> Any:
    """Value under nested names, None if one is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def listed(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any, *names: str) -> str:
    """Text under nested names, empty if there is none."""
    found = nested(value, *names)
    return found if isinstance(found, str) else ""


def number(value: Any, *names: str) -> float | None:
    """Finite number under nested names, None if there is none."""
    found = nested(value, *names)
    return found if isinstance(found, int | float) and abs(found) <= sys.float_info.max else None


def numbers(values: Any, where: str) -> Floats:
    """Numbers of a list whose squares are finite, shape (n,); ``InputError`` for anything else."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: must be a list of numbers") from None
    if array.ndim != 1 or not (np.abs(array) < math.sqrt(sys.float_info.max)).all():
        raise InputError(f"{where}: must be a list of finite numbers")
    return array
