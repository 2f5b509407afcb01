"""Writing results to files: checked before the work starts, and each file whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from provisioner.errors import InputError

if TYPE_CHECKING:
    from provisioner.planning.plan import Plan
    from provisioner.simulation.result import Simulation

Content = str | Callable[[str], None]
"""What a file is to hold: a text, or what writes it to a file of a name."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, as it was given, with the ending that says in which format."""

    given: str
    ending: str

    def __str__(self) -> str:
        return self.given


def _csv(result: Plan | Simulation) -> str:
    from provisioner.simulation.result import Simulation

    if isinstance(result, Simulation):
        from provisioner.report.simulation_csv import simulation_csv

        return simulation_csv(result)
    from provisioner.report.csv import plan_csv

    return plan_csv(result)


def _markdown(result: Plan | Simulation) -> str:
    return str(result)


def _json(result: Plan | Simulation) -> str:
    from provisioner.report.as_json import json_text

    return json_text(result.to_dict()) + "\n"


FORMATS: Final[Mapping[str, Callable[[Plan | Simulation], str]]] = {".csv": _csv, ".md": _markdown, ".json": _json}


def check_outputs(given: Iterable[str], what: str = "--out", also: Iterable[str | None] = ()) -> tuple[Output, ...]:
    """The files of ``--out``, each of a known ending, in a folder that can be written, and named once.

    ``also`` are files that something else is written to.
    """
    outputs = []
    seen: set[str] = {os.path.realpath(name) for name in also if name is not None}
    for name in given:
        ending = Path(name).suffix.lower()
        if ending not in FORMATS:
            raise InputError(f"{what} {name}: must end in {', '.join(FORMATS)}, which says the format")
        check_writable(name, what)
        real = os.path.realpath(name)
        if real in seen:
            raise InputError(f"{what} {name}: is given twice")
        seen.add(real)
        outputs.append(Output(name, ending))
    return tuple(outputs)


def check_writable(name: str, what: str) -> None:
    """Refuse a file that cannot be written: no folder, a folder in its place, or no permission."""
    path = Path(os.path.realpath(name))
    if not path.parent.is_dir():
        raise InputError(f"{what} {name}: the folder {Path(name).parent} does not exist")
    if path.exists() and not path.is_file():
        raise InputError(f"{what} {name}: is not a file that can be written")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"{what} {name}: is write-protected")
    try:
        # a name as long as the one that will be written beside it, so that a name too long shows now
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise InputError(f"{what} {name}: cannot be written: {error.strerror or error}") from None


def write_outputs(result: Plan | Simulation, outputs: Sequence[Output]) -> None:
    """Write a plan or a simulation to every file, in the format of its ending."""
    write_files({output.given: FORMATS[output.ending](result) for output in outputs}, "--out")


def write_files(contents: Mapping[str, Content], what: str) -> None:
    """Write files by name: first all beside their places, then each moved there.

    A file that cannot be written leaves every file as it was.
    """
    written: list[tuple[str, str]] = []
    name = ""
    try:
        for name, content in contents.items():
            written.append((_write_beside(os.path.realpath(name), content), os.path.realpath(name)))
        while written:
            temporary, path = written[0]
            os.replace(temporary, path)
            written.pop(0)
    except OSError as error:
        raise InputError(f"{what} {name}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary, _ in written:
            Path(temporary).unlink(missing_ok=True)


def _write_beside(path: str, content: Content) -> str:
    """A new file beside ``path`` with the content, on disk, and with the permissions that ``path`` has or would get."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            if isinstance(content, str):
                file.write(content)
            else:
                content(temporary)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return temporary


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
