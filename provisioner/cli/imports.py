"""``provision workloads import``: a trace file read, and written as a workload."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from provisioner.errors import InputError
from provisioner.specs.units import parse_positive

if TYPE_CHECKING:
    from provisioner.specs.traces import Trace
    from provisioner.specs.workload import Workload

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Imported:
    """A trace, its workload where one was asked for, and the files that hold that."""

    trace: Trace
    workload: Workload | None
    written: tuple[Path, ...]


def import_trace(file: str, name: str | None = None, rate: str | None = None, out: str | None = None) -> Imported:
    """Read a trace; with ``out``, a folder or a file ending in .yaml, write it there as a workload.

    Everything about the names is checked before the trace is read.
    """
    rate_rps = None if rate is None else parse_positive(rate, "--rate", "requests/s")
    if name is not None and not _NAME.fullmatch(name):
        raise InputError(f"--name {name}: must be letters, digits, '.', '_' and '-', for it names files")
    target = None if out is None else _target(file, name, out)
    from provisioner.specs.traces import read_trace

    trace = read_trace(file)
    if target is None:
        return Imported(trace, None, ())
    workload = trace.workload(target.stem, rate_rps=rate_rps)
    return Imported(trace, workload, _write(workload, target))


def _target(file: str, name: str | None, out: str) -> Path:
    """The workload's YAML file, after the checks on it and on the table of bins beside it."""
    from provisioner.report.files import check_writable

    path = Path(out)
    if path.is_dir():
        stem = name or Path(file).stem
        if not _NAME.fullmatch(stem):
            raise InputError(f"--out {out}: {stem!r} does not do as a name of files; give one with --name")
        path = path / f"{stem}.yaml"
    elif path.suffix != ".yaml":
        raise InputError(f"--out {out}: must be a folder that exists, or a file ending in .yaml")
    elif name is not None and name != path.stem:
        raise InputError(f"--out {out}: names the workload {path.stem}, --name {name}; leave out one of them")
    elif not _NAME.fullmatch(path.stem):
        raise InputError(f"--out {out}: must be named with letters, digits, '.', '_' and '-'")
    for each in (path, path.with_name(f"{path.stem}.csv")):
        check_writable(str(each), "--out")
        if each.exists() and os.path.exists(file) and os.path.samefile(each, file):
            raise InputError(f"--out {out}: would overwrite the trace itself; give another name with --name")
    _refuse_foreign(path.with_name(f"{path.stem}.csv"), out)
    return path


def _refuse_foreign(bins: Path, out: str) -> None:
    """Refuse to overwrite a CSV file that is not a workload's table of bins."""
    from provisioner.specs.schema import BIN_COLUMNS

    header = ",".join(BIN_COLUMNS).encode()
    if bins.exists():
        with bins.open("rb") as file:
            if file.read(len(header)) != header:
                raise InputError(f"--out {out}: {bins} exists and is not a workload's table; give another --name")


def _write(workload: Workload, target: Path) -> tuple[Path, ...]:
    from provisioner.report.files import write_files
    from provisioner.specs.schema import save_workload

    bins = target.with_name(f"{target.stem}.csv")
    with tempfile.TemporaryDirectory() as folder:
        saved = save_workload(workload, Path(folder), "Written by provision workloads import.")
        texts = [path.read_text(encoding="utf-8") for path in saved]
    write_files({str(bins): texts[1], str(target): texts[0]}, "--out")
    return target, bins
