"""Text of spec files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from provisioner.specs.model import ModelArchitecture

IMPORTED_MODEL: Final = "# Written by provision models import."
"""First line of a model file that was imported, by which the next import knows that it may replace it."""


def model_text(model: ModelArchitecture) -> str:
    """Text of a model's YAML file, which ``provisioner.specs.schema.load_model`` reads back as the same model."""
    import yaml

    content: dict[str, Any] = asdict(model)
    content["parameters"] = int(model.parameters) if model.parameters == int(model.parameters) else model.parameters
    content["sources"] = list(model.sources)
    if not model.note:
        del content["note"]
    return f"{IMPORTED_MODEL}\n" + yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
