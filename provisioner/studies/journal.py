"""The journal of a long study: finished points as they come, so that an interrupt, a crash or a kill loses none.

JSON lines: the question first, then a line for each finished point. A last line that was cut off is dropped.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from time import monotonic
from typing import Final, Self, cast

from provisioner.errors import InputError
from provisioner.files import refusing
from provisioner.options import spelled

_SYNC_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Journal:
    """Results by key, in a file beside the one that they will be in. ``done`` has those of an earlier session."""

    path: Path
    done: dict[str, object]
    _file: BufferedRandom
    _synced_s: float = 0.0

    @classmethod
    def open(cls, path: str | Path, question: Mapping[str, object], resume: bool, record: object = object) -> Self:
        """A new journal, or the one to resume; ``InputError`` if that is of another question, or not to be resumed.

        ``record`` is the type of the results. One process at a time has a journal open.
        """
        path = Path(path)
        asked = json.loads(json.dumps(question, default=str))
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is not a file; a journal has to be there")
        with refusing(str(path), done="written"):
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            _lock(file, path)
            there = path.stat().st_size > 0
            if there and not resume:
                go_on = f"go on with {spelled('resume')}, or delete it to begin again"
                raise InputError(f"{path}: is of a study that was interrupted: {go_on}")
            done, end = _read(path, asked, record)
            file.seek(end)
            file.truncate()
        except BaseException:
            file.close()
            raise
        journal = cls(path, done, file)
        if not end:
            journal._write({"question": asked})
        return journal

    def add(self, key: str, record: object) -> None:
        """Keep a finished point; it is in the file when this returns."""
        self._write({"key": key, "record": record})

    def close(self, finished: bool) -> None:
        """Close the file, and remove it when the study is ``finished``: its result holds everything."""
        with suppress(OSError):  # what could not be written was an error before
            if finished:
                self.path.unlink(missing_ok=True)
            self._file.close()

    def _write(self, line: Mapping[str, object]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()  # a killed process loses nothing, a machine that fails the last second
            if monotonic() > self._synced_s + _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced_s = monotonic()
        except OSError as error:
            why = f"{error.strerror or error}; {spelled('resume')} goes on from what is in it"
            raise InputError(f"{self.path}: cannot be written: {why}") from None


@contextmanager
def kept(
    out: Sequence[str], question: Mapping[str, object], resume: bool, record: object = object
) -> Iterator[tuple[dict[str, object], Callable[[str, object], None], str]]:
    """Points by key that an earlier session finished, how to keep more, and a phrase on where they are kept.

    The journal lies beside the first file of ``out`` and goes when the block ends without an error, so the files are
    written inside the block. Without files nothing is kept.
    """
    if not out:
        if resume:
            out_name = spelled("out")
            why = f"goes on with the journal beside the first {out_name}; give the {out_name} of the first run"
            raise InputError(f"{spelled('resume')}: {why}")
        yield {}, lambda key, record: None, "nothing written"
        return
    path = f"{out[0].rstrip('/')}.journal"
    journal = Journal.open(path, question, resume, record)
    finished = False
    try:
        yield dict(journal.done), journal.add, f"kept in {path}, {spelled('resume')} goes on from there"
        finished = True
    finally:
        journal.close(finished)


def _lock(file: BufferedRandom, path: Path) -> None:
    """Take a journal for this process, until the file is closed; ``InputError`` if another has it."""
    with suppress(ImportError):  # not on every system
        from fcntl import LOCK_EX, LOCK_NB, flock

        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process writes it now; wait for that, or write other files") from None
        except OSError:
            pass  # nor on every file system


def _read(path: Path, asked: Mapping[str, object], record: object) -> tuple[dict[str, object], int]:
    """The results of a journal by key, and the length of its whole lines in bytes."""
    from pydantic import TypeAdapter

    done: dict[str, object] = {}
    end = 0
    as_record, as_text = TypeAdapter(cast("type[object]", record)), TypeAdapter(dict[str, object])
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            value = json.loads(line)
            question = as_text.validate_python(value["question"]) if number == 1 else asked
            if number > 1:
                done.update(as_text.validate_python({value["key"]: as_record.validate_python(value["record"])}))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{path}: line {number}: is not of a journal; delete it to begin again") from None
        if question != asked:
            differs = ", ".join(sorted(k for k in {*question, *asked} if question.get(k) != asked.get(k)))
            raise InputError(f"{path}: is of another question (it differs in {differs}); delete it to begin again")
        end += len(line)
    return done, end
