"""Error rates of the verdict on stability, for docs/reference/metrics.md: ``python -m tests.benchmarks.stability``.

Clusters and single servers (M/M/1, M/D/1) are offered shares of the rate that they serve for half an hour.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions
from provisioner.simulation.measure import Latencies
from provisioner.simulation.run import Run, prepare, run
from provisioner.simulation.stability import Backlog, backlog, observed_backlog, stability
from tests.simulation.test_stability import FILLING, first_come, lengths

LOADS: Final = (0.5, 0.7, 0.9, 0.95, 1.0, 1.05, 1.2, 1.5)
SETS: Final = ((20.0, 2), (120.0, 1), (120.0, 5), (300.0, 1), (600.0, 1))  # time in s, request sets
VERDICTS: Final = 20  # of each cluster, load, time and number of sets
LONG_S, LONG_REQUESTS = 1800.0, 60_000.0  # of a run that tells the rate that a cluster serves
SERVICE_S: Final = 0.05

ONE_H100: Final = {"design": "baseline-h100", "mixed_machines": 1, "tensor_parallel": 8}
STRICT: Final = {"design": "splitwise-hh", "prompt_machines": 4, "token_machines": 1, "tensor_parallel": 8}
CLUSTERS: Final[dict[str, dict[str, Any]]] = {
    "strict, coding": {**STRICT, "workload": "coding", "policy": "split"},
    "strict, conversation": {**STRICT, "workload": "conversation", "policy": "split", "design": "splitwise-aa"},
    "lending, CV 3": {**STRICT, "workload": "coding", "policy": "splitwise", "cv": 3.0},
    "lending, two states": {**STRICT, "workload": "conversation", "policy": "splitwise", "prompt_machines": 2},
    "mixed, coding": {**ONE_H100, "workload": "coding", "policy": "mixed"},
    "mixed, conversation": {**ONE_H100, "workload": "conversation", "policy": "mixed"},
    "chunked, TP 2": {**ONE_H100, **FILLING},
}


def served(asked: dict[str, Any], rate_rps: float, seconds: float, first: int, count: int) -> Iterator[Run]:
    """Runs of a cluster at a rate on ``count`` request sets of a time."""
    fields = {"model": "llama2-70b", "slo": "batch", "seed": 5, "engine": "provisioner-0.1"} | asked
    scenario = load_scenario(SimulateOptions(**fields, rate_rps=rate_rps, duration_s=seconds))
    for k in range(first, first + count):
        yield run(scenario.cluster, prepare(scenario.request_set(k), scenario.reference))


def capacity_rps(asked: dict[str, Any]) -> float:
    """The largest rate within 1 % at which the second half of a long run completes what arrives in it."""
    low, high = 2.0, 64.0
    while high > 1.01 * low:
        rate = (low * high) ** 0.5
        ended = next(served(asked, rate, max(LONG_S, LONG_REQUESTS / rate), 10_000, 1)).latencies
        at_s = np.linspace(0.5, 1.0, 33)[:, None] * ended.arrival_s[-1]
        left = np.sum(ended.arrival_s <= at_s, axis=1) - np.sum(ended.last_s <= at_s, axis=1)
        grows = np.polyfit(at_s[:, 0], left, 1)[0] > 0.01 * rate
        low, high = (low, rate) if grows else (rate, high)
    return low


def cluster(asked: dict[str, Any], capacity: float, load: float, seconds: float, count: int) -> list[Backlog]:
    """Backlogs of the sets of a cluster."""
    return [observed_backlog(each) for each in served(asked, load * capacity, seconds, 0, count)]


def single(random: bool, load: float, seconds: float, count: int) -> list[Backlog]:
    """Backlogs of one server with exponential or constant times of service, first come first served."""
    rng = np.random.default_rng(5)

    def one() -> Latencies:
        number = int(load * seconds / SERVICE_S)
        service_s = rng.exponential(SERVICE_S, number) if random else np.full(number, SERVICE_S)
        return first_come(np.cumsum(rng.exponential(SERVICE_S / load, number)), service_s)

    return [backlog(one()) for _ in range(count)]


def main() -> None:
    """Print a table by time and number of request sets: answers in % by load."""
    found = dict[tuple[float, int, float], Counter[bool | None]]()
    with tempfile.TemporaryDirectory() as folder:
        CLUSTERS["chunked, TP 2"]["workload"] = lengths(Path(folder) / "lengths.csv")
        of: dict[str, Callable[[float, float, int], list[Backlog]]] = {
            "M/M/1": partial(single, True),
            "M/D/1": partial(single, False),
        }
        for name, asked in CLUSTERS.items():
            of[name] = partial(cluster, asked, rate := capacity_rps(asked))
            print(f"{name}: {rate:.3g} requests/s", flush=True)
        for seconds in dict.fromkeys(each for each, _ in SETS):
            numbers = [number for each, number in SETS if each == seconds]
            for load in LOADS:
                for backlogs_of in of.values():
                    backlogs = backlogs_of(load, seconds, VERDICTS * max(numbers))
                    for n in numbers:
                        groups = (backlogs[k : k + n] for k in range(0, VERDICTS * n, n))
                        answers = Counter(stability(each)[0] for each in groups)
                        found.setdefault((seconds, n, load), Counter()).update(answers)
    print("| load | " + " | ".join(map(str, LOADS)) + " |")
    for seconds, n in SETS:
        for answer, what in ((True, "stable"), (False, "not stable"), (None, "too short")):
            shares = [100.0 * found[seconds, n, load][answer] / found[seconds, n, load].total() for load in LOADS]
            print(f"| {n} of {seconds:g} s: {what} | " + " | ".join(f"{share:.0f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
