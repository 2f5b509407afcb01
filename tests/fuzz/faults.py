"""Faults of a command that ended: everything that no command may do, whatever its input."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pyarrow import parquet

from tests.fuzz.worker import Ended

_BY_DESIGN: Final = frozenset({"question", "thresholds", "rate_by_minute_rps", "low", "arrivals", "options"})
"""Fields under which a number of 0 says nothing of the answer."""

_NOTES: Final = frozenset({"warnings", "notes", "note", "remarks", "caveats", "why", "reason", "missed"})
_TOLD: Final = re.compile(
    r"^(?!added_).*(_rps|_per_s|per_h|_w|_gib|_bytes|_kwh|_s|seconds|slowdown|tokens_per_\w+|(usd|eur)_per_\w+)$"
    r"|^(p\d[\d.]*|throughput|cost|power|latency|memory|rate)(_mean)?$"
)
_OF_NOTHING: Final = re.compile(r"(?<![\d.,])0(?![\d.])|\b(zero|no|none|not|nothing|free)\b")
_NO_NUMBER: Final = re.compile(r"(?<![\w.'/-])[-+]?(nan|NaN|inf|Infinity(?! Fabric))(?![\w.'/-])")
_ZERO: Final = re.compile(r"(?<![\w.,:-])0(?:\.0+)? (?:requests/s|(?:output )?tokens/s|\$/h|EUR/h|k?W|GiB|GB)(?![\w/])")
_LAST: Final = {
    ".png": b"iend",
    ".pdf": b"%%eof",
    ".svg": b"</svg>",
    ".html": b"</html>",
    ".parquet": b"par1",
    ".lp": b"end",
}
"""Ends of whole files, in small letters."""

_NO_NUMBERS: Final = {
    ".svg": re.compile(r"\b(NaN|Infinity)\b"),
    ".lp": re.compile(r"(?<![\w.])[-+]?(nan|inf)\b"),
}
_TEMPORARY: Final = re.compile(r"\..+\.\w{8}|tmp\w+|.+\.tmp")


def has_result(ended: Ended) -> bool:
    """Whether a command ends with a result: also a comparison in which no design has a plan, with exit code 3."""
    return ended.code == 0 or (ended.code == 3 and "\nerror: no design has a plan" in f"\n{ended.err}")


def faults_of_end(ended: Ended, arguments: Sequence[str], must_fail: bool) -> Iterator[str]:
    """Faults of exit code and outputs."""
    out, err = ended.out, ended.err
    if ended.code is None:
        yield f"hang: {_tail(err)}"
        return
    if ended.code < 0:
        yield f"crash: signal {-ended.code}: {_tail(err)}"
        return
    if ended.code not in (0, 2, 3):
        yield f"exit code {ended.code}: {_tail(err)}"
    if "Traceback (most recent" in err:
        yield f"traceback: {_tail(err)}"
    if match := re.search(r"\w*Warning: .*", err):
        yield f"warning: {match[0]}"
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if ended.code and (len(errors) != 1 or not errors[0].removeprefix("error: ").strip()):
        yield f"exit code {ended.code} with {len(errors)} lines of error: {_tail(err)}"
    if not has_result(ended) and out:
        yield f"exit code {ended.code} with a result: {out[:200]!r}"
    if (has_result(ended) and not out) or (not ended.code and errors):
        yield f"exit code {ended.code} without a result, or with an error: {_tail(err)}"
    if not ended.code and must_fail:
        yield "a wrong value is accepted"
    for name, text in (("stdout", out), ("stderr", err)):
        if control := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text):
            yield f"control character {control[0]!r} on {name}: {text[max(0, control.start() - 60) :][:120]!r}"
    if not has_result(ended):
        return
    if "--json" in arguments:
        yield from faults_of_json(out, "stdout")
    elif not any(_NO_NUMBER.search(argument) for argument in arguments):  # a name that was given is no number
        yield from _faults_of_report(out, "the report")


def _faults_of_report(text: str, name: str) -> Iterator[str]:
    """Faults of a text for readers: numbers that are none, and zeros with the unit of a rate, cost, power or memory."""
    for said, match in (("", _NO_NUMBER.search(text)), ("unexplained zero: ", _ZERO.search(text))):
        if match:
            yield f"{name}: {said}{match[0]} in {text[max(0, match.start() - 80) :][:160]!r}"


def faults_of_json(text: str, name: str) -> Iterator[str]:
    """Faults of a JSON text: not JSON, numbers that are none, and zeros without a note."""
    constants: list[str] = []
    try:
        value = json.loads(text, parse_constant=constants.append)
    except ValueError as error:
        yield f"{name}: is not JSON: {error}"
        return
    if constants:
        yield f"{name}: has {', '.join(sorted(set(constants)))}"
    if zeros := sorted(set(_zeros(value, (), False))):
        yield f"{name}: unexplained zero: {', '.join(zeros)}"


def _zeros(value: Any, path: tuple[str, ...], told: bool) -> Iterator[str]:
    """Places of zeros; ``told`` if a note, or the basis of each, stands beside the value or further out.

    A note on all has to be of nothing.
    """
    if isinstance(value, Mapping):
        notes = " ".join(str(value[name]) for name in _NOTES if value.get(name))
        told = told or "basis" in value or bool(notes if path else _OF_NOTHING.search(notes))
        for name, each in value.items():
            if name not in _BY_DESIGN and not _of_the_other_pool(value, name):
                yield from _zeros(each, (*path, str(name)), told)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _zeros(each, path, told)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == 0 and not told:
        name = next((part for part in reversed(path) if part not in ("mean", "value", "values")), "")
        if _TOLD.search(name):
            yield ".".join(path)


def _of_the_other_pool(pool: Mapping[str, Any], name: str) -> bool:
    """Whether a value is of what prompt machines leave to token machines: where these emit the first token, all do."""
    return name == "generated_tokens_per_s" and pool.get("role") == "prompt"


def _faults_of_rows(rows: Sequence[Mapping[str, Any]], name: str) -> Iterator[str]:
    """Faults of a table: numbers that are none, and zeros in rows without a note."""
    wrong = {f"{column} {cell}" for row in rows for column, cell in row.items() if _is_no_number(cell)}
    if wrong:
        yield f"{name}: has {', '.join(sorted(wrong))}"
    zeros = {
        column
        for row in rows
        for column, cell in row.items()
        if _TOLD.search(column)
        and not _of_the_other_pool(row, column)
        and re.fullmatch(r"-?0(\.0*)?", str(cell))
        and not any(row.get(n) for n in _NOTES)
    }
    if zeros:
        yield f"{name}: unexplained zero: {', '.join(sorted(zeros))}"


def _is_no_number(cell: Any) -> bool:
    return str(cell).lower().lstrip("+-") in ("nan", "inf", "infinity")


def _tail(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-12:])[-900:]


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by name, less those too large to be of interest."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size < 1 << 27
    }


def faults_of_files(before: Mapping[str, bytes], folder: Path, code: int | None) -> Iterator[str]:
    """Faults of the files in a folder, by what it had before."""
    after = contents(folder)
    changed = {name: content for name, content in after.items() if before.get(name) != content}
    for name in before.keys() - after.keys():
        if code or not name.endswith(".journal"):  # a journal goes when its study ends, an empty one is of any study
            yield f"{name!r}: was removed"
    for name, content in changed.items():
        if _TEMPORARY.fullmatch(Path(name).name) and code is not None and code >= 0:
            yield f"{name!r}: a temporary file is left"
        elif code and code > 0 and not name.endswith(".journal"):
            yield f"{name!r}: was written, with exit code {code}"
        else:
            yield from faults_of_content(name, content)


def faults_of_content(name: str, content: bytes) -> Iterator[str]:
    """Faults of a file: cut off, or with numbers that are none."""
    ending, shown = Path(name).suffix.lower(), repr(name)
    if content.startswith(b"\\*"):
        ending = ".lp"  # whatever its name
    if ending in _LAST and _LAST[ending] not in content[-40:].lower():
        yield f"{shown}: is cut off"
        return
    if ending == ".parquet":
        # values as they are: pandas takes one that is missing for one that is no number
        yield from _faults_of_rows(parquet.read_table(io.BytesIO(content)).to_pylist(), shown)
    if ending not in (".json", ".yaml", ".csv", ".md", ".html", ".svg", ".lp"):
        return
    text = content.decode("utf-8", "backslashreplace")
    if ending in (".json", ".yaml", ".csv", ".md") and not text.endswith("\n"):
        yield f"{shown}: is cut off"
    elif ending == ".json":
        yield from faults_of_json(text, shown)
    elif ending == ".yaml":
        yaml.safe_load(text)
    elif ending == ".csv":
        rows = list(csv.reader(io.StringIO(text)))
        if len({len(row) for row in rows}) > 1:
            yield f"{shown}: has rows of several lengths"
        yield from _faults_of_rows([dict(zip(rows[0], row, strict=False)) for row in rows[1:]], shown)
    elif ending == ".html":
        for script in re.findall(r"<script type=.application/json.[^>]*>(.*?)</script>", text, re.DOTALL):
            yield from faults_of_json(script, shown)
        yield from _faults_of_report(re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL), shown)
    elif ending in _NO_NUMBERS:
        if match := _NO_NUMBERS[ending].search(text):
            yield f"{shown}: has {match[0]}"
    elif ending == ".md":
        yield from _faults_of_report(text, shown)
    if "\x1b" in text:
        yield f"{shown}: has an escape sequence"
    if re.search(r"\]\(\s*javascript:|href=.?\s*javascript:", text, re.IGNORECASE):
        yield f"{shown}: has a link to a script"
