"""Imports: a trace to a workload, a ``config.json`` to a model, measurements to a curve.

Models and curves go into a folder of own specs (``provisioner.specs.catalog.with_own``).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.errors import InputError, UnknownNameError
from provisioner.options.imports import NAME, CurveImportOptions, ModelImportOptions, WorkloadImportOptions

if TYPE_CHECKING:
    from provisioner.perf.measurements import Measured
    from provisioner.perf.points import CurvePoint
    from provisioner.specs.catalog import Catalog
    from provisioner.specs.model import ModelArchitecture
    from provisioner.specs.traces import Trace
    from provisioner.specs.workload import Workload


def import_trace(file: str, options: WorkloadImportOptions) -> tuple[Trace, Workload | None, tuple[Path, ...]]:
    """Read a trace; with ``out``, a folder or a file ending in .yaml, write it there as a workload.

    Return the trace, the workload made of it if asked for, and the files written. The names are checked before the
    trace is read.
    """
    target = None if options.out is None else _target(file, options.named, options.out)
    from provisioner.specs.traces import read_trace

    trace = read_trace(file)
    if target is None:
        return trace, None, ()
    workload = trace.workload(target.stem, rate_rps=options.rate_rps)
    return trace, workload, _write(workload, target)


def _target(file: str, name: str | None, out: str) -> Path:
    """The workload's YAML file, after the checks on it and on the table of bins beside it."""
    from provisioner.files import check_writable

    path = Path(out)
    if path.is_dir():
        stem = name or Path(file).stem
        if not NAME.fullmatch(stem):
            raise InputError(f"--out {out}: {stem!r} does not do as a name of files; give one with --name")
        path = path / f"{stem}.yaml"
    elif path.suffix != ".yaml":
        raise InputError(f"--out {out}: must be a folder that exists, or a file ending in .yaml")
    elif name is not None and name != path.stem:
        raise InputError(f"--out {out}: names the workload {path.stem}, --name {name}; leave out one of them")
    elif not NAME.fullmatch(path.stem):
        raise InputError(f"--out {out}: must be named with letters, digits, '.', '_' and '-'")
    for each in (path, path.with_name(f"{path.stem}.csv")):
        check_writable(str(each), "--out")
        if each.exists() and os.path.exists(file) and os.path.samefile(each, file):
            raise InputError(f"--out {out}: would overwrite the trace itself; give another name with --name")
    _refuse_foreign(path.with_name(f"{path.stem}.csv"), out)
    return path


def _refuse_foreign(bins: Path, out: str) -> None:
    """Refuse to overwrite a CSV file that is not a workload's table of bins."""
    from provisioner.specs.schema import BINS

    header = ",".join(BINS).encode()
    if bins.exists():
        with bins.open("rb") as file:
            if file.read(len(header)) != header:
                raise InputError(f"--out {out}: {bins} exists and is not a workload's table; give another --name")


def _write(workload: Workload, target: Path) -> tuple[Path, ...]:
    from provisioner.files import write_files
    from provisioner.specs.schema import save_workload

    bins = target.with_name(f"{target.stem}.csv")
    with tempfile.TemporaryDirectory() as folder:
        saved = save_workload(workload, Path(folder), "Written by provision workloads import.")
        texts = [path.read_text(encoding="utf-8") for path in saved]
    write_files({str(bins): texts[1], str(target): texts[0]}, "--out")
    return target, bins


def import_model(file: str, options: ModelImportOptions) -> tuple[ModelArchitecture, Path | None, tuple[str, ...]]:
    """Read a ``config.json``; with ``out`` write the model into that folder of own specs.

    Return the model, the file written if asked for, and notes on it. A file of the same name is replaced if an import
    wrote it, left if it describes the same model, else refused.
    """
    name, out = options.named, options.out
    named = name or Path(file).stem
    if out is not None and name is None and named == "config":
        raise InputError(f"--name: must be given, for {file} does not say what the model is to be called")
    if out is not None and not NAME.fullmatch(named):
        raise InputError(f"--out {out}: {named!r} does not do as a name of files; give one with --name")
    path = None if out is None else own_file(out, "models", f"{named}.yaml")
    from provisioner.specs.huggingface import read_config

    model = read_config(file, named, options.title)
    if out is None or path is None:
        return model, None, ()
    remarks = []
    from provisioner.specs import catalog
    from provisioner.specs.schema import model_text

    if path.exists():
        was_imported = _was_imported(path, model, out)
        remarks.append(
            "it takes the place of the model that an earlier import wrote there"
            if was_imported
            else "the file had the same model: left as it was"
        )
        if not was_imported:
            return model, path, tuple(remarks)
    if named in catalog.models():
        remarks.append(f"with --specs {out} it takes the place of the shipped {named}")
    _write_own({path: model_text(model)})
    return model, path, tuple(remarks)


def _was_imported(path: Path, model: ModelArchitecture, out: str) -> bool:
    """Whether an import wrote a model file; a file written by hand must describe the same model."""
    from provisioner.specs.schema import IMPORTED_MODEL, load_model

    try:
        if path.read_text(encoding="utf-8").startswith(IMPORTED_MODEL):
            return True
        known = replace(load_model(path, str(path)), title=model.title, sources=model.sources, note=model.note)
    except (OSError, UnicodeDecodeError, InputError):
        known = None
    if known != model:
        raise InputError(
            f"--out {out}: {path} is there and was not written by an import; remove it, or give another --name"
        )
    return False


def import_curve(files: Sequence[str], options: CurveImportOptions) -> tuple[Measured, Path | None, tuple[str, ...]]:
    """Read results of benchmarks; with ``out`` write their curve into that folder of own specs.

    Return what was measured, the curve file written if asked for, and notes on it. New rows replace those of the same
    tensor parallelism in the curve file; others stay. The names are checked before the results are read.
    """
    model, machine, degree, out = options.model, options.machine, options.tensor_parallel, options.out
    path = None if out is None else own_file(out, "curves", f"{machine}__{model}.csv")
    catalog = check_replica(model, machine, degree, options.specs, out)
    from provisioner.perf.measurements import read_measurements

    measured = read_measurements(
        files,
        model=model,
        machine=machine,
        tensor_parallel=degree,
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
        concurrency=options.concurrency,
        own=catalog,
    )
    if path is None:
        return measured, None, ()
    if measured.fit is None:
        raise InputError(
            f"--out {out}: nothing was written, for the points make no curve: {measured.fit_refused}; without --out "
            "the report says what to measure next"
        )
    return measured, path, write_curve(path, measured.points, model=model, machine=machine, tensor_parallel=degree)


def write_curve(
    path: Path,
    points: Sequence[CurvePoint],
    *,
    model: str,
    machine: str,
    tensor_parallel: int,
    beside: Mapping[Path, str] | None = None,
) -> tuple[str, ...]:
    """Write points into a curve file of a folder of own specs; return notes on it.

    New rows replace those of the same tensor parallelism in the file; others stay. ``beside`` has texts by file name
    for the same folder: all files are written, or none.
    """
    text, remarks = _curve_text(path, points, model, machine, tensor_parallel)
    _write_own({path: text, **(beside or {})})
    from provisioner.perf.curves import curve_groups

    out = str(path.parent.parent)
    if (model, machine, tensor_parallel) in curve_groups():
        remarks.append(f"with --specs {out} it takes the place of the shipped curve")
    return (*remarks, *_refusals(model, machine, tensor_parallel, out))


def _refusals(model: str, machine: str, tensor_parallel: int, out: str) -> tuple[str, ...]:
    """Reasons that a plan with the curve would still be refused: memory too small, or no reference of slowdowns."""
    from provisioner.perf.assumptions import reference, replica
    from provisioner.specs.catalog import with_own

    own = with_own(out)
    found = []
    for load in (
        lambda: replica(model, machine, tensor_parallel, own=own),
        lambda: reference(model, own=own),
    ):
        try:
            load()
        except InputError as error:
            found.append(f"a plan with it would be refused for now: {error}")
    return tuple(dict.fromkeys(found))


def check_replica(
    model: str, machine: str, tensor_parallel: int, specs: str | None = None, out: str | None = None
) -> Catalog:
    """The specs beside a curve, which must have its model, and its machine with at least its GPUs."""
    from provisioner.specs.catalog import OWN_FOLDERS, with_own

    given = with_own(specs)
    known = given
    if out is not None:
        has_specs = any(True for part, names in OWN_FOLDERS.items() for _ in (Path(out) / part).glob(names))
        known = with_own(out if has_specs else None)
    for kind, name, names, elsewhere in (
        ("model", model, known.models, given.models),
        ("machine", machine, known.machines, given.machines),
    ):
        if name not in names and name in elsewhere:
            raise InputError(
                f"--out {out}: has no {kind} {name}, which {specs} has: give --out {specs}, or copy the {kind}'s file"
            )
        if name not in names:
            raise UnknownNameError(kind, name, names)
    gpus = known.machine(machine).gpus
    if tensor_parallel > gpus:
        raise InputError(f"--tp: must be at most the {gpus} GPUs of {machine}, got {tensor_parallel}")
    return known


def _curve_text(
    path: Path, points: Sequence[CurvePoint], model: str, machine: str, degree: int
) -> tuple[str, list[str]]:
    """Text of the curve file with the new points and its points at other degrees, and notes on these."""
    from provisioner.perf.points import curve_text, read_points

    had = read_points(path, model=model, machine=machine) if path.exists() else {}
    remarks = []
    if degree in had:
        remarks.append(f"the {len(had.pop(degree))} points at TP {degree} that the file had are replaced")
    if had:
        remarks.append(f"its points at TP {', '.join(map(str, had))} are kept")
    return curve_text({**had, degree: points}, model=model, machine=machine), remarks


def own_file(out: str, part: str, name: str) -> Path:
    """A file of a folder of own specs, after checks on it; the folder may be missing, its parent may not."""
    from provisioner.files import check_writable

    folder = Path(out)
    if not folder.is_dir() and (folder.exists() or folder.suffix in (".yaml", ".yml", ".csv", ".json")):
        raise InputError(f"--out {out}: must be a folder of own specs, which holds {part}/{name}")
    if not Path(os.path.realpath(out)).parent.is_dir():
        raise InputError(f"--out {out}: the folder {folder.parent} does not exist")
    path = folder / part / name
    if path.parent.is_dir():
        check_writable(str(path), "--out")
    elif path.parent.exists():
        raise InputError(f"--out {out}: {path.parent} is not a folder")
    return path


def make_folder(folder: Path) -> None:
    """Make a folder of own specs if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {folder} cannot be made: {error.strerror or error}") from None


def _write_own(texts: Mapping[Path, str]) -> None:
    from provisioner.files import write_files

    for path in texts:
        make_folder(path.parent)
    write_files({str(path): text for path, text in texts.items()}, "--out")
