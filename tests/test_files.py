"""Files that are pipes: one question may read them more than once, and the next one reads them anew."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioner import Plan, plan, sensitivity, sweep, vary
from provisioner.errors import InputError

TRACE = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{k / 2},{500 + 9 * k},{10 + k % 7}\n" for k in range(40))


@contextmanager
def piped(text: str) -> Iterator[str]:
    """The name of a pipe with a text, as a shell's <(...) gives one."""
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    try:
        yield f"/dev/fd/{read}"
    finally:
        os.close(read)


def test_a_sweep_over_a_pipe_is_that_over_the_file(tmp_path: Path) -> None:
    (path := tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    sizes = {"design": "splitwise-hh", "prompt": "1:2", "token": "1", "tensor_parallel": 8}
    inputs = {"name": "rate", "values": "1,2", "clusters": "baseline-h100=1", "tensor_parallel": 8}
    for study, asked in ((sweep, sizes), (vary, inputs)):
        with piped(TRACE) as pipe:
            of_pipe, of_file = (study(trace=str(name), **asked).to_frame() for name in (pipe, path))
        assert of_pipe.equals(of_file)


def test_every_plan_of_a_sensitivity_has_the_pipe() -> None:
    asked = {"machines": ["dgx-h100"], "tensor_parallel": 8, "fast": True, "slo": "batch", "inputs": "rate"}
    with piped(TRACE) as pipe:
        assert len(sensitivity(trace=pipe, **asked).swings) == 1


def test_the_next_question_reads_a_pipe_anew() -> None:
    def asked(pipe: str) -> Plan:
        return plan(trace=pipe, machines="dgx-h100", tensor_parallel=8, fast=True, slo="batch")

    with piped(TRACE) as pipe:
        assert asked(pipe).machines >= 1
        with pytest.raises(InputError, match=f"^{pipe}: is empty"):
            asked(pipe)


def test_a_sweep_does_not_go_on_with_what_another_pipe_gave(tmp_path: Path) -> None:
    asked = {
        "design": "splitwise-hh",
        "prompt": "1:2",
        "token": "1",
        "tensor_parallel": 8,
        "out": [str(tmp_path / "r.csv")],
    }
    told: list[str] = []

    def stop(text: str) -> None:
        told.append(text)
        if "1 of 2" in text:
            raise KeyboardInterrupt

    with piped(TRACE) as pipe:
        with pytest.raises(KeyboardInterrupt):
            sweep(trace=pipe, progress=stop, **asked)
        number = int(re.sub(r"\D", "", pipe))
        with piped(TRACE.replace("\n0.5,", "\n0.25,")) as other:
            os.dup2(int(re.sub(r"\D", "", other)), number)
            with pytest.raises(InputError, match="journal"):
                sweep(trace=pipe, resume=True, **asked)
