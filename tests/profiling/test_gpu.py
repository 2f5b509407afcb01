"""Values of nvidia-smi, by a stand-in for it, and the timing of steps on a CPU."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from provisioner.profiling import gpu
from provisioner.profiling.timing import Timing, time_step


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_numbers_are_numbers_and_what_is_not_known_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch, "echo 'NVIDIA H200, 580.159.03, 143771, [N/A], 1980, [Not Supported]'")
    assert gpu.query(gpu.FACTS, None) == {
        "name": "NVIDIA H200",
        "driver": "580.159.03",
        "memory_mib": 143771.0,
        "max_sm_clock_mhz": 1980.0,
    }


def test_the_gpu_is_asked_for_by_its_own_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch, f"echo \"$@\" > {tmp_path}/asked; echo '1980, 3201, 45, 320.5'")
    assert gpu.query(gpu.STATE, "GPU-12ab") == {
        "sm_clock_mhz": 1980.0,
        "memory_clock_mhz": 3201.0,
        "temperature_c": 45.0,
        "power_w": 320.5,
    }
    asked = (tmp_path / "asked").read_text().strip()
    wanted = "--query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv,noheader,nounits"
    assert asked == f"-i GPU-12ab {wanted}"


@pytest.mark.parametrize("script", ["exit 9", "echo 'Field \"x\" is not a valid field to query.'", "true", "echo 1, 2"])
def test_a_tool_that_fails_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    _stand_in(tmp_path, monkeypatch, script)
    assert gpu.query(gpu.STATE, None) == {}


def test_without_the_tool_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.query(gpu.STATE, None) == {}


def test_ranges_pass_over_what_is_missing() -> None:
    states: list[dict[str, str | float]] = [{"power_w": 300.0, "sm_clock_mhz": 1980.0}, {}, {"power_w": 650.0}]
    assert gpu.ranges(states) == {
        "sm_clock_mhz": {"lowest": 1980.0, "highest": 1980.0},
        "power_w": {"lowest": 300.0, "highest": 650.0},
    }


def test_a_step_is_timed_by_the_clock_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    costs = iter([50.0, 50.0, 3.0, 1.0, 2.0, 9.0, 4.0])

    def step() -> None:
        nonlocal now
        now += next(costs)

    monkeypatch.setattr("provisioner.profiling.timing.perf_counter", lambda: now)
    found = time_step(step, SimpleNamespace(type="cpu"), warm_up=2, repeats=5, under_load=lambda: None)
    assert found == Timing(median_s=3.0, min_s=1.0, max_s=9.0)
    assert next(costs, None) is None


def test_a_time_of_some_layers_is_scaled_and_the_ends_are_added() -> None:
    assert Timing(2.0, 1.0, 4.0, True).scaled(10, Timing(0.5, 0.4, 0.6, False)) == Timing(20.5, 10.4, 40.6, False)
