"""The answers of two versions of the program side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from tests.questions.extract import Json

TOLERANCE = 1e-9  # relative difference up to which two floats are the same
LINES = 12  # differences shown of a question

# what says how an answer was computed and not what it is, wherever it stands in the JSON
NOT_COMPARED = {"wall_s", "versions", "version"}
# the same in a text: lines that begin so
TEXT_NOT_COMPARED = ("program", "libraries", "- program", "- libraries", "| program", "| libraries", "provisioner ")


def kept(text: str) -> bool:
    return not text.lstrip().startswith(TEXT_NOT_COMPARED)


def comparable(data: Json) -> Json:
    """Without what may differ from run to run; texts as numbers where they are numbers."""
    if isinstance(data, dict):
        return {key: comparable(value) for key, value in data.items() if key not in NOT_COMPARED}
    if isinstance(data, list):
        rows = (row for row in data if not (isinstance(row, dict) and row.get("section") == "version"))
        return [comparable(row) for row in rows if not isinstance(row, str) or kept(row)]
    if isinstance(data, str):
        try:
            return float(data)  # a cell of a CSV
        except ValueError:
            return data
    return data


def same(one: Json, other: Json) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def shown(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


def differences(old: Json, new: Json, at: str = "") -> Iterator[str]:
    """Lines that say where two trees differ and by what."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            if key not in new:
                yield f"{at}.{key}: gone, was {shown(old[key])}"
            else:
                yield from differences(old[key], new[key], f"{at}.{key}")
        yield from (f"{at}.{key}: new, {shown(new[key])}" for key in new if key not in old)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{at}: {len(old)} entries, now {len(new)}"
        for place, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from differences(one, other, f"{at}[{place}]")
    elif not same(old, new):
        relative = ""
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in (old, new)) and old:
            relative = f" ({(new - old) / abs(old):+.2e})"
        yield f"{at}: {shown(old)} -> {shown(new)}{relative}"


def compare(old: dict[str, Any], new: dict[str, Any], names: list[str], what: str, most: int) -> int:
    """Print what differs, by question; how many questions differ."""
    different = 0
    for name in names:
        if name not in old or name not in new:
            print(f"{name}: {'not in the old' if name not in old else 'not in the new'} {what}")
            different += 1
            continue
        lines = list(differences(comparable(old[name]), comparable(new[name])))
        if lines:
            different += 1
            print(f"{name}: {len(lines)} differences in its {what}")
            print("\n".join(f"    {line.lstrip('.')}" for line in lines[:most]))
            if len(lines) > most:
                print(f"    ... and {len(lines) - most} more (--lines)")
    print(f"{what}: {len(names) - different} of {len(names)} questions the same")
    return different
