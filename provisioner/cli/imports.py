"""Imports: a trace to a workload, a ``config.json`` to a model, measurements to a curve.

Models and curves go into a folder of own specs (``provisioner.specs.catalog.with_own``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner.errors import InputError, UnknownNameError
from provisioner.options.imports import NAME, CurveImportOptions, ModelImportOptions, WorkloadImportOptions

if TYPE_CHECKING:
    from provisioner.perf.curves import Group
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
    files = None if options.out is None else _workload_files(file, options.named, options.out)
    for option in ("--name", "--rate") if files is None else ():
        if (options.named if option == "--name" else options.rate_rps) is not None:
            raise InputError(f"{option}: is that of the workload that --out writes; give both")
    from provisioner.specs.schema import save_workload
    from provisioner.specs.trace_formats import TraceRules
    from provisioner.specs.traces import check_seed, read_trace

    check_seed(file, options.seed)
    trace = read_trace(file, TraceRules.of(options))
    if files is None:
        return trace, None, ()
    workload = trace.workload(files[0].stem)
    return trace, workload, save_workload(workload, files[0].parent, "Written by provision workloads import.")


def _workload_files(file: str, name: str | None, out: str) -> tuple[Path, Path]:
    """The workload's YAML file and the table of bins beside it, after the checks on them."""
    from provisioner.files import check_writable
    from provisioner.specs.schema import BINS

    path = Path(out)
    if path.is_dir():
        path = path / f"{name or Path(file).stem}.yaml"
    elif path.suffix != ".yaml":
        raise InputError(f"--out {out}: must be a folder that exists, or a file ending in .yaml")
    elif name is not None and name != path.stem:
        raise InputError(f"--out {out}: names the workload {path.stem}, --name {name}; leave out one of them")
    if not NAME.fullmatch(path.stem):
        raise InputError(f"--out {out}: {path.stem!r} does not do as a name of files; give one with --name")
    bins = path.with_name(f"{path.stem}.csv")
    for each in (path, bins):
        check_writable(str(each), "--out")
        if each.exists() and os.path.exists(file) and os.path.samefile(each, file):
            raise InputError(f"--out {out}: would overwrite the trace itself; give another name with --name")
    if bins.exists() and not bins.read_bytes().startswith(",".join(BINS).encode()):
        raise InputError(f"--out {out}: {bins} exists and is not a workload's table; give another --name")
    return path, bins


def import_model(file: str, options: ModelImportOptions) -> tuple[ModelArchitecture, Path | None, tuple[str, ...]]:
    """Read a ``config.json``; with ``out`` write the model into that folder of own specs.

    Return the model, the file written if asked for, and notes on it. A file of the same name is replaced if an import
    wrote it, left if it describes the same model, else refused.
    """
    from provisioner.specs import catalog
    from provisioner.specs.huggingface import read_config
    from provisioner.specs.schema import model_text

    out, named = options.out, options.named or Path(file).stem
    if out is None:
        return read_config(file, named, options.title), None, ()
    if options.named is None and named == "config":
        raise InputError(f"--name: must be given, for {file} does not say what the model is to be called")
    if not NAME.fullmatch(named):
        raise InputError(f"--out {out}: {named!r} does not do as a name of files; give one with --name")
    path = own_file(out, "models", f"{named}.yaml")
    model = read_config(file, named, options.title)
    remarks = []
    if path.exists():
        if not _was_imported(path, model, out):
            return model, path, ("the file had the same model: left as it was",)
        remarks.append("it takes the place of the model that an earlier import wrote there")
    if named in catalog.SHIPPED.models:
        remarks.append(f"with --specs {out} it takes the place of the shipped {named}")
    _write_own({path: model_text(model)})
    return model, path, tuple(remarks)


def _was_imported(path: Path, model: ModelArchitecture, out: str) -> bool:
    """Whether an import wrote a model file; a file written by hand must describe the same model."""
    from provisioner.specs.schema import IMPORTED_MODEL, load_model

    with suppress(OSError, UnicodeDecodeError, InputError):
        if path.read_text(encoding="utf-8").startswith(IMPORTED_MODEL):
            return True
        if replace(load_model(path, str(path)), title=model.title, sources=model.sources, note=model.note) == model:
            return False
    raise InputError(
        f"--out {out}: {path} is there and was not written by an import; remove it, or give another --name"
    )


def import_curve(files: Sequence[str], options: CurveImportOptions) -> tuple[Measured, Path | None, tuple[str, ...]]:
    """Read results of benchmarks; with ``out`` write their curve into that folder of own specs.

    Return what was measured, the curve file written if asked for, and notes on it. New rows replace those of the same
    tensor parallelism in the curve file; others stay. The names are checked before the results are read.
    """
    out, replica = options.out, (options.model, options.machine, options.tensor_parallel)
    path = None if out is None else own_file(out, "curves", f"{options.machine}__{options.model}.csv")
    own = check_replica(replica, options.specs, out)
    from provisioner.perf.measurements import read_measurements

    asked = {name: value for name, value in asdict(options).items() if name not in ("specs", "out")}
    measured = read_measurements(files, **asked, own=own)
    if path is None:
        return measured, None, ()
    if measured.fit is None:
        raise InputError(
            f"--out {out}: nothing was written, for the points make no curve: {measured.fit_refused}; without --out "
            "the report says what to measure next"
        )
    return measured, path, write_curve(path, measured.points, replica)


def write_curve(
    path: Path, points: Sequence[CurvePoint], replica: Group, beside: Mapping[Path, str] | None = None
) -> tuple[str, ...]:
    """Write points into a curve file of a folder of own specs; return notes on it.

    New rows replace those of the same tensor parallelism in the file; others stay. ``beside`` has texts by file name
    for the same folder: all files are written, or none.
    """
    from provisioner.perf import assumptions
    from provisioner.perf.curves import curve_groups
    from provisioner.perf.points import curve_text, read_points
    from provisioner.specs.catalog import with_own

    model, machine, degree = replica
    had = read_points(path, model=model, machine=machine) if path.exists() else {}
    remarks = []
    if degree in had:
        remarks.append(f"the {len(had.pop(degree))} points at TP {degree} that the file had are replaced")
    if had:
        remarks.append(f"its points at TP {', '.join(map(str, had))} are kept")
    _write_own({path: curve_text({**had, degree: points}, model=model, machine=machine), **(beside or {})})
    out = str(path.parent.parent)
    if replica in curve_groups():
        remarks.append(f"with --specs {out} it takes the place of the shipped curve")
    own = with_own(out)
    for load in (lambda: assumptions.replica(*replica, own=own), lambda: assumptions.reference(model, own=own)):
        try:
            load()
        except InputError as error:  # memory too small, or no reference of slowdowns
            remarks.append(f"a plan with it would be refused for now: {error}")
    return tuple(dict.fromkeys(remarks))


def check_replica(replica: Group, specs: str | None = None, out: str | None = None) -> Catalog:
    """The specs beside a curve, which must have its model, and its machine with at least its GPUs."""
    from provisioner.specs.catalog import OWN_FOLDERS, with_own

    model, machine, degree = replica
    given = known = with_own(specs)
    if out is not None:
        has_specs = any(any((Path(out) / part).glob(names)) for part, names in OWN_FOLDERS.items())
        known = with_own(out if has_specs else None)
    for kind, name, names, elsewhere in (
        ("model", model, known.models, given.models),
        ("machine", machine, known.machines, given.machines),
    ):
        if name not in names and name in elsewhere:
            raise InputError(f"--out {out}: has no {kind} {name}, which {specs} has: give --out {specs}, or copy it")
        if name not in names and kind == "model":
            raise InputError(f"--model {name}: curves are of a model by the name of its file, {known.model(name).name}")
        if name not in names:
            raise UnknownNameError(kind, name, names)
    gpus = known.machine(machine).gpus
    if degree > gpus:
        raise InputError(f"--tp: must be at most the {gpus} GPUs of {machine}, got {degree}")
    return known


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
    from provisioner.files import refusing

    with refusing(f"--out {folder}", done="made"):
        folder.mkdir(parents=True, exist_ok=True)


def _write_own(texts: Mapping[Path, str]) -> None:
    from provisioner.files import write_files

    for path in texts:
        make_folder(path.parent)
    write_files({str(path): text for path, text in texts.items()}, "--out")
