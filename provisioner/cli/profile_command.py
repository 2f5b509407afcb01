"""``provision profile``: a model's latency curve timed on the GPU at hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from provisioner.cli.given import Given, JsonOption, takes
from provisioner.cli.imports import check_replica, make_folder, own_file, write_curve
from provisioner.cli.output import emit, report_text
from provisioner.cli.progress import on_stderr
from provisioner.errors import InputError
from provisioner.options import ProfileOptions, spelled

if TYPE_CHECKING:
    from provisioner.perf.curves import Group
    from provisioner.profiling.grid import Grid
    from provisioner.profiling.result import Profile
    from provisioner.report.document import Document
    from provisioner.specs.hardware import Machine
    from provisioner.specs.model import ModelArchitecture
    from provisioner.studies.journal import Journal


@takes(ProfileOptions)
def profile(given: Given, json: JsonOption = False) -> None:
    """Time a model on the GPU at hand and write its latency curve.

    The model's layers are built with random weights of its shape, and nothing is downloaded. Needs PyTorch: pip install
    'provisioner[profile]'. Points are kept as they come: an interrupt loses none (--resume).
    """
    asked = _ask(ProfileOptions.of(**given))
    found = _timed(asked)
    refused = _check_fit(asked, found)
    notes = write_curve(asked.curve, found.points, asked.replica, {asked.about: found.about_text()})
    asked.journal.unlink(missing_ok=True)
    written, remarks = (asked.curve, asked.about), (*refused, *_doubts(asked, found), *notes)
    if json:
        from provisioner.report.serialiser import json_text

        points = [asdict(point) for point in found.points]
        emit(json_text(found.to_dict() | {"points": points, "written": written, "remarks": remarks}))
    else:
        emit(report_text(_document(found, written, remarks)))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A profile to be made, after all checks that need no device."""

    options: ProfileOptions
    replica: Group
    model: ModelArchitecture
    machine: Machine
    grid: Grid
    curve: Path
    about: Path
    journal: Path


def _ask(options: ProfileOptions) -> _Asked:
    replica = model, machine, degree = options.model, options.machine, options.tensor_parallel
    endings = (".csv", f"__tp{degree}.yaml", f"__tp{degree}.journal")
    curve, about, journal = (own_file(options.out, "curves", f"{machine}__{model}{end}") for end in endings)
    known = check_replica(replica, options.specs, options.out)
    from provisioner.perf.points import read_points
    from provisioner.profiling.grid import Grid
    from provisioner.profiling.shape import Shard

    shape = known.model(model)
    if (shape.dtype, shape.kv_dtype) != ("bf16", "bf16"):
        raise InputError(f"--model {model}: is not all in bf16, and fp8 is not built here; time a copy of it in bf16")
    Shard.of(shape, degree)
    if curve.exists():
        read_points(curve, model=model, machine=machine)
    with _named():
        grid = Grid(**{each.name: getattr(options, each.name) for each in fields(Grid)})
    return _Asked(options, replica, shape, known.machine(machine), grid, curve, about, journal)


@contextmanager
def _named() -> Iterator[None]:
    """Name options in errors that name the fields."""
    try:
        yield
    except InputError as error:
        name, colon, message = str(error).removeprefix("grid: ").partition(":")
        raise InputError(f"{spelled(name)}{colon}{message}") from None


def _timed(asked: _Asked) -> Profile:
    from provisioner.profiling.all_reduce import all_reduces_of
    from provisioner.profiling.run import ELEMENT_BYTES, question_of
    from provisioner.profiling.run import profile as time_all

    options = asked.options
    replica = (asked.model, asked.machine.name, options.tensor_parallel)
    how = {name: getattr(options, name) for name in ("device", "dtype", "repeats", "warm_up")}
    with _named(), on_stderr("timing: ") as progress, _kept(asked, question_of(*replica, **how)) as journal:
        memory_bytes = options.memory_bytes
        timed = time_all(*replica, asked.grid, **how, memory_bytes=memory_bytes, journal=journal, progress=progress)
        if timed.tensor_parallel == 1:
            return timed
        element_bytes = ELEMENT_BYTES[timed.dtype]
        added = all_reduces_of(timed.shape, asked.machine, timed.tensor_parallel, timed.points, element_bytes)
        return timed.with_all_reduces(added)


@contextmanager
def _kept(asked: _Asked, question: dict[str, object]) -> Iterator[Journal]:
    """A journal that stays until the curve is written; one without points is removed with the folders made for it."""
    from provisioner.profiling.run import Record
    from provisioner.studies.journal import Journal

    missing = [each for each in (asked.journal.parent, asked.journal.parent.parent) if not each.exists()]
    make_folder(asked.journal.parent)
    book = Journal.open(asked.journal, question, asked.options.resume, Record)
    try:
        yield book
    finally:
        book.close(finished=asked.journal.read_bytes().count(b"\n") <= 1)
        if not asked.journal.exists():
            with suppress(OSError):
                for each in missing:
                    each.rmdir()


def _check_fit(asked: _Asked, found: Profile) -> tuple[str, ...]:
    """Points left out of the curve, with reasons, and its assumptions; ``InputError`` if the rest make no curve."""
    from provisioner.perf.curves import fit_measured, kv_read_s_per_token

    try:
        floor_s = kv_read_s_per_token(asked.model, asked.machine, found.tensor_parallel)
        fit = fit_measured(found.points, asked.replica, floor_s)
    except InputError as error:
        raise InputError(f"{error}; nothing was written: delete {asked.journal} to time all points again") from None
    return (*(f"the curve leaves out {each.point.label}: {each.reason}" for each in fit.refused), *fit.assumed)


_SAME_MEMORY: Final = 0.1
"""Relative difference allowed between the memory of the timed GPU and the machine's: drivers reserve some."""


def _doubts(asked: _Asked, found: Profile) -> tuple[str, ...]:
    """Reasons to doubt that the curve is one of the machine."""
    doubts = []
    there = found.environment.get("device_memory_gib")
    if found.environment["device"] == "cpu":
        doubts.append(f"timed on a CPU: a curve of {found.machine} only where that is what its replicas run on")
    elif there is not None and abs(there / asked.machine.memory_gib_per_gpu - 1.0) > _SAME_MEMORY:
        doubts.append(
            f"{found.environment['device_name']} has {there:.4g} GiB, a GPU of {found.machine} "
            f"{asked.machine.memory_gib_per_gpu:.4g} GiB: was it timed on that machine?"
        )
    if found.dtype == "fp32":
        doubts.append(f"timed in fp32, and {found.model} is in bf16: the curve is too slow for it")
    return tuple(doubts)


def _document(found: Profile, written: tuple[Path, Path], remarks: tuple[str, ...]) -> Document:
    from provisioner.report.document import Column, Document, Notes, facts, notes, table
    from provisioner.report.numbers import significant, whole

    def ms(seconds: float | None) -> str:
        return "" if seconds is None else significant(1e3 * seconds)

    device, added = found.environment, found.all_reduces
    timed = f"{found.layers_timed} of {found.shape.layers}"
    rows = [
        (p.phase, whole(p.prompt_tokens), whole(p.batch), ms(p.latency_s), ms(p.min_s), ms(p.max_s), ms(more_s))
        for p, more_s in zip(found.points, added.seconds if added else [None] * len(found.points), strict=True)
    ]
    numbers = ("tokens each", "batch", "median, ms", "least, ms", "most, ms", "of it all-reduces, ms")
    curve, about = written
    own = ["--specs", str(curve.parent.parent), "--model", found.model, "--machine", found.machine]
    blocks = (
        facts(
            "",
            ("device", f"{device['device_name']}, PyTorch {device['torch']}"),
            ("numbers", found.dtype),
            ("layers timed", timed if found.layers_timed == found.shape.layers else f"{timed}, scaled to all"),
            ("repeats", f"{found.repeats} of each point"),
            ("all-reduces", f"{added.provenance}: {added.source}" if added else ""),
        ),
        table("Points", [Column("phase"), *(Column(name, True) for name in numbers)], rows),
        *notes("Left out", (f"{each.work}: {each.reason}" for each in found.left_out), warning=True),
        Notes("Not measured", found.not_measured),
        facts(
            "Written",
            ("curve", str(curve)),
            ("what was done on what", str(about)),
            ("to plan with it", shlex.join(["provision", "plan", *own])),
        ),
        *notes("", remarks, warning=True),
    )
    title = f"{len(rows)} points of {found.model} on {found.machine} at TP {found.tensor_parallel}"
    return Document(f"{title}, {found.provenance}", "", blocks)
