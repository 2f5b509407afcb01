"""Results as JSON, and the schema that the JSON follows; every key is that of a field, with its unit in the name.

A number that is not finite is null. ``schema_version`` changes whenever a key changes its meaning or goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

    from provisioner.results.result import Result


class _Schema(GenerateJsonSchema):
    """The schema as the JSON is written: unknown keys refused, null for a number that is not finite."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {**super().float_schema(schema), "type": ["number", "null"]}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return {**super().dataclass_schema(schema), "additionalProperties": False}


_ADAPTERS: Final[dict[type, TypeAdapter[object]]] = {}


def _adapter(kind: type) -> TypeAdapter[object]:
    """The serialiser of a type, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(result: Result) -> str:
    """Return a result as JSON, indented, without a newline at its end."""
    return _adapter(type(result)).dump_json(result, indent=2).decode()


def to_plain(value: object) -> dict[str, object]:
    """Return a dataclass as plain values: dictionaries, lists, texts, numbers and None."""
    plain = _adapter(type(value)).dump_python(value, mode="json")
    assert isinstance(plain, dict)
    return plain


def schema(kinds: Iterable[type[Result]]) -> dict[str, object]:
    """Return the JSON schema of results of these kinds, told apart by ``kind``."""
    inputs = [(kind.__name__, "serialization", _adapter(kind)) for kind in kinds]
    names, definitions = TypeAdapter.json_schemas(inputs, schema_generator=_Schema)  # type: ignore[arg-type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results of provisioner",
        "oneOf": list(names.values()),
        **definitions,
    }
