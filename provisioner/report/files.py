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


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, as it was given, with the ending that says in which format."""

    given: str
    ending: str

    def __str__(self) -> str:
        return self.given


def _csv(plan: Plan) -> str:
    from provisioner.report.csv import plan_csv

    return plan_csv(plan)


def _markdown(plan: Plan) -> str:
    from provisioner.report.markdown import plan_markdown

    return plan_markdown(plan)


def _json(plan: Plan) -> str:
    from provisioner.report.as_json import json_text, plan_dict

    return json_text(plan_dict(plan)) + "\n"


FORMATS: Final[Mapping[str, Callable[[Plan], str]]] = {".csv": _csv, ".md": _markdown, ".json": _json}


def check_outputs(given: Iterable[str], what: str = "--out") -> tuple[Output, ...]:
    """The files of ``--out``, each of a known ending, in a folder that can be written, and named once."""
    outputs = []
    seen: set[str] = set()
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


def write_outputs(plan: Plan, outputs: Sequence[Output]) -> None:
    """Write the plan to every file, in the format of its ending."""
    write_files({output.given: FORMATS[output.ending](plan) for output in outputs}, "--out")


def write_files(texts: Mapping[str, str], what: str) -> None:
    """Write texts to files by name: first all beside their places, then each moved there.

    A file that cannot be written leaves every file as it was.
    """
    written: list[tuple[str, str]] = []
    name = ""
    try:
        for name, text in texts.items():
            written.append((_write_beside(os.path.realpath(name), text), os.path.realpath(name)))
        while written:
            temporary, path = written[0]
            os.replace(temporary, path)
            written.pop(0)
    except OSError as error:
        raise InputError(f"{what} {name}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary, _ in written:
            Path(temporary).unlink(missing_ok=True)


def _write_beside(path: str, text: str) -> str:
    """A new file beside ``path`` with the text, on disk, and with the permissions that ``path`` has or would get."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
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
