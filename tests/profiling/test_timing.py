"""Timing on a GPU, by a stand-in for PyTorch whose device needs a known time for each launch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner.profiling.timing import Timing, time_step

GPU = SimpleNamespace(type="cuda")


class Device:
    """A GPU whose clock moves by the cost of each run; ``capture`` says what happens when a graph is captured."""

    def __init__(self, costs_s: Callable[[int], float], capture: Exception | None = None) -> None:
        self.now_s = 0.0
        self.runs = 0
        self.replays = 0
        self.costs_s = costs_s
        self.capture = capture
        self.capturing = False
        self.log: list[str] = []

    def step(self) -> None:
        if self.capturing:
            if self.capture is not None:
                raise self.capture
            return
        self.now_s += self.costs_s(self.runs)
        self.runs += 1

    def torch(self) -> Any:
        device = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_s = device.now_s

            def elapsed_time(self, end: Event) -> float:
                return (end.at_s - self.at_s) * 1e3  # milliseconds, as PyTorch's

        class CUDAGraph:
            def replay(self) -> None:
                device.replays += 1
                device.step()

        @contextmanager
        def stream(_: object) -> Any:
            yield

        @contextmanager
        def graph(_: CUDAGraph) -> Any:
            device.capturing = True
            try:
                yield
            finally:
                device.capturing = False

        side = SimpleNamespace(wait_stream=lambda _: None)
        return SimpleNamespace(
            cuda=SimpleNamespace(
                Event=Event,
                CUDAGraph=CUDAGraph,
                Stream=lambda: side,
                current_stream=lambda: side,
                stream=stream,
                graph=graph,
                synchronize=lambda: self.log.append("synchronize"),
                OutOfMemoryError=type("OutOfMemoryError", (RuntimeError,), {}),
            )
        )


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Timing, Device]]:
    def run(device: Device, warm_up: int = 3, repeats: int = 5) -> tuple[Timing, Device]:
        monkeypatch.setitem(sys.modules, "torch", device.torch())
        monkeypatch.setattr("provisioner.profiling.timing.perf_counter", lambda: device.now_s)
        return time_step(device.step, GPU, warm_up, repeats, lambda: device.log.append("load")), device

    return run


def test_replays_are_timed_one_by_one_after_a_warm_up(timed: Callable[..., tuple[Timing, Device]]) -> None:
    """0.1 s each: two runs before the capture, one to look, three to warm up, five that count, five under load."""
    costs = [9, 9, 0.1, 9, 9, 9, 0.4, 0.1, 0.2, 0.3, 0.5]
    found, device = timed(Device(lambda run: costs[run] if run < len(costs) else 0.3))
    assert [found.min_s, found.median_s, found.max_s] == pytest.approx([0.1, 0.3, 0.5])
    assert found.graph
    assert device.replays == 1 + 3 + 5 + 2  # half a second of load is two runs of 0.3 s
    assert device.log.count("load") == 1 and device.log[-2:] == ["load", "synchronize"]


def test_short_steps_are_warmed_up_for_a_while(timed: Callable[..., tuple[Timing, Device]]) -> None:
    _, device = timed(Device(lambda _: 0.001))
    assert device.replays == 1 + 300 + 5 + 500


def test_what_cannot_be_captured_is_timed_launch_by_launch(timed: Callable[..., tuple[Timing, Device]]) -> None:
    found, device = timed(Device(lambda _: 0.25, RuntimeError("operation not permitted when stream is capturing")))
    assert [found.min_s, found.median_s, found.max_s] == pytest.approx([0.25] * 3)
    assert not found.graph and not device.replays


def test_running_out_of_memory_while_capturing_is_passed_on(timed: Callable[..., tuple[Timing, Device]]) -> None:
    device = Device(lambda _: 0.25)
    module = device.torch()
    device.capture = module.cuda.OutOfMemoryError("CUDA out of memory")
    device.torch = lambda: module  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="out of memory"):
        timed(device)
