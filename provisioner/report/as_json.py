"""JSON of values that are no results, such as lists of specs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain_value(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become None, sequences lists.

    >>> plain_value({"a": (1, float("inf")), 2: None})
    {'a': [1, None], '2': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_value(each) for each in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain_value(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def json_text(value: Any) -> str:
    """JSON of a value, indented, ending without a newline.

    >>> json_text({"design": "Splitwise-HA"})
    '{\\n  "design": "Splitwise-HA"\\n}'
    """
    return json.dumps(plain_value(value), indent=2, ensure_ascii=False, allow_nan=False)
