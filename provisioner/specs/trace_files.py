"""Trace files: CSV with a header or JSON lines, recognised by their column names.

A file is read in chunks of lines. A chunk goes through numpy's compiled reader; one that it refuses, or that holds a
value out of range, is read again line by line, which either takes it or names the line, column and value.
"""

import csv
import io
import json
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time, in_time
from provisioner.errors import InputError
from provisioner.files import opened, read_text
from provisioner.specs.trace_formats import FORMATS, MAGIC, NEAR_MISSES, TraceFormat, TraceRules
from provisioner.specs.units import quoted
from provisioner.spelling import spelled

CHUNK_LINES = 250_000  # about 30 MB of text at a time
MAX_LINE_BYTES = 1 << 20
MAX_BYTES = 1 << 31  # the largest public traces, of 40 million requests, have 2 GB
MAX_TOKENS = 100_000_000  # far above any context window: beyond it a column is not a number of tokens

# Distinct prefix blocks remembered, about 200 MB; the share reused is that of the requests up to there.
MAX_PREFIX_BLOCKS = 2_000_000
PROBED_REQUESTS = 1_000  # requests whose tokens and hashes tell the size of a block
BLOCK_SIZES = tuple(1 << power for power in range(4, 13))  # tokens


def read_requests(path: str | Path, rules: TraceRules) -> tuple["Reader", NDArray[np.void]]:
    """Reader of a trace file, and its requests in their order: times as they are counted, prompt and output tokens.

    ``InputError`` names file, line, column and value of the first wrong line.
    """
    traces = [*Path(path).glob("*_trace.jsonl")] if os.path.isdir(path) else []
    shown = str(path := traces[0] if len(traces) == 1 else path)
    chunks: list[NDArray[np.void]] = []
    with _opened(path) as handle:
        line, header = next(((n, text) for n, text in enumerate(handle, start=1) if text.strip()), (0, ""))
        if not line:
            raise InputError(f"{shown}: is empty; a trace has a header line, or one JSON object per line")
        reader = Reader(shown, line, header, rules)
        if traces and reader.format.name == "ragpulse":
            reader.component_tokens = _component_tokens(traces[0].parent.glob("[1-9]*.jsonl"))
        lines = chain([header], handle) if reader.is_json else handle
        line += not reader.is_json
        while chunk := list(islice(lines, CHUNK_LINES)):
            check_time()
            chunks.append(reader.read(line, chunk))
            line += len(chunk)
    rows = np.concatenate(chunks or [np.empty(0, reader.dtype)])
    chunks.clear()
    if not rows.size:
        raise InputError(
            f"{shown}: has {'failed requests only (0 output tokens)' if reader.failed else 'a header but no requests'}"
        )
    return reader, rows


@contextmanager
def _opened(path: str | Path) -> Iterator[TextIO]:
    """The text of a file, after a look at its start; ``InputError`` for what is no text."""
    shown = str(path)
    try:
        with opened(path, MAX_BYTES, MAX_LINE_BYTES) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as text:
            start = raw.peek(MAX_LINE_BYTES)
            if kind := next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None):
                raise InputError(f"{shown}: is {kind}")
            if b"\0" in start:
                raise InputError(f"{shown}: is not a text file; a trace is CSV or JSON lines")
            if len(start) >= MAX_LINE_BYTES and not re.search(rb"[\r\n]", start):
                raise InputError(f"{shown}: line 1: is over {MAX_LINE_BYTES:,} bytes long; not a trace")
            yield text
    except (OSError, UnicodeDecodeError) as error:
        problem = {
            UnicodeDecodeError: "is not a text file in UTF-8; a trace is CSV or JSON lines",
            FileNotFoundError: "no such file",
            IsADirectoryError: "is a folder; a trace is one file in it, CSV or JSON lines",
        }.get(type(error), f"cannot be read: {getattr(error, 'strerror', None) or error}")
        raise InputError(f"{shown}: {problem}") from None


def _has(row: Mapping[str, Any], column: str) -> bool:
    """Whether a row has a column, or its list or object the part after the point."""
    name, _, part = column.partition(".")
    value = row.get(name)
    inside = value[0] if isinstance(value, list) and value else value
    return name in row and (not part or value == [] or (isinstance(inside, dict) and part in inside))


_TIMED = re.compile("time|stamp|date|arriv|start|delay|session|^ts$", re.IGNORECASE)


def _recognised(row: Mapping[str, Any], first: str, where: str) -> TraceFormat:
    """Format whose columns and marks a row has, else one of lengths only; ``InputError`` names what is missing."""
    for known in FORMATS:
        if all(_has(row, column) for column in (*known.columns_of(row), *known.marks)):
            return known
    for known in FORMATS:
        if set(known.columns[1:]) <= set(row) and not any(map(_TIMED.search, row)):
            return TraceFormat("lengths", "lengths only", ("", *known.columns[1:]), "")
    near = max(FORMATS, key=lambda of: (sum(_has(row, each) for each in of.columns + of.marks), not of.marks))
    missing = [column for column in near.columns if not _has(row, column)]
    if len(missing) < 3:
        raise InputError(f"{where}: misses {', '.join(missing)} of the {near.title} format, has {_listed([*row])}")
    for _, near_miss in filter(lambda start: re.match(start[0], first), NEAR_MISSES.items()):
        raise InputError(f"{where}: {near_miss}")
    formats = "; ".join(dict.fromkeys(", ".join(known.columns) for known in FORMATS))
    raise InputError(f"{where}: no known trace columns, has {_listed([*row])}; known are: {formats}")


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return text if len(text) <= 200 else text[:197] + "..."


def block_size(probed: Sequence[tuple[int, int]], declared: int | None) -> int | None:
    """Tokens of a prefix block that at least 95 % of the numbers of hashes and prompt tokens fit, or None.

    >>> block_size([(125, 2000), (63, 1001)], 512), block_size([(1, 2000), (1, 300)], 512)
    (16, None)
    """
    hashes, tokens = np.array(probed).T
    for size in (*filter(None, [declared]), *BLOCK_SIZES):
        fits = (hashes == -(-tokens // size)) | ((hashes == tokens // size) & (size == declared))
        if fits.mean() >= 0.95 and (size == declared or hashes.max() > 1):
            return int(size)
    return None


@dataclass(slots=True)
class Prefixes:
    """Prompt tokens in prefix blocks seen before: ``whole`` blocks, and ``tokens`` of prompts whose end was seen.

    Prompts may be of components, which are blocks with tokens of their own; ``components`` has those of each name.
    """

    seen: dict[Any, int] = field(default_factory=dict)
    components: Counter[str] = field(default_factory=Counter)
    probed: list[tuple[int, int]] = field(default_factory=list)
    requests: int = 0
    prompt_tokens: int = 0
    whole: int = 0
    tokens: int = 0
    is_partial: bool = False

    def count(self, blocks: Any, prompt_tokens: int, what: str, of_component: Mapping[Any, int]) -> None:
        """Count a request, unless more blocks are seen than are remembered."""
        parts = blocks if isinstance(blocks, dict) else {"": blocks}
        for part in parts.values():
            if not (isinstance(part, list) and all(type(block) in (int, str) for block in part)):
                raise InputError(f"{what}: must be a list of block numbers, got {quoted(part)}")
        self.is_partial = len(self.seen) > MAX_PREFIX_BLOCKS
        if self.is_partial:
            return
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        before, prefix, again = len(self.seen), -1, list[bool]()
        for name, block in ((name, block) for name, part in parts.items() for block in part):
            prefix = self.seen.setdefault((prefix, block) if of_component else block, len(self.seen))
            again.append(prefix < before)
            if of_component:  # seen before if an earlier prompt began with all up to it
                if block not in of_component:
                    raise InputError(f"{what}: {name}: {quoted(block)} has no token_length in the folder of the trace")
                self.tokens += of_component[block] * again[-1]
                self.components[name] += of_component[block]
        if of_component:
            return
        self.probed += [(len(again), prompt_tokens)][: PROBED_REQUESTS - len(self.probed)]
        self.whole += sum(again[:-1])
        if again and again[-1]:  # the last block holds what is left of the prompt
            self.tokens += prompt_tokens
            self.whole -= len(blocks) - 1

    def reuse(self, block_tokens: int | None) -> float | None:
        """Share of prompt tokens seen before; None without blocks of a known size."""
        tokens = self.whole * (block_tokens or 0) + self.tokens
        is_known = self.prompt_tokens and (block_tokens or self.components)
        return min(1.0, max(0.0, tokens / self.prompt_tokens)) if is_known else None


class Reader:
    """Reader of requests from chunks of lines, by the first line of a file: a header, or a request in JSON."""

    def __init__(self, shown: str, line: int, first: str, rules: TraceRules) -> None:
        where = f"{shown}: line {line}"
        self.shown, self.rules, self.failed = shown, rules, 0
        self.is_json = first.lstrip().startswith("{")
        row = _json_object(first, where) if self.is_json else dict.fromkeys(_csv_row(first, where))
        self.columns = [*row] if self.is_json else _csv_row(first, where)
        self.format = _recognised(row, first, where)
        self.of_dates = self.format.time_unit == "date"
        if self.of_dates and rules.time_unit:
            raise InputError(f"{shown}: has dates; leave out {spelled('time_unit')}")
        # times as they are counted, or in ns since 1970 for dates
        time = np.int64 if self.of_dates else np.float64
        self.dtype = np.dtype([("time", time), ("prompt", np.int32), ("output", np.int32)])
        self.prefixes, self.component_tokens = Prefixes(), dict[Any, int]()
        # by session its latest request and the delays of failed turns since, or -1 and when the last failed; of each
        # request the one before it, -1 for a time of its own, and the delay
        self.latest, self.turns = dict[object, tuple[int, float]](), list[tuple[int, float]]()
        used = (*self.format.columns, self.format.delay, "session_id")
        self._at = {column: self.columns.index(column) for column in used if column in self.columns}

    def read(self, line: int, lines: list[str]) -> NDArray[np.void]:
        """Requests of lines from number ``line`` of the file on; ``InputError`` names a wrong line and value."""
        by_line = self.is_json or self.format.delay or self.rules.failed_rows == "refuse"
        if not by_line and (compiled := self._compiled(lines)) is not None:
            return compiled
        requests: list[tuple[float, int, int]] = []
        for number, text in in_time(enumerate(lines, start=line)):
            if text.strip():
                where = f"{self.shown}: line {number}"
                try:
                    requests.extend(self._requests(self._row(text, where), where))
                except (AttributeError, TypeError):  # a list or an object in place of a value, or a value of one
                    raise InputError(f"{where}: is not a row of the {self.format.title} format") from None
        return np.array(requests, self.dtype)

    def _requests(self, row: dict[str, Any], where: str) -> Iterator[tuple[float, int, int]]:
        """Times, NaN if they follow from the answer before, prompt and output tokens of a row's requests."""
        (time, prompt, output), unit, wait = self.format.columns_of(row), self.format.time_unit, self.format.delay
        listed, inner, _ = prompt.partition(".")
        before: dict[str, Any] = {}
        for entry in row.get(listed, ()) if inner else ({},):
            each = row | {f"{listed}.{name}": value for name, value in entry.items()}
            session, pause = each.get("session_id", where), (before if inner else each).get(wait) or 0
            waits = bool(wait) and session in self.latest and bool(before or each.get(time) in (None, ""))
            if missing := [n for n in (time, prompt, output) if n not in each and n and not (waits and n == time)]:
                raise InputError(f"{where}: misses {', '.join(missing)}")
            before = each
            turn, since = self.latest[session] if waits else (-1, 0.0)
            failed = _number(each[output]) == 0.0
            if waits:
                if (delay := _time(pause, f"{where}: {wait}", unit)) < 0:
                    raise InputError(f"{where}: {wait}: must be a time of 0 or more, got {quoted(pause)}")
                since += delay
            elif time and (wait or not failed):
                since = _time(each[time], f"{where}: {time}", unit)
            if failed:
                if self.rules.failed_rows == "refuse":
                    mend = f"{spelled('failed_rows')} drop leaves it out"
                    raise InputError(f"{where}: {output}: 0 tokens, as of a request that failed; {mend}")
                self.failed += 1
                if wait:
                    self.latest[session] = (turn, since)  # it took no time
                continue
            tokens = _tokens(each[prompt], f"{where}: {prompt}")
            at = since if turn < 0 else math.nan
            if wait:
                self.turns.append((turn, math.nan if turn < 0 else since))
                self.latest[session] = (len(self.turns) - 1, 0.0)
            if (blocks := each.get("hash_ids")) is not None and (self.component_tokens or not isinstance(blocks, dict)):
                self.prefixes.count(blocks, tokens, f"{where}: hash_ids", self.component_tokens)
            yield at, tokens, _tokens(each[output], f"{where}: {output}")

    def _compiled(self, lines: list[str]) -> NDArray[np.void] | None:
        """Requests of lines of CSV, or None if they must be read one by one."""
        # every column has a place, unused ones as one character: lines with a field too many or too few are refused
        kinds = ["U1"] * len(self.columns)
        read = {"time": "M8[ns]" if self.of_dates else "f8", "prompt": "i8", "output": "i8"}
        at = {name: self._at[column] for name, column in zip(read, self.format.columns, strict=True) if column}
        for name, k in at.items():
            kinds[k] = read[name]
        if self.of_dates and not all(":" in text for text in lines):
            return None  # numpy takes a bare number for a year, and "now" for the time of reading
        if self.of_dates and "+00:00" in lines[0]:  # numpy's dates know no time zone; traces that state one state UTC
            lines = [text.replace("+00:00", "", 1) for text in lines]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of lines that are all blank
                warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 reads 10.5 as the integer 10
                table = np.loadtxt(lines, ",".join(kinds), comments=None, delimiter=",", quotechar='"', ndmin=1)
        except (ValueError, OverflowError, DeprecationWarning):
            return None
        kept = table[f"f{at['output']}"] != 0
        requests = np.zeros(int(kept.sum()), self.dtype)
        for name, k in at.items():
            values = table[f"f{k}"][kept]
            if not (np.isfinite(values) if name == "time" else (values >= 1) & (values <= MAX_TOKENS)).all():
                return None
            requests[name] = values
        self.failed += kept.size - requests.size
        return requests

    def _row(self, text: str, where: str) -> dict[str, Any]:
        """Values of a line by column, as written."""
        if self.is_json:
            return _json_object(text, where)
        cells = _csv_row(text, where)
        if len(cells) < len(self.columns) or any(cells[len(self.columns) :]):
            raise InputError(f"{where}: has {len(cells)} columns, the header {len(self.columns)}")
        return {column: cells[k] for column, k in self._at.items()}


def _component_tokens(paths: Iterable[Path]) -> dict[Any, int]:
    """Tokens of each component of RAGPulse's prompts by its id, which no two files share."""
    tokens: dict[Any, int] = {}
    for path in paths:
        for line, text in in_time(enumerate(read_text(path).split("\n"), start=1)):
            if text.strip():
                where = f"{path}: line {line}"
                row = _json_object(text, where)
                name = next((each for each in row if each.endswith("_id")), "")
                if type(row.get(name)) not in (int, str):
                    raise InputError(f"{where}: must have the id of a component with its token_length")
                tokens[row[name]] = _tokens(row.get("token_length"), f"{where}: token_length")
    return tokens


def _csv_row(text: str, where: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text.rstrip("\r\n")]), [])]
    except csv.Error as error:
        raise InputError(f"{where}: is not a line of CSV: {error}") from None


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not a JSON object on one line: {getattr(error, 'msg', error)}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object, got {quoted(row)}")
    return row


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?")


def _number(value: Any) -> float:
    """Value of a number or its text; what is no finite number gives NaN or infinity."""
    is_number = type(value) in (int, float) or (isinstance(value, str) and _NUMBER.fullmatch(value))
    with suppress(OverflowError):
        return float(value) if is_number else math.nan
    return math.inf


def _tokens(value: object, what: str) -> int:
    number = _number(value)
    if not (number >= 1 and number % 1 == 0):
        raise InputError(f"{what}: must be a whole number of tokens, 1 or more, got {quoted(value)}")
    if number > MAX_TOKENS:
        raise InputError(f"{what}: must be at most {MAX_TOKENS:,} tokens, got {quoted(value)}")
    return int(number)


def _time(value: object, what: str, unit: str) -> float:
    """Time as it is counted, or, of a date and time of day, in ns since 1970; UTC where it states no zone."""
    if unit != "date":
        number = _number(value)
        if not math.isfinite(number):
            raise InputError(f"{what}: must be a time in {unit}, got {quoted(value)}")
        return number
    if match := _DATE.fullmatch(value) if isinstance(value, str) else None:
        day, clock, fraction, zone = match.groups()
        with suppress(ValueError):
            moment = datetime.fromisoformat(f"{day}T{clock}{zone if zone and zone != 'Z' else '+00:00'}")
            return int(moment.timestamp()) * 10**9 + int((fraction or "0")[:9].ljust(9, "0"))
    raise InputError(f"{what}: must be a date and time such as 2023-11-16 18:17:03.97, got {quoted(value)}")
