"""Timing of a repeated step: after a warm-up, each repeat by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Final

from provisioner.profiling.torch_import import import_torch

Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a step's repeats in s: median, fastest and slowest, and whether they were replays of a CUDA graph."""

    median_s: float
    min_s: float
    max_s: float
    graph: bool = False

    def scaled(self, factor: float, more: "Timing") -> "Timing":
        """Timing with each of the three times multiplied by ``factor``, plus the one of ``more``."""
        pairs = ((self.median_s, more.median_s), (self.min_s, more.min_s), (self.max_s, more.max_s))
        median_s, min_s, max_s = (factor * mine_s + more_s for mine_s, more_s in pairs)
        return Timing(median_s, min_s, max_s, self.graph and more.graph)


def time_step(step: Step, device: Any, warm_up: int, repeats: int, under_load: Callable[[], None]) -> Timing:
    """Time of ``repeats`` runs of a step, after ``warm_up`` that do not count.

    A GPU is timed between events, as a CUDA graph if the step can be captured; ``under_load`` is then called once while
    further runs keep the GPU busy. A CPU is timed by the wall clock.
    """
    if device.type == "cuda":
        return _time_cuda(step, warm_up, repeats, under_load)
    for _ in range(warm_up):
        step()
    seconds = []
    for _ in range(repeats):
        began = perf_counter()
        step()
        seconds.append(perf_counter() - began)
    return Timing(median(seconds), min(seconds), max(seconds))


_WARM_S: Final = 0.3  # shortest warm-up of a GPU, in s: it leaves its idle clocks within milliseconds, not at once

_LOAD_S: Final = 0.5
"""Time for which the GPU is busy while its clocks are read, in s; nvidia-smi takes up to a few tenths of a second."""


def _time_cuda(step: Step, warm_up: int, repeats: int, under_load: Callable[[], None]) -> Timing:
    torch = import_torch()
    graph = _captured(step)
    run: Step = step if graph is None else graph.replay
    torch.cuda.synchronize()
    began = perf_counter()
    run()
    torch.cuda.synchronize()
    for _ in range(max(warm_up, round(_WARM_S / (perf_counter() - began)))):
        run()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    torch.cuda.synchronize()
    for begin, end in pairs:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    seconds = [begin.elapsed_time(end) / 1e3 for begin, end in pairs]
    for _ in range(max(1, round(_LOAD_S / median(seconds)))):
        run()
    under_load()
    torch.cuda.synchronize()
    return Timing(median(seconds), min(seconds), max(seconds), graph is not None)


def _captured(step: Step) -> Any:
    """CUDA graph of the step, or None if it cannot be captured; an out-of-memory error is passed on."""
    torch = import_torch()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries make their handles and workspaces before the capture
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph
