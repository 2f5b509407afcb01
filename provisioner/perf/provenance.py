"""Provenance of the shipped curves and kernels: source, licence, method, and errors, from their YAML files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from provisioner.errors import InputError
from provisioner.specs.shipped import data_folder

_Provenance = TypeVar("_Provenance")


def _read(path: Path, build: Callable[[dict[str, Any]], _Provenance]) -> _Provenance:
    """Provenance built from the content of a YAML file; ``InputError`` names file and field."""
    name = f"hardware_specs/{path.parent.name}/{path.name}"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where libyaml is there
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error
    try:
        return build(content)
    except KeyError as error:
        raise InputError(f"{name}: {error.args[0]}: is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: does not have the form of a provenance file: {error}") from None


@dataclass(frozen=True, slots=True)
class RepeatError:
    """Error when repeats are left out at random, as fractions: of the prompt and of the decode time."""

    prompt_mape: float
    prompt_max: float
    decode_mape: float
    decode_max: float


@dataclass(frozen=True, slots=True)
class CurveProvenance:
    """Provenance of a set of curves, with assumptions by machine and errors of repeats left out by group of curves."""

    title: str
    url: str
    licence: str
    date: str
    assumed: Mapping[str, str]
    repeats: Mapping[tuple[str, str, int], RepeatError]

    def sources(self, machine: str) -> tuple[str, ...]:
        """Source lines for the curves of one machine."""
        source = f"{self.title} ({self.url}, {self.licence}, {self.date})"
        if machine in self.assumed:
            return source, f"{machine}: assumed, {self.assumed[machine]}"
        return (source,)


@cache
def load_provenance(path: Path | None = None) -> CurveProvenance:
    """Provenance of a set of curves, the shipped one by default; ``InputError`` names file and field."""
    return _read(path or data_folder("hardware_specs") / "curves" / "provenance.yaml", _curves)


def _curves(content: Mapping[str, Any]) -> CurveProvenance:
    return CurveProvenance(
        **{field: str(content[field]) for field in ("title", "url", "licence", "date")},
        assumed={str(machine): str(text) for machine, text in content["assumed"].items()},
        repeats={
            (row["model"], row["machine"], int(row["tensor_parallel"])): RepeatError(
                **{error: float(row[error]) for error in RepeatError.__dataclass_fields__}
            )
            for row in content["leave_out_repeats"]["groups"]
        },
    )


SERVED_RUNS: Final = 153
SERVED_TTFT_ERROR: Final = 0.243
SERVED_TPOT_ERROR: Final = 0.053
"""Mean absolute error of TTFT and TPOT from derived times against runs served by vLLM in a closed loop, as fractions.

The runs are AIConfigurator's serving samples (Apache-2.0) of Qwen3-32B on H100 and Llama-3.1-70B on H200. Source:
``tests/oracles/closed_loop``, docs/explanation/validation.md.
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows that a rule refused or replaced, with the first two of them."""

    rule: str
    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """One table of an operator, such as ``gemm bf16``: rows measured, rows it was fitted to, and its error on them.

    ``software`` is the engine or library that ran them, with its version. Errors are fractions, None if all rows were
    refused. A refused row to which a rule gives another time is used.
    """

    name: str
    software: str
    rows: int
    rows_used: int
    error_median: float | None
    error_p95: float | None
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class EstimateError:
    """Error of an estimate, as fractions: median and 95th percentile."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class KernelsProvenance:
    """Tables of one GPU's kernels, and by (phase, number type) errors of times ``estimated`` from other GPUs."""

    gpu: str
    limits: str
    tables: tuple[OperatorTable, ...]
    estimated: Mapping[tuple[str, str], EstimateError]


@cache
def kernels_provenance(path: Path | None = None) -> Mapping[str, KernelsProvenance]:
    """Provenance of kernels by GPU, of the shipped ones by default; ``InputError`` names file and field."""
    return _read(
        path or data_folder("hardware_specs") / "operators" / "provenance.yaml",
        lambda content: {str(gpu): _kernels(str(gpu), fields) for gpu, fields in content["gpus"].items()},
    )


def _kernels(gpu: str, fields: Mapping[str, Any]) -> KernelsProvenance:
    estimated = {
        tuple(case.split()): EstimateError(float(error["error_median"]), float(error["error_p95"]))
        for case, error in fields["estimated_from_others"].items()
        if case != "from"
    }
    tables = tuple(
        _table(name, " ".join(source.rsplit("-", 1)), table)
        for source, named in fields["tables"].items()
        for name, table in named.items()
    )
    return KernelsProvenance(gpu, str(fields["limits"]), tables, estimated)


def _table(name: str, software: str, fields: Mapping[str, Any]) -> OperatorTable:
    refused = tuple(
        Refusal(rule, int(rows["rows"]), tuple(rows["examples"])) for rule, rows in fields.get("refused", {}).items()
    )
    used = int(fields.get("rows_used", 0))
    median, p95 = (float(fields[field]) if used else None for field in ("error_median", "error_p95"))
    return OperatorTable(name, software, int(fields["rows"]), used, median, p95, refused)
