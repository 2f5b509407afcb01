"""Trace files: CSV with a header or JSON lines, recognised by their column names.

A file is read in chunks of lines. A chunk goes through numpy's compiled reader; one that it refuses, or
that holds a value out of range, is read again line by line, which either takes it or names the line, column
and value.
"""

import csv
import io
import json
import math
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from provisioner.errors import InputError
from provisioner.specs.lengths import FloatArray, IntArray
from provisioner.specs.units import format_count, quoted

CHUNK_LINES = 250_000  # about 30 MB of text at a time
MAX_LINE_BYTES = 1 << 20
MAX_TOKENS = 100_000_000  # far above any context window: beyond it a column is not a number of tokens

# Tokens of one entry of Mooncake's hash_ids (its trace release: prefix blocks of 512 tokens).
PREFIX_BLOCK_TOKENS = 512
# Distinct prefix blocks remembered, about 200 MB; the share reused is that of the requests up to there.
MAX_PREFIX_BLOCKS = 2_000_000


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """Trace format: the names of its three columns, and the unit of its times."""

    name: str
    title: str
    time: str
    prompt: str
    output: str
    time_unit: Literal["s", "ms", "date"]  # "date" for a date and time of day

    @property
    def columns(self) -> tuple[str, str, str]:
        """Column names of time, prompt and output tokens."""
        return self.time, self.prompt, self.output


FORMATS = (
    TraceFormat("own", "own", "arrival_s", "prompt_tokens", "output_tokens", "s"),
    TraceFormat("azure", "Azure LLM inference", "TIMESTAMP", "ContextTokens", "GeneratedTokens", "date"),
    TraceFormat("mooncake", "Mooncake", "timestamp", "input_length", "output_length", "ms"),
    TraceFormat("splitwise-sim", "SplitwiseSim", "arrival_timestamp", "prompt_size", "token_size", "s"),
    TraceFormat("vidur", "Vidur", "arrived_at", "num_prefill_tokens", "num_decode_tokens", "s"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests in the order of the file; arrays of shape (n,). Dates become seconds since the earliest."""

    format: TraceFormat
    time_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    prefix_reuse: float | None
    warnings: tuple[str, ...]


def read_requests(path: str | Path) -> Requests:
    """Requests of a trace file; ``InputError`` names file, line, column and value of the first wrong line."""
    shown = str(path)
    columns: tuple[list[NDArray[Any]], ...] = ([], [], [])
    with _opened(path, shown) as handle:
        lines = enumerate(handle, start=1)
        header_line, header = next(((n, line) for n, line in lines if line.strip()), (0, ""))
        if not header_line:
            raise InputError(f"{shown}: is empty; a trace has a header line, or one JSON object per line")
        if header.lstrip().startswith("["):
            raise InputError(f"{shown}: is a JSON array; a trace has one JSON object per line")
        if header.lstrip().startswith("{"):
            reader: _Reader = _JsonReader(shown, header_line, header)
            chunks = _chunks(handle, header_line, first=header)
        else:
            reader = _CsvReader(shown, header_line, header)
            chunks = _chunks(handle, header_line)
        for line, chunk in chunks:
            for parts, part in zip(columns, reader.read(line, chunk), strict=True):
                parts.append(part)
    time, prompt, output = map(_joined, columns)
    if not time.size:
        raise InputError(f"{shown}: has a header but no requests")
    share, warnings = reader.prefix_reuse()
    return Requests(
        format=reader.format,
        time_s=(time - time.min()) / 1e9 if reader.format.time_unit == "date" else time,
        prompt_tokens=prompt.astype(np.int64),
        output_tokens=output.astype(np.int64),
        prefix_reuse=share,
        warnings=warnings,
    )


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Join the parts to one array and free them at once, so that no two columns exist twice."""
    joined = np.concatenate(parts or [np.empty(0)])
    parts.clear()
    return joined


# Time (in s, or in ns since 1970 for dates), prompt and output tokens of a chunk.
_Chunk = tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]


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
    except UnicodeDecodeError:
        raise InputError(f"{shown}: is not a text file in UTF-8; a trace is CSV or JSON lines") from None
    except FileNotFoundError:
        raise InputError(f"{shown}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{shown}: is a directory; a trace is one CSV or JSON lines file") from None
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {error.strerror or error}") from None


def _chunks(handle: TextIO, line: int, first: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Chunks (number of the first line, lines) after line ``line``, preceded by the line itself if given."""
    if first is not None:
        yield line, [first]
    line += 1
    while chunk := list(islice(handle, CHUNK_LINES)):
        yield line, chunk
        line += len(chunk)


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


class _Reader(ABC):
    """Reader of requests from chunks of lines."""

    def __init__(self, shown: str, known: TraceFormat) -> None:
        self.shown = shown
        self.format = known

    def read(self, line: int, lines: list[str]) -> _Chunk:
        """Requests of the lines; the first line is number ``line`` of the file."""
        of_date = self.format.time_unit == "date"
        read_time = _date_ns if of_date else _time_s
        times: list[float] = []
        prompts: list[int] = []
        outputs: list[int] = []
        for number, text in enumerate(lines, start=line):
            if not text.strip():
                continue
            where = f"{self.shown}: line {number}"
            time, prompt, output = self.values(text, where)
            prompt_tokens = _tokens(prompt, where, self.format.prompt)
            times.append(read_time(time, where, self.format))
            prompts.append(prompt_tokens)
            outputs.append(_tokens(output, where, self.format.output))
            self.accepted(prompt_tokens)
        return (
            np.array(times, dtype=np.int64 if of_date else np.float64),
            np.array(prompts, dtype=np.int32),
            np.array(outputs, dtype=np.int32),
        )

    @abstractmethod
    def values(self, text: str, where: str) -> tuple[Any, Any, Any]:
        """Time, prompt and output tokens as written in the line."""

    def accepted(self, prompt_tokens: int) -> None:  # noqa: B027 (a reader may have nothing to count)
        """Count an accepted request; called after each."""

    def prefix_reuse(self) -> tuple[float | None, tuple[str, ...]]:
        """Share of prompt tokens seen before in a prefix, and a warning if it covers only some of the requests."""
        return None, ()


class _CsvReader(_Reader):
    def __init__(self, shown: str, header_line: int, header: str) -> None:
        where = f"{shown}: line {header_line}"
        self._columns = [name.strip() for name in _csv_row(header, where)]
        super().__init__(shown, _recognised(self._columns, where))
        self._at = [self._columns.index(column) for column in self.format.columns]
        # every column has a place in the compiled reader's type, unused ones as one character, so that it
        # refuses lines with a field too many or too few
        types = ["U1"] * len(self._columns)
        types[self._at[0]] = "M8[ns]" if self.format.time_unit == "date" else "f8"
        types[self._at[1]] = types[self._at[2]] = "i8"
        self._type = np.dtype([(f"c{k}", kind) for k, kind in enumerate(types)])

    def read(self, line: int, lines: list[str]) -> _Chunk:
        chunk = self._read_compiled(lines)
        return super().read(line, lines) if chunk is None else chunk

    def _read_compiled(self, lines: list[str]) -> _Chunk | None:
        """Requests of the lines, or None if they must be read line by line."""
        rows: Iterable[str] = lines
        if self.format.time_unit == "date":
            if not all(":" in text for text in lines):
                return None  # numpy takes a bare number for a year, and "now" for the time of reading
            if "+00:00" in lines[0]:
                # numpy's dates know no time zone; traces that state one state UTC
                rows = [text.replace("+00:00", "", 1) for text in lines]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of lines that are all blank
                warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.3 reads 10.5 as the integer 10
                table = np.loadtxt(rows, self._type, comments=None, delimiter=",", quotechar='"', ndmin=1)
        except (ValueError, OverflowError, DeprecationWarning):
            return None
        time, prompt, output = (table[f"c{k}"] for k in self._at)
        if table.size == 0 or not (_all_tokens(prompt) and _all_tokens(output)):
            return None
        if self.format.time_unit == "date":
            if np.isnat(time).any():
                return None
            time = time.astype(np.int64)
        elif np.isfinite(time).all():
            time = time / 1e3 if self.format.time_unit == "ms" else time.copy()
        else:
            return None
        return time, prompt.astype(np.int32), output.astype(np.int32)

    def values(self, text: str, where: str) -> tuple[Any, Any, Any]:
        row = _csv_row(text, where)
        if len(row) < len(self._columns) or any(field.strip() for field in row[len(self._columns) :]):
            raise InputError(f"{where}: has {len(row)} columns, the header {len(self._columns)}")
        time, prompt, output = (row[k].strip() for k in self._at)
        return time, prompt, output


def _csv_row(text: str, where: str) -> list[str]:
    try:
        return next(csv.reader([text.rstrip("\r\n")]), [])
    except csv.Error as error:
        raise InputError(f"{where}: is not a line of CSV: {error}") from None


def _all_tokens(tokens: NDArray[np.int64]) -> bool:
    return bool(tokens.min() >= 1 and tokens.max() <= MAX_TOKENS)


class _JsonReader(_Reader):
    """Reader of JSON lines, which counts the prefix blocks that Mooncake's ``hash_ids`` name."""

    def __init__(self, shown: str, line: int, first: str) -> None:
        where = f"{shown}: line {line}"
        super().__init__(shown, _recognised(list(_json_object(first, where)), where))
        self._blocks: set[Any] = set()
        self._hashes: list[Any] | None = None
        self._prompt_tokens = 0
        self._reused_tokens = 0
        self._requests = 0
        self._all_counted = True

    def values(self, text: str, where: str) -> tuple[Any, Any, Any]:
        row = _json_object(text, where)
        missing = [column for column in self.format.columns if column not in row]
        if missing:
            raise InputError(f"{where}: misses {', '.join(missing)}")
        hashes = row.get("hash_ids")
        if hashes is not None and not (isinstance(hashes, list) and all(type(block) in (int, str) for block in hashes)):
            raise InputError(f"{where}: hash_ids: must be a list of block numbers, got {quoted(hashes)}")
        self._hashes = hashes
        time, prompt, output = (row[column] for column in self.format.columns)
        return time, prompt, output

    def accepted(self, prompt_tokens: int) -> None:
        if self._hashes is None or not self._all_counted:
            return
        if len(self._blocks) > MAX_PREFIX_BLOCKS:
            self._all_counted = False
            return
        self._requests += 1
        self._prompt_tokens += prompt_tokens
        for k, block in enumerate(self._hashes):
            if block in self._blocks:
                self._reused_tokens += max(0, min(PREFIX_BLOCK_TOKENS, prompt_tokens - k * PREFIX_BLOCK_TOKENS))
        self._blocks.update(self._hashes)

    def prefix_reuse(self) -> tuple[float | None, tuple[str, ...]]:
        if not self._prompt_tokens:
            return None, ()
        share = self._reused_tokens / self._prompt_tokens
        if self._all_counted:
            return share, ()
        first = format_count(self._requests)
        return share, (f"the share of prompt tokens seen before is that of the first {first} requests",)


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


def _finite(value: object) -> float | None:
    """Finite number of a value that is a number or its text; None for anything else."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else None
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _tokens(value: object, where: str, column: str) -> int:
    number = _finite(value)
    if number is None or number != math.floor(number) or number < 1:
        raise InputError(f"{where}: {column}: must be a whole number of tokens, 1 or more, got {quoted(value)}")
    if number > MAX_TOKENS:
        raise InputError(f"{where}: {column}: must be at most {MAX_TOKENS:,} tokens, got {quoted(value)}")
    return int(number)


def _time_s(value: object, where: str, known: TraceFormat) -> float:
    number = _finite(value)
    if number is None:
        raise InputError(f"{where}: {known.time}: must be a time in {known.time_unit}, got {quoted(value)}")
    return number / 1e3 if known.time_unit == "ms" else number


def _date_ns(value: object, where: str, known: TraceFormat) -> int:
    """Nanoseconds since 1970 of a date and time of day; UTC where it states no zone."""
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError("is no date")
        day, clock, fraction, zone = match.groups()
        moment = datetime.fromisoformat(f"{day}T{clock}{zone if zone and zone != 'Z' else '+00:00'}")
    except ValueError:
        raise InputError(
            f"{where}: {known.time}: must be a date and time such as 2023-11-16 18:17:03.97, got {quoted(value)}"
        ) from None
    return int(moment.timestamp()) * 10**9 + int((fraction or "0")[:9].ljust(9, "0"))
