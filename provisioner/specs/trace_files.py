"""Trace files: CSV with a header or JSON lines, recognised by their column names.

A file is read in chunks of lines. A chunk goes through numpy's compiled reader; one that it refuses, or that holds a
value out of range, is read again line by line, which either takes it or names the line, column and value.
"""

import csv
import io
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import InputError
from provisioner.specs.lengths import FloatArray, IntArray
from provisioner.specs.units import quoted

CHUNK_LINES = 250_000  # about 30 MB of text at a time
MAX_LINE_BYTES = 1 << 20
MAX_TOKENS = 100_000_000  # far above any context window: beyond it a column is not a number of tokens

# Tokens of one entry of Mooncake's hash_ids (its trace release: prefix blocks of 512 tokens).
PREFIX_BLOCK_TOKENS = 512
# Distinct prefix blocks remembered, about 200 MB; the share reused is that of the requests up to there.
MAX_PREFIX_BLOCKS = 2_000_000


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """Trace format: its columns of time, prompt and output tokens, and the unit of its times."""

    name: str
    title: str
    columns: tuple[str, str, str]
    time_unit: Literal["s", "ms", "date"]  # "date" for a date and time of day


FORMATS = (
    TraceFormat("own", "own", ("arrival_s", "prompt_tokens", "output_tokens"), "s"),
    TraceFormat("azure", "Azure LLM inference", ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), "date"),
    TraceFormat("mooncake", "Mooncake", ("timestamp", "input_length", "output_length"), "ms"),
    TraceFormat("splitwise-sim", "SplitwiseSim", ("arrival_timestamp", "prompt_size", "token_size"), "s"),
    TraceFormat("vidur", "Vidur", ("arrived_at", "num_prefill_tokens", "num_decode_tokens"), "s"),
)


def read_requests(path: str | Path) -> tuple["Reader", FloatArray, IntArray, IntArray]:
    """Reader of a trace file, and times in s, prompt and output tokens of its requests, each of shape (n,).

    Requests have the order of the file; dates become seconds since the earliest. ``InputError`` names file, line,
    column and value of the first wrong line.
    """
    shown = str(path)
    chunks: list[NDArray[np.void]] = []
    with _opened(path, shown) as handle:
        line, header = next(((n, text) for n, text in enumerate(handle, start=1) if text.strip()), (0, ""))
        if not line:
            raise InputError(f"{shown}: is empty; a trace has a header line, or one JSON object per line")
        if header.lstrip().startswith("["):
            raise InputError(f"{shown}: is a JSON array; a trace has one JSON object per line")
        reader = Reader(shown, line, header)
        lines = chain([header], handle) if reader.is_json else handle
        line += not reader.is_json
        while chunk := list(islice(lines, CHUNK_LINES)):
            chunks.append(reader.read(line, chunk))
            line += len(chunk)
    requests = np.concatenate(chunks or [np.empty(0, reader.dtype)])
    chunks.clear()
    if not requests.size:
        raise InputError(f"{shown}: has a header but no requests")
    time = requests["time"]
    time = (time - time.min()) / 1e9 if reader.of_dates else time.copy()
    return reader, time, requests["prompt"].astype(np.int64), requests["output"].astype(np.int64)


@contextmanager
def _opened(path: str | Path, shown: str) -> Iterator[TextIO]:
    try:
        with (
            io.BufferedReader(io.FileIO(path), MAX_LINE_BYTES) as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig") as text,
        ):
            start = raw.peek(MAX_LINE_BYTES)
            if start.startswith(b"\x1f\x8b"):
                raise InputError(f"{shown}: is compressed (gzip); decompress it first")
            if b"\0" in start:
                raise InputError(f"{shown}: is not a text file; a trace is CSV or JSON lines")
            if len(start) >= MAX_LINE_BYTES and not re.search(rb"[\r\n]", start):
                raise InputError(f"{shown}: line 1: is over {MAX_LINE_BYTES:,} bytes long; not a trace")
            yield text
    except (OSError, UnicodeDecodeError) as error:
        problem = {
            UnicodeDecodeError: "is not a text file in UTF-8; a trace is CSV or JSON lines",
            FileNotFoundError: "no such file",
            IsADirectoryError: "is a directory; a trace is one CSV or JSON lines file",
        }.get(type(error), f"cannot be read: {getattr(error, 'strerror', None) or error}")
        raise InputError(f"{shown}: {problem}") from None


def _recognised(found: Sequence[str], where: str) -> TraceFormat:
    """Format whose three columns are all present; ``InputError`` names the missing columns of the nearest format."""
    for known in FORMATS:
        if set(known.columns) <= set(found):
            return known
    near = max(FORMATS, key=lambda known: len(set(known.columns) & set(found)))
    missing = [column for column in near.columns if column not in found]
    if len(missing) < 3:
        raise InputError(f"{where}: misses {', '.join(missing)} of the {near.title} format, has {_listed(found)}")
    formats = "; ".join(", ".join(known.columns) for known in FORMATS)
    raise InputError(f"{where}: no known trace columns, has {_listed(found)}; known are: {formats}")


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return text if len(text) <= 200 else text[:197] + "..."


@dataclass(slots=True)
class Prefixes:
    """Prompt tokens in prefix blocks seen before, counted from the ``hash_ids`` of Mooncake's requests."""

    seen: set[Any] = field(default_factory=set)
    requests: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    is_partial: bool = False

    def count(self, blocks: list[Any], prompt_tokens: int) -> None:
        """Count a request, unless more blocks are seen than are remembered."""
        self.is_partial = len(self.seen) > MAX_PREFIX_BLOCKS
        if self.is_partial:
            return
        self.requests += 1
        self.prompt_tokens += prompt_tokens
        for k, block in enumerate(blocks):
            if block in self.seen:
                self.reused_tokens += max(0, min(PREFIX_BLOCK_TOKENS, prompt_tokens - k * PREFIX_BLOCK_TOKENS))
        self.seen.update(blocks)

    @property
    def reuse(self) -> float | None:
        """Share of prompt tokens seen before; None in a trace without blocks."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else None


class Reader:
    """Reader of requests from chunks of lines, by the first line of a file: a header, or a request in JSON."""

    def __init__(self, shown: str, line: int, first: str) -> None:
        where = f"{shown}: line {line}"
        self.shown = shown
        self.is_json = first.lstrip().startswith("{")
        row = _json_object(first, where) if self.is_json else _csv_row(first, where)
        self.columns = [name.strip() for name in row]
        self.format = _recognised(self.columns, where)
        self.of_dates = self.format.time_unit == "date"
        # times in s, or in ns since 1970 for dates
        time = np.int64 if self.of_dates else np.float64
        self.dtype = np.dtype([("time", time), ("prompt", np.int32), ("output", np.int32)])
        self.prefixes = Prefixes()
        self._at = [self.columns.index(column) for column in self.format.columns]

    def read(self, line: int, lines: list[str]) -> NDArray[np.void]:
        """Requests of lines from number ``line`` of the file on; ``InputError`` names a wrong line and value."""
        if not self.is_json and (compiled := self._compiled(lines)) is not None:
            return compiled
        requests: list[tuple[float, int, int]] = []
        for number, text in enumerate(lines, start=line):
            if not text.strip():
                continue
            where = f"{self.shown}: line {number}"
            row = self._row(text, where)
            time, prompt, output = self.format.columns
            prompt_tokens = _tokens(row[prompt], f"{where}: {prompt}")
            time_s_or_ns = _time(row[time], f"{where}: {time}", self.format.time_unit)
            requests.append((time_s_or_ns, prompt_tokens, _tokens(row[output], f"{where}: {output}")))
            if (hashes := row.get("hash_ids")) is not None:
                self.prefixes.count(hashes, prompt_tokens)
        return np.array(requests, self.dtype)

    def _compiled(self, lines: list[str]) -> NDArray[np.void] | None:
        """Requests of lines of CSV, or None if they must be read one by one."""
        # every column has a place in the compiled reader's type, unused ones as one character, so that it
        # refuses lines with a field too many or too few
        kinds = ["U1"] * len(self.columns)
        for k, kind in zip(self._at, ("M8[ns]" if self.of_dates else "f8", "i8", "i8"), strict=True):
            kinds[k] = kind
        rows: Iterable[str] = lines
        if self.of_dates:
            if not all(":" in text for text in lines):
                return None  # numpy takes a bare number for a year, and "now" for the time of reading
            if "+00:00" in lines[0]:
                # numpy's dates know no time zone; traces that state one state UTC
                rows = [text.replace("+00:00", "", 1) for text in lines]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of lines that are all blank
                warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 reads 10.5 as the integer 10
                table = np.loadtxt(rows, ",".join(kinds), comments=None, delimiter=",", quotechar='"', ndmin=1)
        except (ValueError, OverflowError, DeprecationWarning):
            return None
        time, prompt, output = (table[f"f{k}"] for k in self._at)
        tokens = np.stack([prompt, output])
        if not (table.size and tokens.min() >= 1 and tokens.max() <= MAX_TOKENS and np.isfinite(time).all()):
            return None
        requests = np.empty(table.size, self.dtype)
        requests["time"] = time / 1e3 if self.format.time_unit == "ms" else time
        requests["prompt"], requests["output"] = prompt, output
        return requests

    def _row(self, text: str, where: str) -> dict[str, Any]:
        """Values of a line by column, as written."""
        if not self.is_json:
            cells = _csv_row(text, where)
            if len(cells) < len(self.columns) or any(cell.strip() for cell in cells[len(self.columns) :]):
                raise InputError(f"{where}: has {len(cells)} columns, the header {len(self.columns)}")
            return {self.columns[k]: cells[k].strip() for k in self._at}
        row = _json_object(text, where)
        missing = [column for column in self.format.columns if column not in row]
        if missing:
            raise InputError(f"{where}: misses {', '.join(missing)}")
        hashes = row.get("hash_ids")
        if hashes is not None and not (isinstance(hashes, list) and all(type(block) in (int, str) for block in hashes)):
            raise InputError(f"{where}: hash_ids: must be a list of block numbers, got {quoted(hashes)}")
        return row


def _csv_row(text: str, where: str) -> list[str]:
    try:
        return next(csv.reader([text.rstrip("\r\n")]), [])
    except csv.Error as error:
        raise InputError(f"{where}: is not a line of CSV: {error}") from None


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"{where}: is not a JSON object on one line: {problem}") from None
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
    """Time in s, or, of a date and time of day, in ns since 1970; UTC where it states no zone."""
    if unit != "date":
        number = _number(value)
        if not math.isfinite(number):
            raise InputError(f"{what}: must be a time in {unit}, got {quoted(value)}")
        return number / 1e3 if unit == "ms" else number
    if match := _DATE.fullmatch(value) if isinstance(value, str) else None:
        day, clock, fraction, zone = match.groups()
        with suppress(ValueError):
            moment = datetime.fromisoformat(f"{day}T{clock}{zone if zone and zone != 'Z' else '+00:00'}")
            return int(moment.timestamp()) * 10**9 + int((fraction or "0")[:9].ljust(9, "0"))
    raise InputError(f"{what}: must be a date and time such as 2023-11-16 18:17:03.97, got {quoted(value)}")
