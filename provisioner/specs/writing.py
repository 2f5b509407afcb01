"""Specs as the text of their files."""

from __future__ import annotations

from typing import Any, Final

from provisioner.specs.model import ModelArchitecture

IMPORTED_MODEL: Final = "# Written by provision models import."
"""First line of a model file that was imported, by which the next import knows that it may replace it."""


def model_text(model: ModelArchitecture) -> str:
    """A model as its YAML file, which ``provisioner.specs.schema.load_model`` reads back as the same model."""
    import yaml

    content: dict[str, Any] = {
        "name": model.name,
        "title": model.title,
        "layers": model.layers,
        "hidden_size": model.hidden_size,
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.intermediate_size,
        "gated_mlp": model.gated_mlp,
        "vocab_size": model.vocab_size,
        "positions": model.positions,
        "norm": model.norm,
        "tied_embeddings": model.tied_embeddings,
        "parameters": int(model.parameters) if model.parameters == int(model.parameters) else model.parameters,
        "dtype": model.dtype,
        "kv_dtype": model.kv_dtype,
        "trained_context_tokens": model.trained_context_tokens,
        "sources": list(model.sources),
    }
    if model.note:
        content["note"] = model.note
    return f"{IMPORTED_MODEL}\n" + yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
