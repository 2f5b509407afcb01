"""Grids: every size of a design's pools, or clusters of fixed sizes over an input, each point simulated whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from provisioner.results.cluster import Cluster, Pool
from provisioner.results.grid import Grid, GridPoint, Varied
from provisioner.results.result import door
from provisioner.simulation.assemble import Scenario
from provisioner.specs import catalog
from provisioner.specs.criteria import CriterionName, order
from provisioner.specs.roles import ROLES
from provisioner.specs.units import format_count, quoted
from provisioner.studies.inputs import SCALE, check_varied, factor, input_of
from provisioner.studies.points import Cases, Task, question_of, simulated
from provisioner.studies.ranges import typed_range, whole_range

MOST_POINTS: Final = 100_000  # clusters that one sweep simulates at most


def sweep(options: SweepOptions, *, out: Sequence[str], table: str | None, progress: Callable[[str], None]) -> Grid:
    """Simulate every cluster of a design with these sizes of its pools.

    ``out`` are files to write, checked before the work starts, ``table`` is the one of those that hold one. A journal
    beside the first file keeps finished points.
    """
    base = _checked(options, out, table)
    ranges = {role: _range(options, role) for role in ROLES}
    case = _of_sizes(base, {role: sizes[0] for role, sizes in ranges.items() if sizes})
    scenario = load_scenario(without_prices(case))
    sizes = [ranges[pool.role] or () for pool in scenario.cluster.pools]
    _check_count(prod(map(len, sizes)), "clusters")
    clusters = [cluster_of(scenario, each) for each in product(*sizes)]
    swept: dict[str, tuple[int, ...]] = dict(zip((pool.role for pool in scenario.cluster.pools), sizes, strict=True))
    own = {"prices": options.prices, "objective": options.objective, **swept}
    typed = {role: typed_range(machines) for role, machines in swept.items()}
    return _Study(options, base, clusters, [case], [[("", scenario)]], own, typed).grid(out, table, progress)


def vary(options: VaryOptions, *, out: Sequence[str], table: str | None, progress: Callable[[str], None]) -> Grid:
    """Simulate clusters over the values of an input: those named, or the one of the options.

    The input is a number of a simulation (``inputs.INPUTS``), or one that ``scale`` multiplies, varied as a factor; the
    rate of a trace brings its requests closer together. The other arguments are those of ``sweep``.
    """
    base = _checked(options, out, table)
    varied = input_of(options.name, base.specs)
    check_varied(varied, base)
    values = varied.values(options.values)
    if options.clusters and base.design is not None:
        raise InputError(f"{spelled('clusters')}: names design and sizes; leave out {spelled('design')}")
    sized = [_of_cluster(base, text) for text in options.clusters] or [base]
    _check_count(len(sized) * len(values), "points")
    moved, steps = varied, values
    if varied.field == "rate_rps" and base.trace is not None:
        own_rps = load_scenario(without_prices(sized[0])).request_set(0).rate_rps
        moved, steps = factor("rate"), tuple(value / own_rps for value in values)
    cases = [[moved.at(each, step) for step in steps] for each in sized]
    # what is said of factors is what holds without them
    known = [[each] for each in sized] if moved.field == SCALE else cases
    ends = [_ends(varied.name, of, values) for of in known]
    clusters = [cluster_of(scenario) for (_, scenario), *_ in ends]
    if len(set(map(str, clusters))) < len(clusters):
        raise InputError(f"{spelled('clusters')}: a cluster is named twice; name each once")
    named = [f"{cluster.design.lower()}={cluster.sizes.replace(' ', '')}" for cluster in clusters]
    own = {"prices": options.prices, "name": varied.name, "values": values, "clusters": named}
    typed = {"name": f"{varied.name}={typed_range(values)}", "values": None, "design": None}
    shown = Varied(varied.name, varied.column, varied.label, varied.kind.varies, values)
    return _Study(options, base, clusters, list(chain(*cases)), ends, own, typed, shown).grid(out, table, progress)


_Ends = Sequence[tuple[str, Scenario]]
"""A cluster's scenarios at the first and the last value at which it can be simulated, with the value; one if equal."""


@dataclass(frozen=True, slots=True)
class _Study:
    """Clusters by values, each pair with a case of its own; clusters of a grid of sizes share one case.

    ``own`` is the question beside that of a simulation, ``typed`` the part of it that is typed as a range.
    """

    options: SweepOptions | VaryOptions
    base: SimulateOptions
    clusters: Sequence[Cluster]
    cases: Sequence[SimulateOptions]
    ends: Sequence[_Ends]
    own: Mapping[str, object]
    typed: Mapping[str, object]
    varied: Varied | None = None

    def grid(self, out: Sequence[str], table: str | None, progress: Callable[[str], None]) -> Grid:
        """Simulate all points, and answer with the grid."""
        clusters, varied = self.clusters, self.varied
        (_, scenario), (_, last) = self.ends[0][0], self.ends[0][-1]
        perf = scenario.cluster.pools[0].perf
        known = catalog.with_own(self.base.specs)
        listed = known.price_list(self.options.prices)
        machines = dict.fromkeys(pool.machine for cluster in clusters for pool in cluster.pools)
        by_machine = {name: known.price(listed, name) for name in machines}
        prices = [load_factors(case.scale, known).prices(by_machine, listed.currency) for case in self.cases]
        objective = self.options.objective if isinstance(self.options, SweepOptions) else None
        tasks = [Task(str(cluster), 0, cluster, None) for cluster in clusters]
        if varied:
            pairs = enumerate(product(clusters, varied.values))
            tasks = [Task(f"{of} {varied.name}={value:.12g}", k, of, value) for k, (of, value) in pairs]
        version = str(scenario.versions.get("provisioner"))
        question = question_of("vary" if varied else "sweep", self.base, version, **self.own)
        asked = simulate_question(asdict(_of_sizes(self.base, {}))) | {**self.own, **self.typed}
        shared = Cases([without_prices(case) for case in self.cases], occupancy=varied is not None)
        with simulated(shared, tasks, question, self.options, out, progress) as outcomes:
            points = tuple(
                GridPoint.of(outcome, task.cluster, task.value, prices[task.case].totals(task.cluster))
                for task, outcome in zip(tasks, outcomes, strict=True)
            )
            frontier, optimum, edges = _best(clusters, points, prices[0], objective) if objective else ((), None, ())
            notes = [point.note for point in points if point.note]
            beyond = f"{len(notes):,} of the {'points' if varied else 'clusters'} ran beyond what was measured"
            warnings = dict.fromkeys(chain(*map(_warnings, self.ends)))
            sources = dict.fromkeys(source for _, end in chain(*self.ends) for source in end.sources)
            price_sources = dict.fromkeys(f"{name}: {price.source}" for name, price in by_machine.items())
            grid = Grid(
                clusters=tuple(clusters),
                varied=varied,
                points=points,
                frontier=frontier,
                optimum=optimum,
                objective=objective,
                slo=scenario.slo.name,
                reference=str(scenario.reference),
                context_tokens=scenario.context_tokens,
                limits=scenario.slo.limits,
                model=perf.model.name,
                workload=scenario.workload,
                load=scenario.arrivals.to(last.arrivals),
                policy=scenario.cluster.policy.name,
                assumptions=perf.assumptions,
                sets=last.sets,
                prices=self.options.prices,
                currency=listed.currency,
                sources=(*sources, f"prices: {listed.title} ({listed.date})", *price_sources),
                warnings=(*warnings, *edges, *(f"{beyond}; the first of them: {note}" for note in notes[:1])),
                question={**simulate_question(asdict(self.base)), **self.own},
                command=command_of("sweep", asked, type(self.options)),
                seed=scenario.seed,
                versions=scenario.versions,
                engine=scenario.engine,
            )
            door.open().save(grid, out, table)
            return grid


def _best(
    clusters: Sequence[Cluster], points: Sequence[GridPoint], prices: Prices, objective: CriterionName
) -> tuple[tuple[int, ...], int | None, list[str]]:
    """The frontier and the optimum of a grid of sizes, and warnings of an optimum on the edge of the sizes.

    Totals are compared in whole units, so that equal totals are equal.
    """
    pools = clusters[0].pools
    criteria = [each for each in order(objective) if each != "complexity"]  # which all of a grid have the same
    units = [whole_units({pool.machine: prices.of(each, pool.machine) for pool in pools}) for each in criteria]
    sizes = [tuple(pool.machines for pool in cluster.pools) for cluster in clusters]
    passing = [k for k, point in enumerate(points) if point.state == "pass"]

    def rank(k: int) -> tuple[float | tuple[int, ...], ...]:
        totals = (sum(n * unit[pool.machine] for n, pool in zip(sizes[k], pools, strict=True)) for unit in units)
        return (*totals, points[k].worst_ratio or 0.0, sizes[k])

    best = min(passing, key=rank, default=None)
    frontier = tuple(passing[k] for k in smallest_of([sizes[k] for k in passing]))
    edges = []
    for pool, swept, size in () if best is None else zip(pools, zip(*sizes, strict=True), sizes[best], strict=True):
        at = f"{pool.role} machines swept, {size}"
        if max(swept) > min(swept) == size > 1:
            edges.append(f"the optimum has the fewest {at}: a smaller cluster may pass too")
        if size == max(swept) > min(swept):
            edges.append(f"the optimum has the most {at}: one with more may be better")
    return frontier, best, edges


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
    scale = {name: value for name, value in options.scale.items() if name.partition(":")[0] not in ("price", "power")}
    return replace(options, scale=scale)


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


def _of_sizes(options: SimulateOptions, sizes: Mapping[str, int]) -> SimulateOptions:
    """The options with these machines by role, and no others."""
    return replace(options, **{f"{role}_machines": sizes.get(role) for role in ROLES})  # type: ignore[arg-type]


def _checked(options: SweepOptions | VaryOptions, out: Sequence[str], table: str | None) -> SimulateOptions:
    """The scenario; refuse files that cannot be written."""
    door.open().check(out, Grid, table)
    return options.part(SimulateOptions)


def _check_count(count: int, what: Literal["clusters", "points"]) -> None:
    if count > MOST_POINTS:
        raise InputError(f"{format_count(count)} {what} are more than the {format_count(MOST_POINTS)} of a sweep")


def _range(options: SweepOptions, role: str) -> tuple[int, ...] | None:
    """The sizes of a role: its range, or the one number of a simulation."""
    single, several = getattr(options, f"{role}_machines"), getattr(options, role)
    if single is not None and several is not None:
        raise InputError(f"{role}_machines: is given as a range too; give one")
    given = single if several is None else several
    return None if given is None else whole_range(given, spelled(role))


def _of_cluster(options: SimulateOptions, text: str) -> SimulateOptions:
    """The options with the cluster of a text such as ``splitwise-hh=35+5`` or ``baseline-h100=40``."""
    what = spelled("clusters")
    name, equals, sizes = (part.strip() for part in text.partition("="))
    if not (name and equals and sizes):
        raise InputError(f"{what}: must be DESIGN=SIZES, such as splitwise-hh=35+5, got {quoted(text)}")
    (design,) = choose(designs(catalog.with_own(options.specs).machines.values()), (name,))
    numbers = [part for size in sizes.split("+") for part in whole_range(size.strip(), f"{what} {text}")]
    roles = [slot.role for slot in design.slots]
    if not len(numbers) == len(roles) == sizes.count("+") + 1:
        needs = f"{design.name} needs the machines of {' + '.join(roles)}, one number for each"
        raise InputError(f"{what} {text}: {needs}")
    return _of_sizes(replace(options, design=name), dict(zip(roles, numbers, strict=True)))


def _ends(name: str, cases: Sequence[SimulateOptions], values: Sequence[float]) -> _Ends:
    """The ends of a cluster's cases; the first one's error if none can be simulated."""

    def first_of(pairs: Sequence[tuple[SimulateOptions, float]]) -> tuple[str, Scenario]:
        refused: list[InputError] = []
        for case, value in pairs:
            try:
                return f"{name} {value:g}", load_scenario(without_prices(case))
            except InputError as error:
                refused.append(error)
        raise refused[0]

    pairs = list(zip(cases, values, strict=False))
    return [first_of(each) for each in (pairs, pairs[::-1])[: len(pairs)]]


def _warnings(ends: _Ends) -> Iterator[str]:
    """The warnings of both ends; those of one alone with its value."""
    for at, end in ends:
        for note in end.warnings:
            yield note if all(note in other.warnings for _, other in ends) else f"{at}: {note}"
