"""Provenance of derived and estimated curves: rows and errors of the tables of kernels, errors of their sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from provisioner.errors import InputError
from provisioner.specs.catalog import data_folder
from provisioner.specs.model import NumberType

SERVED_RUNS: Final = 153
SERVED_TTFT_ERROR: Final = 0.243
SERVED_TPOT_ERROR: Final = 0.053
"""Mean absolute error of TTFT and TPOT from derived times against runs served by vLLM in a closed loop, as fractions.

The runs are AIConfigurator's serving samples (Apache-2.0): Qwen3-32B on H100, three of 93 in fp8, and Llama-3.1-70B
in fp8 on H200. The client's settings, which the samples do not record, were chosen by their TTFT, and the engine's
overhead was fitted to their TPOT (``derived.VLLM``). Source: ``tests/oracles/closed_loop``,
docs/explanation/validation.md.
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

    Errors are fractions, None for a table whose rows were all refused. A refused row to which a rule gives another
    time counts as used.
    """

    name: str
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
    """Tables and errors of one GPU's kernels.

    ``estimated`` maps (phase, number type) to the error of iteration times that are estimated from the GPUs ``others``,
    against the times derived from the GPU's own kernels.
    """

    gpu: str
    limits: str
    tables: tuple[OperatorTable, ...]
    others: tuple[str, ...]
    estimated: Mapping[tuple[str, str], EstimateError]


@lru_cache(maxsize=1)
def kernels_provenance() -> Mapping[str, KernelsProvenance]:
    """Provenance of all shipped kernels by GPU, from ``hardware_specs/operators/provenance.yaml``."""
    return read_kernels_provenance(data_folder("hardware_specs") / "operators" / "provenance.yaml")


def read_kernels_provenance(path: Path) -> dict[str, KernelsProvenance]:
    """Provenance of kernels by GPU from its YAML file; ``InputError`` names file and field."""
    import yaml

    name = f"hardware_specs/operators/{path.name}"
    try:
        content: dict[str, Any] = yaml.load(  # a safe loader, in C where libyaml is there
            path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error
    try:
        return {str(gpu): _kernels(str(gpu), fields) for gpu, fields in content["gpus"].items()}
    except KeyError as error:
        raise InputError(f"{name}: {error.args[0]}: is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: does not have the form of a provenance file: {error}") from None


def _kernels(gpu: str, fields: Mapping[str, Any]) -> KernelsProvenance:
    others = fields["estimated_from_others"]
    estimated = {
        (phase, dtype): EstimateError(float(error["error_median"]), float(error["error_p95"]))
        for key, error in others.items()
        if key != "from"
        for phase, dtype in [key.split()]
    }
    tables = tuple(_table(name, table) for name, table in fields["tables"].items())
    return KernelsProvenance(gpu, str(fields["limits"]), tables, tuple(others["from"]), estimated)


def _table(name: str, fields: Mapping[str, Any]) -> OperatorTable:
    refused = tuple(
        Refusal(rule, int(rows["rows"]), tuple(rows["examples"])) for rule, rows in fields.get("refused", {}).items()
    )
    used = int(fields.get("rows_used", 0))
    median, p95 = (float(fields[field]) if used else None for field in ("error_median", "error_p95"))
    return OperatorTable(name, int(fields["rows"]), used, median, p95, refused)


def estimate_errors(phase: str, dtype: NumberType) -> tuple[EstimateError, ...]:
    """Errors of estimates for the GPUs whose kernels are known, each estimated from the others, in their order."""
    errors = (gpu.estimated.get((phase, dtype)) for gpu in kernels_provenance().values())
    return tuple(error for error in errors if error is not None)
