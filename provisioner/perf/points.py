"""Points of a latency curve, one per row of a curve file, which holds one machine and one model, and their reader."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.specs.units import parse_non_negative, parse_number, parse_positive, parse_whole, unit_of

Phase = Literal["prompt", "decode"]
Provenance = Literal["measured", "derived", "estimated", "assumed"]

PHASES: Final[tuple[Phase, ...]] = ("prompt", "decode")
PROVENANCES: Final[tuple[Provenance, ...]] = ("measured", "derived", "estimated", "assumed")

MAX_POWER_FRACTION: Final = 2.0
"""Power of a GPU, as a fraction of its TDP, that no measurement reaches; short peaks of 1.09 are real."""

_GROUP: Final = ("model", "machine", "tensor_parallel")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One measured point of a curve: the median latency of its repeats, in seconds.

    ``context_tokens`` is the KV context of the whole batch: 0 for a prompt, batch x (prompt + half of the tokens
    generated in the run) for decode. The power fractions are of the GPU's TDP over the whole run, None if not measured.
    """

    phase: Phase
    prompt_tokens: int
    batch: int
    context_tokens: float
    latency_s: float
    repeats: int
    min_s: float
    max_s: float
    provenance: Provenance
    power_average_fraction: float | None = None
    power_peak_fraction: float | None = None

    def __post_init__(self) -> None:
        for field in ("prompt_tokens", "batch", "repeats", "latency_s", "min_s", "max_s"):
            parse_positive(getattr(self, field), field, unit_of(field))
        check_context = parse_positive if self.phase == "decode" else parse_non_negative
        check_context(self.context_tokens, "context_tokens", "tokens")
        if self.min_s > self.latency_s:
            raise InputError(f"min_s: must be at most latency_s = {self.latency_s} s, got {self.min_s}")
        if self.max_s < self.latency_s:
            raise InputError(f"max_s: must be at least latency_s = {self.latency_s} s, got {self.max_s}")
        for field in ("power_average_fraction", "power_peak_fraction"):
            fraction = getattr(self, field)
            if fraction is not None and not 0 < fraction < MAX_POWER_FRACTION:
                bounds = f"must be above 0 and below {MAX_POWER_FRACTION:g} of the TDP"
                raise InputError(f"{field}: {bounds}, got {fraction!r}")

    @property
    def batched_tokens(self) -> int:
        """Tokens that a prompt iteration over this point processes: prompt tokens x batch."""
        return self.prompt_tokens * self.batch

    @property
    def context_per_sequence_tokens(self) -> float:
        """KV context of one sequence of the batch, in tokens."""
        return self.context_tokens / self.batch

    @property
    def output_tokens(self) -> float:
        """Tokens that each sequence of a decode run generated: 2 x (mean context - prompt); else 0."""
        decode = self.phase == "decode"
        return 2 * (self.context_per_sequence_tokens - self.prompt_tokens) if decode else 0.0

    @property
    def label(self) -> str:
        """Text of the point for messages: ``512 x 64 prompt`` or ``512 x 64 decode (context 36864)``."""
        work = f"{self.prompt_tokens} x {self.batch} {self.phase}"
        return work if self.phase == "prompt" else f"{work} (context {self.context_tokens:g})"


@dataclass(frozen=True, slots=True)
class SimulatorKnot:
    """One knot of the published simulator's curves: median prompt and token latency in s at one key.

    The key is prompt_size x batch_size; the median is over every row with that key, unphysical rows included.
    """

    batched_tokens: int
    prompt_s: float
    token_s: float
    repeats: int

    def __post_init__(self) -> None:
        for field in ("batched_tokens", "prompt_s", "token_s", "repeats"):
            parse_positive(getattr(self, field), field, unit_of(field))


def _columns(kind: type[CurvePoint | SimulatorKnot]) -> tuple[str, ...]:
    return (*_GROUP, *(field.name for field in fields(kind)))


COLUMNS: Final = _columns(CurvePoint)  # columns of a curve file
KNOT_COLUMNS: Final = _columns(SimulatorKnot)  # columns of a file of the published simulator's knots


def curve_text(groups: Mapping[int, Sequence[CurvePoint]], *, model: str, machine: str) -> str:
    """Points by tensor parallelism as the text of a curve file, which ``read_points`` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for tensor_parallel, points in sorted(groups.items()):
        for point in points:
            values = (getattr(point, name) for name in COLUMNS[len(_GROUP) :])
            shown = (f"{value:.15g}" if isinstance(value, float) else value for value in values)
            writer.writerow((model, machine, tensor_parallel, *shown))
    return text.getvalue()


_Record = TypeVar("_Record", CurvePoint, SimulatorKnot)


def _records(path: Path, kind: type[_Record], **group: str) -> Iterator[tuple[str, int, _Record]]:
    """Yield (file and row, tensor parallelism, record) for each row of a CSV file, all of one ``group``."""
    name = _short_name(path)
    try:
        with io.StringIO(read_text(path, shown=name, kind="CSV file")) as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or ()
            missing = [column for column in _columns(kind) if column not in columns]
            if missing:
                raise InputError(f"{name}: row 1: missing column {', '.join(missing)}")
            for row in reader:
                where = f"{name}: row {reader.line_num}"
                if None in row.values() or None in row:
                    raise InputError(f"{where}: must have {len(columns)} fields")
                try:
                    for field, only in group.items():
                        _one_of(row, field, [only])
                    yield where, parse_whole(row["tensor_parallel"], "tensor_parallel"), _record(kind, row)
                except InputError as error:
                    raise InputError(f"{where}: {error}") from None
    except csv.Error as error:
        raise InputError(f"{name}: is not a CSV file in UTF-8: {error}") from error


def _short_name(path: Path) -> str:
    """The part of a path that a message names: from ``hardware_specs`` on, or the path as given."""
    parts = path.parts
    return "/".join(parts[parts.index("hardware_specs") :]) if "hardware_specs" in parts else str(path)


def _one_of(row: Mapping[str, str], field: str, known: Sequence[str]) -> str:
    if row[field] not in known:
        raise InputError(f"{field}: must be {' or '.join(known)}, got {row[field]!r}")
    return row[field]


def _record(kind: type[_Record], row: Mapping[str, str]) -> _Record:
    values: dict[str, Any] = {}
    for field in fields(kind):
        name, unit = field.name, unit_of(field.name)
        if field.type is int:
            values[name] = parse_whole(row[name], name, unit)
        elif field.type in (float, float | None):
            optional = field.type is not float and not row[name]
            values[name] = None if optional else parse_number(row[name], name, unit)
        else:
            values[name] = _one_of(row, name, PHASES if name == "phase" else PROVENANCES)
    return kind(**values)


def read_points(path: Path, *, model: str, machine: str) -> dict[int, tuple[CurvePoint, ...]]:
    """Points of one curve file, by tensor parallelism.

    ``InputError`` names file, row and field of a wrong value, a repeated point, or a row of another model or machine.
    """
    groups: dict[int, dict[tuple[str, int, int, float], CurvePoint]] = {}
    for where, tensor_parallel, point in _records(path, CurvePoint, model=model, machine=machine):
        key = (point.phase, point.prompt_tokens, point.batch, point.context_tokens)
        if groups.setdefault(tensor_parallel, {}).setdefault(key, point) is not point:
            raise InputError(f"{where}: phase: the point {point.label} stands twice")
    if not groups:
        raise InputError(f"{_short_name(path)}: has no rows")
    return {tensor_parallel: tuple(points.values()) for tensor_parallel, points in sorted(groups.items())}


def read_knots(path: Path, *, model: str, machine: str, tensor_parallel: int) -> tuple[SimulatorKnot, ...]:
    """Knots of the published simulator for one group, by ascending key; ``InputError`` as in ``read_points``."""
    group = {"model": model, "machine": machine, "tensor_parallel": str(tensor_parallel)}
    knots: list[SimulatorKnot] = []
    for where, _, knot in _records(path, SimulatorKnot, **group):
        if knots and knot.batched_tokens <= knots[-1].batched_tokens:
            rises = f"must rise from row to row, got {knot.batched_tokens} after {knots[-1].batched_tokens}"
            raise InputError(f"{where}: batched_tokens: {rises}")
        knots.append(knot)
    if len(knots) < 2:
        raise InputError(f"{_short_name(path)}: must have at least 2 rows, has {len(knots)}")
    return tuple(knots)
