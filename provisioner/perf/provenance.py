"""Provenance of the shipped curves: source, licence, method, and the error of repeats left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from provisioner.errors import InputError
from provisioner.specs.catalog import data_folder


@dataclass(frozen=True, slots=True)
class RepeatError:
    """Error when repeats are left out at random, as fractions: of the prompt and of the decode time."""

    prompt_mape: float
    prompt_max: float
    decode_mape: float
    decode_max: float


@dataclass(frozen=True, slots=True)
class CurveProvenance:
    """Provenance of the shipped set of curves.

    ``assumed`` maps a machine whose times the source assumes to its assumption; ``repeats`` maps (model,
    machine, tensor parallelism) to the error of repeats left out.
    """

    title: str
    url: str
    licence: str
    date: str
    paper: str
    obtained: str
    assumed: Mapping[str, str]
    repeats: Mapping[tuple[str, str, int], RepeatError]

    def sources(self, machine: str) -> tuple[str, ...]:
        """Source lines for the curves of one machine."""
        source = f"{self.title} ({self.url}, {self.licence}, {self.date})"
        if machine in self.assumed:
            return source, f"{machine}: assumed, {self.assumed[machine]}"
        return (source,)


@lru_cache(maxsize=1)
def load_provenance() -> CurveProvenance:
    """Provenance of the shipped curves, from ``hardware_specs/curves/provenance.yaml``."""
    return read_provenance(data_folder("hardware_specs") / "curves" / "provenance.yaml")


def read_provenance(path: Path) -> CurveProvenance:
    """Provenance of a set of curves from its YAML file; ``InputError`` names file and field."""
    import yaml

    name = f"hardware_specs/curves/{path.name}"
    try:
        content: dict[str, Any] = yaml.load(  # a safe loader, in C where libyaml is there
            path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error
    try:
        errors = content["leave_out_repeats"]["groups"]
        return CurveProvenance(
            **{field: str(content[field]) for field in ("title", "url", "licence", "date", "paper", "obtained")},
            assumed={str(machine): str(text) for machine, text in content["assumed"].items()},
            repeats={
                (row["model"], row["machine"], int(row["tensor_parallel"])): RepeatError(
                    **{error: float(row[error]) for error in RepeatError.__dataclass_fields__}
                )
                for row in errors
            },
        )
    except KeyError as error:
        raise InputError(f"{name}: {error.args[0]}: is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: does not have the form of a provenance file: {error}") from None
