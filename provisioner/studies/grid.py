"""Grids: every size of a design's pools, or clusters of fixed sizes over an input, each point simulated whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, product
from math import prod
from typing import Final, Literal

from provisioner.errors import InputError
from provisioner.loading.factors import load_factors
from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions, SweepOptions, VaryOptions, spelled
from provisioner.options.command import command_of, simulate_question
from provisioner.planning.designs import choose, designs
from provisioner.planning.formulation import Prices
from provisioner.planning.lattice import whole_units
from provisioner.planning.solver import order
from provisioner.results.cluster import Cluster, Pool
from provisioner.results.grid import Grid, GridPoint, PointOutcome, Varied
from provisioner.results.result import door
from provisioner.simulation.assemble import Scenario
from provisioner.specs import catalog
from provisioner.specs.criteria import CriterionName
from provisioner.specs.roles import ROLES
from provisioner.specs.units import format_count, quoted
from provisioner.studies.inputs import SCALE, Input, check_varied, factor, input_of
from provisioner.studies.points import Cases, Execution, Task, question_of, simulated
from provisioner.studies.ranges import typed_range, whole_range

Sizes = str | int | Iterable[int]
"""Sizes of a pool: a range as typed (``1:40``, ``10:100:10``, ``1:5,8``), a number, or several."""

MOST_POINTS: Final = 100_000
"""Clusters that one sweep simulates at most."""

_PRICED: Final = ("price", "power")
_NOT_SWEPT: Final = {
    "pools": "a sweep is over the sizes of designs; name one",
    "failures": "names machines of one cluster; simulate that one",
    "repeat": "times one simulation; leave it out of a sweep",
    "records": "are of one simulation; leave them out of a sweep",
    "timeline": "is of one simulation; leave it out of a sweep",
}


def sweep(
    options: SweepOptions,
    *,
    out: Sequence[str] = (),
    table: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Grid:
    """Simulate every cluster of a design with these sizes of its pools.

    ``out`` are files to write, checked before the work starts, ``table`` is the one of those that hold one. A journal
    beside the first file keeps finished points.
    """
    base, execution = _begun(options, out, table, progress)
    given = {"prompt": options.prompt, "token": options.token, "mixed": options.mixed}
    ranges = {role: _range(base, role, sizes) for role, sizes in given.items()}
    case = _of_sizes(base, {role: sizes[0] for role, sizes in ranges.items() if sizes})
    scenario = load_scenario(without_prices(case))
    sizes: list[tuple[int, ...]] = [ranges[pool.role] or () for pool in scenario.cluster.pools]
    _check_count(prod(map(len, sizes)), "clusters")
    clusters = [cluster_of(scenario, each) for each in product(*sizes)]
    ends = [_Ends(scenario, scenario, ("", ""))]
    return _Study(base, options.prices, clusters, [case], ends, objective=options.objective).grid(execution)


def vary(
    options: VaryOptions,
    *,
    out: Sequence[str] = (),
    table: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Grid:
    """Simulate clusters over the values of an input: those named, or the one of the options.

    The input is a number of a simulation (``inputs.INPUTS``: ``rate`` in requests/s, of a trace its requests closer
    together; ``batch-tokens``, ``duration``, ``in-flight`` and others), or one of the inputs that ``scale`` multiplies,
    varied as a factor. The other arguments are those of ``sweep``.
    """
    base, execution = _begun(options, out, table, progress)
    varied = input_of(options.name, base.specs)
    check_varied(varied, base)
    values = varied.values(options.values)
    if options.clusters and base.design is not None:
        raise InputError(f"{spelled('clusters')}: names design and sizes; leave out {spelled('design')}")
    sized = [_of_cluster(base, text) for text in options.clusters] or [base]
    _check_count(len(sized) * len(values), "points")
    traced = varied.field == "rate_rps" and base.trace is not None
    if traced:
        own_rps = load_scenario(without_prices(sized[0])).request_set(0).rate_rps
        cases = [[factor("rate").at(each, value / own_rps) for value in values] for each in sized]
    else:
        cases = [[varied.at(each, value) for value in values] for each in sized]
    # what is said of factors is what holds without them
    as_given = traced or varied.field == SCALE
    ends = [_ends(varied, [each] if as_given else of, values) for each, of in zip(sized, cases, strict=True)]
    clusters = [cluster_of(each.first) for each in ends]
    if len(set(map(str, clusters))) < len(clusters):
        raise InputError(f"{spelled('clusters')}: a cluster is named twice; name each once")
    shown = Varied(varied.name, varied.column, varied.label, varied.what, values)
    return _Study(base, options.prices, clusters, list(chain(*cases)), ends, varied=shown).grid(execution)


@dataclass(frozen=True, slots=True)
class _Study:
    """Clusters by values, each pair with a case of its own; clusters of a grid of sizes share one case."""

    base: SimulateOptions
    price_list: str
    clusters: Sequence[Cluster]
    cases: Sequence[SimulateOptions]
    ends: Sequence[_Ends]
    varied: Varied | None = None
    objective: CriterionName | None = None

    def grid(self, execution: Execution) -> Grid:
        """Simulate all points, and answer with the grid."""
        clusters, varied, objective = self.clusters, self.varied, self.objective
        at = [(cluster, value) for cluster in clusters for value in (varied.values if varied else (None,))]
        scenario, last = self.ends[0].first, self.ends[0].last
        perf = scenario.cluster.pools[0].perf
        prices = [prices_of(clusters, self.price_list, case)[0] for case in self.cases]

        def gridded(outcomes: Sequence[PointOutcome]) -> Grid:
            points = tuple(
                GridPoint.of(outcome, cluster, value, prices[k if varied else 0].totals(cluster))
                for k, ((cluster, value), outcome) in enumerate(zip(at, outcomes, strict=True))
            )
            frontier, optimum, edges = _best(clusters, points, prices[0], objective) if objective else ((), None, ())
            notes = [point.note for point in points if point.note]
            beyond = f"{len(notes):,} of the {'points' if varied else 'clusters'} ran beyond what was measured"
            warnings = dict.fromkeys(note for each in self.ends for note in each.warnings)
            sources = dict.fromkeys(s for each in self.ends for end in (each.first, each.last) for s in end.sources)
            return Grid(
                clusters=tuple(clusters),
                varied=varied,
                points=points,
                frontier=frontier,
                optimum=optimum,
                objective=objective,
                slo=scenario.slo.name,
                limits=scenario.slo.limits,
                model=perf.model.name,
                workload=scenario.workload,
                load=scenario.arrivals.to(last.arrivals),
                policy=scenario.cluster.policy.name,
                assumptions=perf.assumptions,
                sets=last.sets,
                prices=self.price_list,
                sources=(*sources, *prices_of(clusters, self.price_list, self.base)[1]),
                warnings=(*warnings, *edges, *(f"{beyond}; the first of them: {note}" for note in notes[:1])),
                question={**_plain(self.base), **self._own},
                command=self._command,
                seed=scenario.seed,
                versions=scenario.versions,
            )

        tasks = [
            Task(
                str(cluster) if varied is None else f"{cluster} {varied.name}={value:.12g}",
                k if varied else 0,
                tuple(pool.machines for pool in cluster.pools),
            )
            for k, (cluster, value) in enumerate(at)
        ]
        version = str(scenario.versions.get("provisioner"))
        question = question_of("vary" if varied else "sweep", self.base, version, **self._own)
        shared = Cases([without_prices(case) for case in self.cases], occupancy=varied is not None)
        return simulated(shared, tasks, gridded, question, execution)

    @property
    def _own(self) -> dict[str, object]:
        """The question beside that of a simulation."""
        own: dict[str, object] = {"prices": self.price_list}
        if self.varied is None:
            return own | {"objective": self.objective, **_sizes(self.clusters)}
        named = [_typed(cluster) for cluster in self.clusters]
        return own | {"name": self.varied.name, "values": self.varied.values, "clusters": named}

    @property
    def _command(self) -> str:
        """The ``provision sweep`` command that asks the same again, with its defaults written out."""
        if self.varied is None:
            ranges = {role: typed_range(sizes) for role, sizes in _sizes(self.clusters).items()}
            return command_of("sweep", _plain(_of_sizes(self.base, {})) | self._own | ranges, SweepOptions)
        bare = _plain(_of_sizes(replace(self.base, design=None), {}))
        named = {"name": f"{self.varied.name}={typed_range(self.varied.values)}", "values": None}
        return command_of("sweep", bare | self._own | named, VaryOptions)


def _plain(options: SimulateOptions) -> dict[str, object]:
    return simulate_question({each.name: getattr(options, each.name) for each in fields(SimulateOptions)})


def _best(
    clusters: Sequence[Cluster], points: Sequence[GridPoint], prices: Prices, objective: CriterionName
) -> tuple[tuple[int, ...], int | None, tuple[str, ...]]:
    """The frontier and the optimum of a grid of sizes, and warnings of an optimum on the edge of the sizes.

    Totals are compared in whole units, so that equal totals are equal.
    """
    pools = clusters[0].pools
    units = [whole_units({pool.machine: prices.of(each, pool.machine) for pool in pools}) for each in order(objective)]
    sizes = [tuple(pool.machines for pool in cluster.pools) for cluster in clusters]
    passing = [k for k, point in enumerate(points) if point.state == "pass"]

    def rank(k: int) -> tuple[float | tuple[int, ...], ...]:
        totals = (sum(n * unit[pool.machine] for n, pool in zip(sizes[k], pools, strict=True)) for unit in units)
        return (*totals, points[k].worst_ratio or 0.0, sizes[k])

    best = min(passing, key=rank, default=None)
    frontier = tuple(passing[k] for k in smallest_of([sizes[k] for k in passing]))
    edges = []
    for (role, swept), size in zip(_sizes(clusters).items(), sizes[best] if best is not None else (), strict=False):
        if len(swept) > 1 and size == swept[0] > 1:
            edges.append(f"the optimum has the fewest {role} machines swept, {size}: a smaller cluster may pass too")
        if len(swept) > 1 and size == swept[-1]:
            edges.append(f"the optimum has the most {role} machines swept, {size}: one with more may be better")
    return frontier, best, tuple(edges)


def cluster_of(scenario: Scenario, sizes: Sequence[int] | None = None) -> Cluster:
    """The cluster of a scenario, with these numbers of machines in its pools, or its own."""
    pools = scenario.cluster.pools
    return Cluster(
        scenario.design,
        tuple(
            Pool(
                role=pool.role,
                machine=pool.perf.machine.name,
                tensor_parallel=pool.perf.tensor_parallel,
                gpus_per_machine=pool.perf.machine.gpus,
                replicas=machines * pool.perf.replicas_per_machine,
                min_prompt_tokens=pool.min_prompt_tokens,
                max_prompt_tokens=pool.max_prompt_tokens,
            )
            for pool, machines in zip(pools, sizes or [pool.machines for pool in pools], strict=True)
        ),
    )


def without_prices(options: SimulateOptions) -> SimulateOptions:
    """The options without the factors that change no latency."""
    scale = {name: value for name, value in options.scale.items() if name.partition(":")[0] not in _PRICED}
    return replace(options, scale=scale)


def prices_of(clusters: Iterable[Cluster], price_list: str, options: SimulateOptions) -> tuple[Prices, tuple[str, ...]]:
    """Cost and power of the machines of clusters, with the factors of the options on them, and their sources."""
    known = catalog.with_own(options.specs)
    listed = known.price_list(price_list)
    machines = dict.fromkeys(pool.machine for cluster in clusters for pool in cluster.pools)
    prices = {name: known.price(listed, name) for name in machines}
    sources = dict.fromkeys(f"{name}: {price.source}" for name, price in prices.items())
    scaled = load_factors(options.scale, known).prices(prices)
    return scaled, (f"prices: {listed.title} ({listed.date})", *sources)


def smallest_of(clusters: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Positions of the clusters than which no other has at most as many machines in every pool, in order of sizes.

    >>> smallest_of([(3, 1), (2, 2), (2, 3), (4, 1)])
    (1, 0)
    """
    kept: list[int] = []
    for k in sorted(range(len(clusters)), key=lambda k: clusters[k]):
        if not any(all(a <= b for a, b in zip(clusters[j], clusters[k], strict=True)) for j in kept):
            kept.append(k)
    return tuple(kept)


def _sizes(clusters: Sequence[Cluster]) -> dict[str, tuple[int, ...]]:
    """The sizes of each pool of a grid of sizes, by role."""
    sizes = zip(*([pool.machines for pool in cluster.pools] for cluster in clusters), strict=True)
    return {pool.role: tuple(sorted(set(each))) for pool, each in zip(clusters[0].pools, sizes, strict=True)}


def _of_sizes(options: SimulateOptions, sizes: Mapping[str, int]) -> SimulateOptions:
    """The options with these machines by role, and no others."""
    prompt, token, mixed = (sizes.get(role) for role in ROLES)
    return replace(options, prompt_machines=prompt, token_machines=token, mixed_machines=mixed)


def _begun(
    options: SweepOptions | VaryOptions, out: Sequence[str], table: str | None, progress: Callable[[str], None]
) -> tuple[SimulateOptions, Execution]:
    """The scenario and its execution; refuse options of a single simulation, and files that cannot be written."""
    base = options.part(SimulateOptions)
    for name, why in _NOT_SWEPT.items():
        if getattr(base, name):
            raise InputError(f"{spelled(name)}: {why}")
    door.open().check(Grid, out, table)
    return base, Execution(options.threads, options.dask, tuple(out), table, options.resume, progress)


def _check_count(count: int, what: Literal["clusters", "points"]) -> None:
    if count > MOST_POINTS:
        raise InputError(f"{format_count(count)} {what} are more than the {format_count(MOST_POINTS)} of a sweep")


def _range(options: SimulateOptions, role: str, sizes: Sizes | None) -> tuple[int, ...] | None:
    """The sizes of a role: the range, or the one number of the options."""
    single: int | None = getattr(options, f"{role}_machines")
    if sizes is None:
        return None if single is None else whole_range(single, spelled(role))
    if single is not None:
        raise InputError(f"{role}_machines: is given as a range too; give one")
    return whole_range(sizes, spelled(role))


def _of_cluster(options: SimulateOptions, text: str) -> SimulateOptions:
    """The options with the cluster of a text such as ``splitwise-hh=35+5`` or ``baseline-h100=40``."""
    what = spelled("clusters")
    name, equals, sizes = (part.strip() for part in text.partition("="))
    if not (name and equals and sizes):
        raise InputError(f"{what}: must be DESIGN=SIZES, such as splitwise-hh=35+5, got {quoted(text)}")
    (design,) = choose(designs(catalog.with_own(options.specs).machines.values()), (name,))
    numbers = [part for size in sizes.split("+") for part in whole_range(size.strip(), f"{what} {text}")]
    if len(numbers) != len(design.slots) or sizes.count("+") + 1 != len(design.slots):
        roles = " + ".join(slot.role for slot in design.slots)
        raise InputError(f"{what} {text}: {design.name} needs the machines of {roles}, one number for each")
    counts: dict[str, int] = {slot.role: number for slot, number in zip(design.slots, numbers, strict=True)}
    return _of_sizes(replace(options, design=name), counts)


def _typed(cluster: Cluster) -> str:
    """A cluster as ``--cluster`` takes it."""
    return f"{cluster.design.lower()}={cluster.sizes.replace(' ', '')}"


@dataclass(frozen=True, slots=True)
class _Ends:
    """The scenarios of a cluster at the first and the last value at which it can be simulated, and those values."""

    first: Scenario
    last: Scenario
    at: tuple[str, str]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of both; those of one with its value."""
        pairs = ((self.at[0], self.first, self.last), (self.at[1], self.last, self.first))
        return tuple(
            note if note in other.warnings else f"{at}: {note}" for at, end, other in pairs for note in end.warnings
        )


def _ends(varied: Input, cases: Sequence[SimulateOptions], values: Sequence[float]) -> _Ends:
    """The ends of a cluster's cases; the first one's error where none can be simulated."""
    pairs = list(zip(cases, values, strict=False))
    first, low = _first_of(pairs)
    last, high = _first_of(pairs[::-1]) if len(pairs) > 1 else (first, low)
    return _Ends(first, last, (f"{varied.name} {low:g}", f"{varied.name} {high:g}"))


def _first_of(cases: Sequence[tuple[SimulateOptions, float]]) -> tuple[Scenario, float]:
    """The first case that can be simulated, with its value."""
    refused: list[InputError] = []
    for case, value in cases:
        try:
            return load_scenario(without_prices(case)), value
        except InputError as error:
            refused.append(error)
    raise refused[0]
