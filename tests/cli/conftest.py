"""The command line run in this process, in an empty folder."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner.cli import main


@dataclass(frozen=True)
class Ended:
    """The end of a command: its exit code and its output."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error, without ``error: ``; fails where it is not just that."""
        assert self.out == ""
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1 and self.err.endswith("\n")
        return self.err.removeprefix("error: ").rstrip("\n")


Run = Callable[..., Ended]


def instead(base: Sequence[str], *more: str) -> tuple[str, ...]:
    """Arguments with others, which take the place of those of the same option."""
    flags = {flag for flag in more if flag.startswith("--")}
    pairs = zip(base, ("", *base), strict=False)
    return (*(each for each, before in pairs if each not in flags and before not in flags), *more)


@pytest.fixture
def provision(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``provision`` with arguments, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("provisioner.cli.progress._FIRST_S", math.inf)  # a busy machine must not add lines

    def run(*arguments: str) -> Ended:
        code = main(list(arguments))
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    return run


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A small trace: 40 requests, one every half a second."""
    path = tmp_path / "trace.csv"
    lines = ["arrival_s,prompt_tokens,output_tokens"]
    lines += [f"{k / 2},{500 + 50 * (k % 20)},{10 + k % 7}" for k in range(40)]
    path.write_text("\n".join(lines) + "\n")
    return path
