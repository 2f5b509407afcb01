"""Points of a study: each a cluster simulated whole on its request sets, as a flat record.

Points that differ in sizes alone share what was loaded and the request sets, which every process makes once. A finished
point is a line of the journal, so that a study that is stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from provisioner.errors import InputError, Interrupted
from provisioner.loading.factors import load_factors
from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions
from provisioner.planning.search import Prices
from provisioner.progress import worded
from provisioner.results.simulation import LatencyResult, Simulation
from provisioner.simulation.assemble import Observation, Scenario, assemble, observe, percentiles_of
from provisioner.simulation.cluster import Cluster
from provisioner.simulation.run import Prepared, compile_simulator, prepare, run
from provisioner.specs import catalog
from provisioner.specs.metrics import PREDICTED, name_of
from provisioner.studies.journal import ENDING, Journal
from provisioner.studies.work import check_wanted, time_left, workers

if TYPE_CHECKING:
    import pandas as pd


Record = dict[str, Any]
"""What one point showed: numbers and texts by the names of columns."""

ROLES: Final = ("prompt", "token", "mixed")

STATES: Final = ("pass", "undecided", "fail", "unstable", "stuck", "infeasible")
"""``pass``: stable, and every limit met; ``undecided``: several sets leave a limit undecided; ``fail``: stable, but a
limit is missed; ``unstable``: requests wait ever longer; ``stuck``: some are never served; ``infeasible``: this cluster
cannot serve these requests at all."""

_KEPT_REQUESTS: Final = 4_000_000
"""Requests of the prepared sets that a process keeps, about: 1.2 GB."""

_CLUSTER_FIELDS: Final = frozenset(
    {
        "slo",
        "limits",
        "sets",
        "design",
        "prompt_machines",
        "token_machines",
        "mixed_machines",
        "tensor_parallel",
        "prompt_tensor_parallel",
        "token_tensor_parallel",
        "policy",
        "max_pending_tokens",
        "batch_tokens",
        "batch_requests",
        "max_preemptions",
        "transfer_retry_s",
        "share_links",
        "percentiles",
    }
)
"""Fields of ``SimulateOptions`` that change nothing about the requests or what they are measured by."""

_FILES: Final = ("trace", "workload", "slo")


@dataclass(frozen=True, slots=True)
class Point:
    """A cluster to simulate: which of the cases, with how many machines in each pool. ``key`` names it."""

    key: str
    case: int
    sizes: tuple[int, ...]


class Points:
    """What the points of a study share: the options of each case, in which the sizes of pools do not count.

    Scenarios and request sets are made when first needed and kept while there is room. Each process has its own.
    """

    def __init__(self, cases: Sequence[SimulateOptions], occupancy: bool = False) -> None:
        self.cases = tuple(cases)
        self.occupancy = occupancy
        self._lock = threading.Lock()
        self._requests = tuple(_requests_of(case) for case in self.cases)
        self._scenarios: dict[int, Scenario] = {}
        self._sets: OrderedDict[tuple[str, int], Prepared] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return Points, (self.cases, self.occupancy)

    def scenario(self, point: Point) -> Scenario:
        """The scenario of a point; its cluster has the point's sizes."""
        with self._lock:
            if point.case not in self._scenarios:
                self._scenarios[point.case] = load_scenario(self.cases[point.case])
            loaded = self._scenarios[point.case]
        pools = loaded.cluster.pools
        sized = tuple(replace(pool, machines=size) for pool, size in zip(pools, point.sizes, strict=True))
        return replace(loaded, cluster=Cluster(sized, loaded.cluster.policy))

    def request_set(self, point: Point, scenario: Scenario, k: int) -> Prepared:
        """The k-th request set of a point's case, ready for runs."""
        key = (self._requests[point.case], k)
        with self._lock:
            if key not in self._sets:
                self._sets[key] = prepare(scenario.request_set(k), scenario.reference)
                while len(self._sets) > 1 and sum(s.requests.requests for s in self._sets.values()) > _KEPT_REQUESTS:
                    self._sets.popitem(last=False)
            self._sets.move_to_end(key)
            return self._sets[key]


def _requests_of(options: SimulateOptions) -> str:
    """What the requests of a case depend on; cases with the same text share their request sets."""
    fields = {name: value for name, value in asdict(options).items() if name not in _CLUSTER_FIELDS}
    same = {"slo", "prompt-time", "decode-time", "link-bandwidth"}
    fields["scale"] = {name: value for name, value in options.scale.items() if name.partition(":")[0] not in same}
    return repr(sorted(fields.items()))


def simulate_point(points: Points, point: Point) -> Record:
    """The record of one point: its request sets simulated one after another, none stopped early."""
    try:
        scenario = points.scenario(point)
        observations = [_observation(points, point, scenario, k) for k in range(scenario.sets)]
    except InputError as error:
        return {"state": "infeasible", "why": str(error)}
    return record_of(scenario, assemble(scenario, observations), points.occupancy)


def _observation(points: Points, point: Point, scenario: Scenario, k: int) -> Observation:
    prepared = points.request_set(point, scenario, k)
    check_wanted()
    done = run(scenario.cluster, prepared, progress=lambda now_s, served: check_wanted())
    return observe(done, percentiles_of(done.latencies, scenario.percentiles), 0.0)


def record_of(scenario: Scenario, found: Simulation, occupancy: bool = False) -> Record:
    """A simulation as a flat record; the time that it took is no part of it, so that it is the same every time."""
    limited = [each for each in found.latency if each.limit is not None]
    ratios = {each.limit.name: ratio_of(each) for each in limited if each.limit is not None}
    known = {name: ratio for name, ratio in ratios.items() if not math.isnan(ratio)}
    binding = max(known, key=lambda name: known[name], default="")
    state = _state(found)
    record: Record = {
        "state": state,
        "why": _why(found, limited, state),
        "slo_met": found.slo_met,
        "stable": found.stable,
        "worst_ratio": known.get(binding, math.nan),
        "binding": binding,
        "missed": ",".join(each.limit.name for each in limited if each.limit is not None and each.met == "fail"),
    }
    for each in found.latency:
        if each.limit is None and each.metric not in PREDICTED:
            continue
        name = name_of(each.metric, each.percentile)
        for unit, value in (("s", each.seconds), ("slowdown", each.slowdown)):
            record[f"{name}_{unit}"] = value.mean
            if found.sets > 1:
                record[f"{name}_{unit}_low"] = math.nan if value.low is None else value.low
                record[f"{name}_{unit}_high"] = math.nan if value.high is None else value.high
    for pool in found.pools:
        record[f"{pool.role}_utilization"] = pool.utilization
        record[f"{pool.role}_mean_batch"] = pool.mean_batch
    record["offered_rps"] = found.rate_rps
    record["throughput_rps"] = found.throughput_rps
    record["requests"] = found.requests
    record["unfinished"] = found.unfinished
    record["note"] = "; ".join(found.warnings[len(scenario.warnings) :])
    if occupancy:
        record["batch_time_share"] = {pool.role: list(pool.batch_time_share) for pool in found.pools}
    return record


def ratio_of(each: LatencyResult) -> float:
    """A percentile over its limit: 0 where no request has the metric, NaN where there is no reference."""
    assert each.limit is not None
    return max(each.judged.mean, 0.0) / each.limit.value


def _state(found: Simulation) -> str:
    if found.unfinished:
        return "stuck"
    if not found.stable:
        return "unstable"
    verdicts = {each.met for each in found.latency if each.met is not None}
    return "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"


def _why(found: Simulation, limited: Sequence[LatencyResult], state: str) -> str:
    """Why a point does not pass, in words."""
    if state in ("unstable", "stuck"):
        return found.instability
    wanted = "fail" if state == "fail" else "undecided"
    texts = [
        f"{each.limit.label} {each.limit.format(each.judged.mean)} for {each.limit.format(each.limit.value)}"
        for each in limited
        if each.limit is not None and each.met == wanted
    ]
    return ", ".join(texts)


_PRICED: Final = ("price", "power")


def without_prices(options: SimulateOptions) -> SimulateOptions:
    """The options without the factors that change no latency."""
    scale = {name: value for name, value in options.scale.items() if name.partition(":")[0] not in _PRICED}
    return replace(options, scale=scale)


def prices_of(machines: Iterable[str], price_list: str, options: SimulateOptions) -> tuple[Prices, tuple[str, ...]]:
    """What machines cost and draw, with the factors of the options on them, and where that comes from."""
    known = catalog.with_own(options.specs)
    listed = known.price_list(price_list)
    prices = {name: known.price(listed, name) for name in machines}
    factors = load_factors(options.scale, known)
    sources = {f"{name}: {price.source}": None for name, price in prices.items()}
    return Prices(
        {name: factors.of("price", name) * price.cost_usd_per_h for name, price in prices.items()},
        {name: factors.of("power", name) * price.provisioned_power_w for name, price in prices.items()},
    ), (f"prices: {listed.title} ({listed.date})", *sources)


def totals_of(pools: Sequence[tuple[str, str, int]], prices: Prices) -> Record:
    """Sizes of the pools (role, machine, machines), and what they come to."""
    sizes: Record = {f"{role}_machines": None for role in ROLES if role in {pool[0] for pool in pools}}
    for role, _, machines in pools:
        sizes[f"{role}_machines"] = machines
    return {
        **sizes,
        "machines": sum(machines for _, _, machines in pools),
        "cost_usd_per_h": math.fsum(n * prices.cost_usd_per_h[name] for _, name, n in pools),
        "power_w": math.fsum(n * prices.power_w[name] for _, name, n in pools),
    }


_NOT_SWEPT: Final = {
    "pools": "--pool: a sweep is over the sizes of designs; give --design",
    "failures": "--fail: names machines of one cluster; simulate that one",
    "repeat": "--repeat: times one simulation; leave it out of a sweep",
    "records": "--records: are of one simulation; leave them out of a sweep",
    "timeline": "--timeline: is of one simulation; leave it out of a sweep",
}


def refuse_not_swept(options: SimulateOptions) -> None:
    """Refuse what belongs to a single simulation."""
    for name, message in _NOT_SWEPT.items():
        if getattr(options, name):
            raise InputError(message)


def columns_of(rows: Sequence[Mapping[str, Any]], leave_out: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Rows as columns, in the order in which names first appear, texts last; None where a row has no value."""
    names = {name: None for row in rows for name in row if name not in leave_out}
    last = [name for name in ("why", "note") if name in names]
    ordered = [*(name for name in names if name not in last), *last]
    return {name: [row.get(name) for row in rows] for name in ordered}


COUNTS: Final = frozenset({*(f"{role}_machines" for role in ROLES), "machines", "unfinished"})
"""Columns of whole numbers."""


def frame_of(columns: Mapping[str, list[Any]], counts: Container[str] = COUNTS) -> pd.DataFrame:
    """Columns as a data frame: numbers NaN and texts empty where there is none, truths and counts those of pandas."""
    import pandas as pd

    found: dict[str, Any] = {}
    for name, values in columns.items():
        known = [value for value in values if value is not None]
        if known and all(isinstance(value, bool) for value in known):
            found[name] = pd.array(values, dtype="boolean" if len(known) < len(values) else "bool")
        elif known and all(isinstance(value, str) for value in known):
            found[name] = pd.array([value or "" for value in values], dtype="object")
        elif name in counts:
            found[name] = pd.array(values, dtype="Int64" if len(known) < len(values) else "int64")
        else:
            found[name] = pd.array([math.nan if value is None else value for value in values], dtype="float64")
    return pd.DataFrame(found)


def question_of(study: str, options: SimulateOptions, version: str, **more: Any) -> dict[str, Any]:
    """What a journal is of: the options, and the content of the files that they name."""
    fields = asdict(options)
    own = [] if options.specs is None else sorted(Path(options.specs).rglob("*.*"))
    files = [*(fields[name] for name in _FILES), more.get("prices"), *own]
    digests = {str(path): _digest(str(path)) for path in files if path is not None and Path(str(path)).is_file()}
    return {"study": study, "version": version, "options": fields, **more, "files": digests}


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def journal_path(out: Sequence[str]) -> str | None:
    """Where a study that writes these files keeps its journal: beside the first."""
    return f"{out[0]}{ENDING}" if out else None


@contextmanager
def simulated(
    points: Points,
    items: Sequence[Point],
    *,
    question: Mapping[str, Any],
    journal: str | None,
    resume: bool,
    threads: int | None,
    dask: str | None,
    progress: Callable[[str], None],
) -> Iterator[list[Record]]:
    """The records of all points, in order of ``items``; the journal goes when the block ends without an error.

    ``KeyboardInterrupt`` says what was done and how to go on.
    """
    if resume and journal is None:
        raise InputError("--resume: goes on with the journal beside the first --out; give the --out of the first run")
    book = None if journal is None else Journal.open(journal, dict(question), resume)
    finished = False
    try:
        done: dict[str, Record] = dict(book.done) if book is not None else {}
        todo = [item for item in items if item.key not in done]
        try:
            _simulate(points, todo, done, book, threads, dask, progress)
        except KeyboardInterrupt:
            kept = "nothing written" if journal is None else f"kept in {journal}, --resume goes on from there"
            raise Interrupted(f"{len(done):,} of {len(items):,} points done", kept) from None
        records = [done[item.key] for item in items]
        if all(record["state"] == "infeasible" for record in records):
            finished = True
            raise InputError(str(records[0]["why"]))
        yield records
        finished = True
    finally:
        if book is not None:
            book.close(finished)


def _simulate(
    points: Points,
    todo: Sequence[Point],
    done: dict[str, Record],
    book: Journal | None,
    threads: int | None,
    dask: str | None,
    progress: Callable[[str], None],
) -> None:
    """Simulate what is left to do, into ``done`` and the journal.

    In no order: small clusters take longest, and one after another they would put the time left far off.
    """
    if not todo:
        return
    compile_simulator(progress)
    mixed = Random(0).sample(todo, len(todo))
    began, before = monotonic(), len(done)
    with workers(threads=threads, dask=dask) as pool:
        for index, record in pool.map(simulate_point, points, mixed):
            point = mixed[index]
            if book is not None:
                book.add(point.key, record)
            done[point.key] = record
            earlier = f" and {before:,} earlier" if before else ""
            progress(worded(time_left(len(done) - before, len(mixed), began), "sweeping: ", earlier))
