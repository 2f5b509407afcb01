"""Runs of a scenario's request sets, side by side on threads: the compiled event loop runs without Python's lock.

The calling thread can be interrupted: the others stop at the next pause of their event loops.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from statistics import median
from threading import Event
from time import perf_counter
from typing import Any, Final

from provisioner.errors import Interrupted
from provisioner.progress import Step
from provisioner.results.simulation import Simulation
from provisioner.simulation.assemble import Observation, Percentiles, Scenario, assemble, observe, percentiles_of
from provisioner.simulation.requests import MAX_REQUESTS
from provisioner.simulation.run import Prepared, Run, compile_simulator, prepare, run

_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Observation of one run, and the run itself if it was to be kept."""

    observation: Observation
    run: Run | None


class _Stopped(Exception):
    """Exception in a thread whose work is no longer wanted."""


class _Watch:
    """Progress of the threads, and whether they are still wanted. Each thread writes its own place only."""

    def __init__(self, sets: int) -> None:
        self.wanted = Event()
        self.wanted.set()
        self.now_s = [0.0] * sets
        self.done = [0] * sets

    def tell(self, k: int, now_s: float = 0.0, done: int = 0) -> None:
        """Note the progress of set ``k``; stop its thread if it is no longer wanted."""
        self.now_s[k], self.done[k] = now_s, done
        if not self.wanted.is_set():
            raise _Stopped


def simulated(scenario: Scenario, **how: Any) -> tuple[Simulation, tuple[Served, ...]]:
    """The result of a scenario with its runs, of sets as long as it takes to tell whether the cluster is stable."""
    while True:
        served = serve(scenario, **how)
        result = assemble(scenario, [each.observation for each in served])
        if result.stable is not None or scenario.longer is None:
            return result, served
        scenario = scenario.longer()


def serve(
    scenario: Scenario,
    *,
    repeat: int | None = None,
    keep_requests: bool = False,
    keep_timeline: bool = False,
    workers: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Served, ...]:
    """Simulate every request set of a scenario; results in order of the sets, the same for any number of workers.

    ``repeat`` runs each set ``repeat`` more times, one at a time, and takes the median of their times. With
    ``keep_requests`` all runs are kept, with ``keep_timeline`` the first set's run with its timeline. ``progress``
    receives the state of the work, from the calling thread. A ``KeyboardInterrupt`` raises ``Interrupted`` with the
    number of sets done. An error is that of the first set that fails.
    """
    compile_simulator(progress)
    watch = _Watch(scenario.sets)
    if workers is None:
        at_once = max(int(MAX_REQUESTS // max(scenario.expected_requests, 1.0)), 1)  # the sets that fit in memory
        workers = min(scenario.sets, os.cpu_count() or 1, at_once)
    if repeat is not None:
        workers = 1

    def timed(prepared: Prepared, k: int, timeline: bool = False) -> tuple[Run, Percentiles, float]:
        """Run with its percentiles, and the time of both in s."""
        began = perf_counter()
        finished = run(scenario.cluster, prepared, timeline=timeline, progress=partial(watch.tell, k))
        values = percentiles_of(finished.latencies, scenario.percentiles)
        return finished, values, perf_counter() - began

    def one(k: int) -> Served:
        timeline = keep_timeline and k == 0
        watch.tell(k)
        requests = scenario.request_set(k)
        watch.tell(k)
        prepared = prepare(requests, scenario.reference)
        watch.tell(k)
        finished, values, wall_s = timed(prepared, k, timeline)
        if repeat is not None:
            wall_s = median(timed(prepared, k)[2] for _ in range(repeat))
        watch.tell(k, float(finished.clock["now_s"]), requests.requests)
        return Served(
            observe(finished, values, wall_s, scenario.slo.attainment), finished if keep_requests or timeline else None
        )

    # Finished futures come through a queue: ``futures.wait`` locks all of them, and an interrupt during the call leaves
    # locks that the threads then wait for.
    ended: SimpleQueue[Future[Served]] = SimpleQueue()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="simulation")
    futures = [executor.submit(one, k) for k in range(scenario.sets)]
    total = scenario.sets * scenario.expected_requests
    sets = "1 request set" if scenario.sets == 1 else f"{scenario.sets} request sets"
    try:
        for future in futures:
            future.add_done_callback(ended.put)
        done = 0
        while done < len(futures):
            with suppress(Empty):
                ended.get(timeout=_POLL_S).result()
                done += 1
            if done < len(futures):
                share = min(sum(watch.done) / total, 1.0) if total > 0 else 0.0
                served = f"{sum(watch.done):,} requests served ({100 * share:.0f} %), at {max(watch.now_s):,.0f} s"
                many = "" if scenario.sets == 1 else f"{done} of {sets} done, "
                progress(Step(f"simulating: {many}{served}", share, 1.0))
    except KeyboardInterrupt:
        done = sum(future.done() and not future.cancelled() for future in futures)
        raise Interrupted(f"{done} of {sets} done") from None
    finally:
        watch.wanted.clear()
        executor.shutdown(wait=False, cancel_futures=True)
    return tuple(future.result() for future in futures)
