"""Points of a grid: each a cluster simulated whole on its request sets, side by side, and kept in a journal.

Points that differ in sizes alone share what was loaded and the request sets, which every process makes once.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final, cast

from provisioner.errors import InputError, Interrupted
from provisioner.files import MOST_BYTES, opened, refusing
from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions
from provisioner.options.studies import GridOptions
from provisioner.progress import worded
from provisioner.results.cluster import Cluster
from provisioner.results.grid import PointLatency, PointOutcome, PoolWork, State
from provisioner.results.simulation import Interval, Simulation
from provisioner.simulation.assemble import Observation, Scenario, assemble, observe, percentiles_of
from provisioner.simulation.policy import Policy
from provisioner.simulation.run import Prepared, compile_simulator, prepare, run
from provisioner.specs.metrics import PREDICTED
from provisioner.specs.roles import ROLES
from provisioner.specs.shipped import data_folder
from provisioner.studies.journal import kept
from provisioner.studies.work import Lost, check_wanted, time_left, workers

_KEPT_REQUESTS: Final = 4_000_000  # requests of the prepared sets that a process keeps, about: 1.2 GB

_CLUSTER_FIELDS: Final = {
    *("slo", "limits", "percentiles", "sets", "design", "policy"),
    *("tensor_parallel", "prompt_tensor_parallel", "token_tensor_parallel"),
    *(f"{role}_machines" for role in ROLES),
    *(field.name for field in fields(Policy)),
}
"""Fields of ``SimulateOptions`` that change neither the requests nor their measures."""

_CLUSTER_FACTORS: Final = ("slo", "prompt-time", "decode-time", "link-bandwidth")
"""Factors that change nothing about the requests."""


@dataclass(frozen=True, slots=True)
class Task:
    """A point to simulate: a cluster in one of the cases, that of a value. ``key`` names it in the journal."""

    key: str
    case: int
    cluster: Cluster
    value: float | None


class Cases:
    """The options of each case of a study, in which the sizes of pools do not count.

    Scenarios and request sets are made when first needed and kept while there is room. Each process has its own.
    """

    def __init__(self, options: Sequence[SimulateOptions], occupancy: bool = False) -> None:
        self.options = tuple(options)
        self.occupancy = occupancy
        self._lock = threading.Lock()
        self._requests = tuple(_requests_of(case) for case in self.options)
        self._loaded = cache(lambda case: load_scenario(self.options[case]))
        self._sets: OrderedDict[tuple[str, float, int], Prepared] = OrderedDict()

    def __reduce__(self) -> tuple[object, ...]:
        return Cases, (self.options, self.occupancy)

    def scenario(self, task: Task) -> Scenario:
        """The scenario of a task; its cluster has the sizes of the task's."""
        with self._lock:
            loaded: Scenario = self._loaded(task.case)
        pools = zip(loaded.cluster.pools, task.cluster.pools, strict=True)
        sized = tuple(replace(pool, machines=wanted.machines) for pool, wanted in pools)
        return replace(loaded, cluster=replace(loaded.cluster, pools=sized))

    def request_set(self, task: Task, scenario: Scenario, k: int) -> Prepared:
        """The k-th request set of a task's case, ready for runs."""
        key = (self._requests[task.case], scenario.expected_requests, k)
        with self._lock:
            if key not in self._sets:
                self._sets[key] = prepare(scenario.request_set(k), scenario.reference)
                while len(self._sets) > 1 and sum(s.requests.requests for s in self._sets.values()) > _KEPT_REQUESTS:
                    self._sets.popitem(last=False)
            self._sets.move_to_end(key)
            return self._sets[key]


def _requests_of(options: SimulateOptions) -> str:
    """A text of all that the requests of a case depend on; cases with equal texts share their request sets."""
    asked = {name: value for name, value in asdict(options).items() if name not in _CLUSTER_FIELDS}
    scale = {name: x for name, x in options.scale.items() if name.partition(":")[0] not in _CLUSTER_FACTORS}
    return repr(sorted({**asked, "scale": scale}.items()))


def simulate_point(cases: Cases, task: Task) -> PointOutcome:
    """Simulate one point: its request sets one after another, none stopped early."""

    def observed(scenario: Scenario, k: int) -> Observation:
        prepared = cases.request_set(task, scenario, k)
        check_wanted()
        done = run(scenario.cluster, prepared, progress=lambda now_s, served: check_wanted())
        return observe(done, percentiles_of(done.latencies, scenario.percentiles), 0.0, scenario.slo.attainment)

    try:
        scenario = cases.scenario(task)
        while True:
            simulation = assemble(scenario, [observed(scenario, k) for k in range(scenario.sets)])
            if simulation.stable is not None or scenario.longer is None:
                return outcome_of(scenario, simulation, cases.occupancy)
            scenario = replace(scenario.longer(), cluster=scenario.cluster)
    except InputError as error:
        return PointOutcome(state="infeasible", why=str(error))


def outcome_of(scenario: Scenario, simulation: Simulation, occupancy: bool = False) -> PointOutcome:
    """A simulation as the outcome of a point; the time that it took is no part of it, so it is the same every time."""
    verdicts = {each.met for each in simulation.latency}
    state: State = "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    broken = [(each.limit, each.judged.mean) for each in simulation.latency if each.limit and each.met == state]
    why = ", ".join(f"{limit.label} {limit.format(value)} for {limit.format(limit.value)}" for limit, value in broken)
    if simulation.unfinished or simulation.stable is False:
        state, why = "stuck" if simulation.unfinished else "unstable", simulation.instability
    elif simulation.stable is None and state != "fail":
        state, why = "undecided", simulation.instability
    shown = [each for each in simulation.latency if each.limit is not None or each.metric in PREDICTED]
    return PointOutcome(
        state=state,
        why="" if state == "pass" else why,
        slo_met=simulation.slo_met,
        stable=simulation.stable,
        latency=tuple(
            PointLatency(
                each.metric,
                each.percentile,
                each.seconds.mean,
                each.slowdown.mean,
                _bounds(each.seconds),
                _bounds(each.slowdown),
                # 0 if no request has the metric, NaN without a reference
                over_limit=None if each.limit is None else max(each.judged.mean, 0.0) / each.limit.value,
                met=each.met,
            )
            for each in shown
        ),
        pools=tuple(
            PoolWork(pool.role, pool.utilization, pool.mean_batch, pool.batch_time_share if occupancy else ())
            for pool in simulation.pools
        ),
        offered_rps=simulation.rate_rps,
        throughput_rps=simulation.throughput_rps,
        requests=simulation.requests,
        unfinished=simulation.unfinished,
        note="; ".join(simulation.warnings[len(scenario.warnings) :]),
    )


def _bounds(interval: Interval) -> tuple[float, float] | None:
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


def question_of(study: str, options: SimulateOptions, version: str, **more: object) -> dict[str, object]:
    """The question of a journal: the options, and digests of the files that they name."""
    asked = asdict(options)
    shipped = (data_folder("hardware_specs"), data_folder("workloads"))
    named = [asked["trace"], asked["workload"], asked["slo"], asked["specs"], more.get("prices"), *shipped]
    digests = {str(path): digest for path in named if path is not None and (digest := _digest(Path(str(path))))}
    return {"study": study, "version": version, "options": asked, **more, "files": digests}


def _digest(path: Path) -> str:
    """A digest of the content of a file and of the files beside it that it names, or of a folder; "" of neither."""
    digest = hashlib.sha256()
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe
        with refusing(str(path)), opened(path, MOST_BYTES) as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    files = [each for each in sorted(path.rglob("*")) if each.suffix != ".journal"]  # its own may lie there
    if path.is_file():
        with refusing(str(path)):
            content = path.read_bytes() if path.suffix in (".yaml", ".yml") else b""
            beside = path.parent.iterdir() if content else ()
            files = [path, *sorted(each for each in beside if each.name.encode() in content and each != path)]
    for each in filter(Path.is_file, files):
        digest.update(f"{each.relative_to(path.parent)}\n".encode())
        with refusing(str(each)):
            digest.update(each.read_bytes())
    return digest.hexdigest() if files else ""


@contextmanager
def simulated(
    cases: Cases,
    tasks: Sequence[Task],
    question: Mapping[str, object],
    options: GridOptions,
    out: Sequence[str],
    progress: Callable[[str], None],
) -> Iterator[list[PointOutcome]]:
    """Outcomes of all tasks, of which the block writes the files ``out``; then the journal beside the first goes.

    Tasks are in no order: small clusters take longest, and one after another they would put the time left far off. An
    interrupt raises ``Interrupted`` with the part done and the way to go on.
    """
    with kept(out, question, options.resume, PointOutcome) as (known, keep, where):
        done = {task.key: cast("PointOutcome", known[task.key]) for task in tasks if task.key in known}
        todo = [task for task in tasks if task.key not in done]
        mixed = Random(0).sample(todo, len(todo))
        before = len(done)
        earlier = f" and {before:,} earlier" if before else ""
        try:
            if todo:
                compile_simulator(progress)
                began_s = monotonic()
                with workers(options.threads, options.dask) as pool:
                    for index, outcome in pool.map(simulate_point, cases, mixed):
                        keep(mixed[index].key, asdict(outcome))
                        done[mixed[index].key] = outcome
                        left = time_left(len(done) - before, len(mixed), began_s)
                        progress(worded(left, "sweeping: ", earlier))
        except KeyboardInterrupt:
            raise Interrupted(f"{len(done):,} of {len(tasks):,} points done", where) from None
        except Lost as error:
            raise Lost(f"{error}; {len(done):,} of {len(tasks):,} points done; {where}") from None
        outcomes = [done[task.key] for task in tasks]
        if any(outcome.state != "infeasible" for outcome in outcomes):
            yield outcomes
            return
    raise InputError(outcomes[0].why)
