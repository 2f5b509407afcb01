"""The journal of a long study: finished points as they come, so that an interrupt, a crash or a kill loses none.

JSON lines: the question first, then a line for each finished point. A last line that was cut off is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from time import monotonic
from typing import Final

from provisioner.errors import InputError
from provisioner.options import spelled

_SYNC_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Journal:
    """Results by key, in a file beside the one that they will be in. ``done`` has those of an earlier session."""

    path: Path
    done: dict[str, object]
    _file: BufferedWriter
    _synced_s: float = 0.0

    @classmethod
    def open(cls, path: str | Path, question: Mapping[str, object], resume: bool) -> Journal:
        """A new journal, or the one to resume; ``InputError`` if that is of another question, or not to be resumed."""
        path = Path(path)
        asked = json.loads(json.dumps(question, default=str))
        there = path.is_file() and path.stat().st_size > 0
        if there and not resume:
            go_on = f"go on with {spelled('resume')}, or delete it to begin again"
            raise InputError(f"{path}: is of a study that was interrupted: {go_on}")
        done, end = _read(path, asked) if there else ({}, 0)
        try:
            file = path.open("r+b" if there else "wb")
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
        file.seek(end)
        file.truncate()
        journal = cls(path, done, file)  # type: ignore[arg-type]
        if not end:
            journal._write({"question": asked})
        return journal

    def add(self, key: str, record: object) -> None:
        """Keep a finished point; it is in the file when this returns."""
        self._write({"key": key, "record": record})

    def close(self, finished: bool) -> None:
        """Close the file, and remove it when the study is ``finished``: its result holds everything."""
        self._file.close()
        if finished:
            self.path.unlink(missing_ok=True)

    def _write(self, line: Mapping[str, object]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()  # a killed process loses nothing, a machine that fails the last second
            if monotonic() > self._synced_s + _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced_s = monotonic()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def kept(
    out: Sequence[str], question: Mapping[str, object], resume: bool
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
    journal = Journal.open(path, question, resume)
    finished = False
    try:
        yield dict(journal.done), journal.add, f"kept in {path}, {spelled('resume')} goes on from there"
        finished = True
    finally:
        journal.close(finished)


def _read(path: Path, asked: Mapping[str, object]) -> tuple[dict[str, object], int]:
    """The results of a journal by key, and the length of its whole lines in bytes."""
    done: dict[str, object] = {}
    end = 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            value = json.loads(line)
            question = value["question"] if number == 1 else asked
            if number > 1:
                done[value["key"]] = value["record"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: line {number}: is not of a journal; delete it to begin again") from error
        if question != asked:
            differs = ", ".join(sorted(k for k in {*question, *asked} if question.get(k) != asked.get(k)))
            raise InputError(f"{path}: is of another question (it differs in {differs}); delete it to begin again")
        end += len(line)
    return done, end
