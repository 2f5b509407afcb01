"""The published JSON schema of all results.

``python -m provisioner.report.schema > docs/reference/schema.json`` writes it.
"""

import json
import sys

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from provisioner.report.serialiser import adapter
from provisioner.report.views.registry import VIEWS


class _Schema(GenerateJsonSchema):
    """The schema of JSON as it is written: every key is there, no other, and null for a number that is not finite.

    Amounts are in USD, and then JSON has no field ``currency``.
    """

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {**super().float_schema(schema), "type": ["number", "null"]}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        return inner if inner.get("type") == ["number", "null"] else super().nullable_schema(schema)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        written = super().dataclass_schema(schema)
        if written["properties"].pop("currency", None):
            written["required"].remove("currency")
        return {**written, "additionalProperties": False}

    def field_is_required(
        self, field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField, total: bool
    ) -> bool:
        return True

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def schema() -> dict[str, object]:
    """Return the schema of the JSON of every type of result, told apart by ``kind``."""
    inputs = [(view.kind.__name__, "serialization", adapter(view.kind)) for view in VIEWS]
    names, definitions = TypeAdapter.json_schemas(inputs, schema_generator=_Schema)  # type: ignore[arg-type]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results of provisioner",
        "oneOf": list(names.values()),
        **definitions,
    }


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(schema(), indent=2, allow_nan=False)}\n")
