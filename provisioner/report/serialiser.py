"""Results as JSON, in the layout of the published schema; every key is that of a field, with its unit in the name.

A number that is not finite is null. ``schema_version`` changes whenever a key changes its meaning or goes.
"""

from dataclasses import fields
from typing import Final

from pydantic import TypeAdapter
from pydantic_core import to_json as to_json_bytes

from provisioner.results.result import Result, ServingResult
from provisioner.specs.money import USD

_RESTS_ON: Final = {field.name for field in fields(ServingResult)} - {field.name for field in fields(Result)}
"""Keys that come after those of the answer itself."""

_ADAPTERS: Final[dict[type, TypeAdapter[object]]] = {}


def adapter(kind: type) -> TypeAdapter[object]:
    """Return the serialiser of a type, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_json(result: Result) -> str:
    """Return a result as JSON, the answer first, indented, without a newline at its end."""
    return json_text(dict(sorted(to_plain(result).items(), key=lambda item: item[0] in _RESTS_ON)))


def to_plain(value: object) -> dict[str, object]:
    """Return a dataclass as plain values: dictionaries, lists, texts, numbers and None."""
    plain = in_own_currency(adapter(type(value)).dump_python(value, mode="json"))
    assert isinstance(plain, dict)
    return plain


def in_own_currency(value: object, currency: object = USD) -> object:
    """Plain values with the currency that stands among them in the keys but of options; USD itself is left out."""
    if isinstance(value, list):
        return [in_own_currency(part, currency) for part in value]
    if not isinstance(value, dict):
        return value
    code = str(value.get("currency", currency))
    kept = ((key, part) for key, part in value.items() if (key, part) != ("currency", USD))
    named = ((key, USD if key == "question" else code, part) for key, part in kept)
    return {key.replace("usd", code.lower()): in_own_currency(part, inner) for key, inner, part in named}


def json_text(value: object) -> str:
    """Return plain values that are no result as JSON, such as a list of specs.

    >>> json_text({"memory_gib": float("inf")})
    '{\\n  "memory_gib": null\\n}'
    """
    return to_json_bytes(value, indent=2, inf_nan_mode="null", fallback=_plain).decode()


def _plain(value: object) -> object:
    """An array or a number of numpy as one of Python."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"cannot write a {type(value).__name__} as JSON")
    return value.tolist()
