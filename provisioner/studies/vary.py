"""An input varied at fixed sizes of clusters: latency against load or any other number, and how large batches are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

from provisioner.errors import InputError
from provisioner.loading.scenario import load_scenario
from provisioner.options import PlanOptions, SimulateOptions
from provisioner.simulation.assemble import Scenario
from provisioner.specs.units import quoted
from provisioner.studies.inputs import INPUTS, SCALE, Input, check_varied, factor, input_of
from provisioner.studies.points import (
    COUNTS,
    Point,
    Points,
    Record,
    columns_of,
    frame_of,
    prices_of,
    question_of,
    totals_of,
    without_prices,
)
from provisioner.studies.ranges import whole_range
from provisioner.studies.swept import Swept, answered, basis_of, check_points, notes_of, outputs_of

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document


@dataclass(frozen=True, slots=True)
class FixedCluster:
    """A cluster of fixed sizes: its design, and of each pool the role, the machine type and the machines."""

    design: str
    pools: tuple[tuple[str, str, int], ...]

    @property
    def name(self) -> str:
        """The design with the machines of its pools.

        >>> FixedCluster("Splitwise-HA", (("prompt", "dgx-h100", 18), ("token", "dgx-a100", 4))).name
        'Splitwise-HA 18 + 4'
        """
        return f"{self.design} {' + '.join(str(machines) for _, _, machines in self.pools)}"


@dataclass(frozen=True, slots=True)
class Variation(Swept):
    """Clusters of fixed sizes over an input: ``points`` has a row for each cluster and value, cluster by cluster.

    The columns are those of a ``Sweep``'s cells after ``cluster``, ``design`` and the input's ``column``.
    ``occupancy[k]`` has for point k by role the share of time with so many requests in an iteration, from 0; nothing
    where the point could not be simulated. ``slo`` has the limits as they were given: where the input is ``slo``, they
    are so many times as large. Where the input is ``seeds``, ``sets`` is the largest of them.
    """

    name: str
    values: tuple[float, ...]
    clusters: tuple[FixedCluster, ...]
    points: tuple[Mapping[str, Any], ...]
    occupancy: tuple[Mapping[str, Sequence[float]], ...]

    @property
    def varied(self) -> Input:
        """The input, with its unit and what it is in words."""
        return INPUTS.get(self.name) or factor(self.name)

    @property
    def label(self) -> str:
        """What the input is, with its unit."""
        return self.varied.label

    @property
    def column(self) -> str:
        """The column of the input: ``rate_rps``, ``batch_tokens`` and the like, or ``..._factor``."""
        return self.varied.column

    def of(self, cluster: int) -> tuple[Mapping[str, Any], ...]:
        """The points of a cluster in order of the values."""
        return self.points[cluster * len(self.values) : (cluster + 1) * len(self.values)]

    def spans(self, cluster: int) -> tuple[tuple[float, float], ...]:
        """The runs of values at which a cluster passes, each from its first to its last."""
        passed = zip(self.values, (point["state"] == "pass" for point in self.of(cluster)), strict=True)
        runs = [[value for value, _ in run] for passes, run in groupby(passed, key=lambda each: each[1]) if passes]
        return tuple((run[0], run[-1]) for run in runs)

    def to_frame(self) -> pd.DataFrame:
        """One row per cluster and value, as a pandas DataFrame."""
        whole = {self.column} if self.varied.kind == "whole" else set()
        return frame_of(columns_of(self.points), COUNTS | whole)

    def occupancy_frame(self) -> pd.DataFrame:
        """One row per cluster, value, pool and batch: the share of the pool's time with so many requests.

        ``time_share`` is that with ``batch`` requests in an iteration (0: idle), ``cumulative`` that with at most so
        many.
        """
        import pandas as pd

        rows = []
        for point, shares in zip(self.points, self.occupancy, strict=True):
            first = {name: point[name] for name in ("cluster", "design", self.column)}
            for role, of_pool in shares.items():
                total = list(accumulate(of_pool))
                rows += [
                    {**first, "role": role, "batch": batch, "time_share": share, "cumulative": min(total[batch], 1.0)}
                    for batch, share in enumerate(of_pool)
                ]
        names = ["cluster", "design", self.column, "role", "batch", "time_share", "cumulative"]
        return pd.DataFrame(rows, columns=names)

    def to_dict(self) -> dict[str, Any]:
        """The study as plain values: what ``--json`` prints; numbers that are not finite become None."""
        from provisioner.report.vary_document import vary_command

        own = {
            "input": self.name,
            "column": self.column,
            "values": self.values,
            "clusters": [
                {
                    "cluster": each.name,
                    "design": each.design,
                    "pools": [{"role": r, "machine": m, "machines": n} for r, m, n in each.pools],
                    "passes": self.spans(k),
                }
                for k, each in enumerate(self.clusters)
            ],
            "points": [
                {**point, "batch_time_share": shares} for point, shares in zip(self.points, self.occupancy, strict=True)
            ],
        }
        return self.plain(own, vary_command(self.question))

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.vary_document import vary_document

        return vary_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The pictures: the largest percentile over its limit, the percentiles, and how large batches are."""
        from provisioner.report.vary_document import vary_charts

        return vary_charts(self)

    def _shown(self) -> Document:
        from provisioner.report.vary_document import vary_document

        return vary_document(self)


def vary(
    options: SimulateOptions,
    *,
    name: str,
    values: str | float | Iterable[float],
    clusters: str | Sequence[str] = (),
    prices: str = PlanOptions().prices,
    threads: int | None = None,
    dask: str | None = None,
    out: Sequence[str] = (),
    resume: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Variation:
    """Simulate clusters over the values of an input: of ``clusters`` such as ``splitwise-hh=35+5``, or of ``options``.

    ``name`` is a number of a simulation (``inputs.INPUTS``: ``rate`` in requests/s, of a trace its requests closer
    together; ``batch-tokens``, ``duration``, ``in-flight`` and so on), or one of the inputs that ``scale`` multiplies,
    varied as a factor; ``values`` a range as typed (``30:250:10``), or numbers. The rest is as for ``sweep``.
    """
    outputs = outputs_of(options, out, Variation)
    varied = input_of(name, options.specs)
    check_varied(varied, options)
    swept = varied.values(values)
    sized = _sized(options, (clusters,) if isinstance(clusters, str) else clusters)
    check_points(len(sized) * len(swept), "points")
    traced = varied.field == "rate_rps" and options.trace is not None
    cases = _closer(sized, swept) if traced else [[varied.at(each, value) for value in swept] for each in sized]
    # what is said of factors is what holds without them
    as_given = traced or varied.field == SCALE
    ends = [_ends(varied.name, [each] if as_given else of, swept) for each, of in zip(sized, cases, strict=True)]
    fixed = tuple(_fixed(each.first) for each in ends)
    if len({each.name for each in fixed}) < len(fixed):
        raise InputError("--cluster: a cluster is named twice; name each once")
    items = [
        Point(f"{cluster.name} {varied.name}={value:.12g}", k * len(swept) + v, tuple(n for _, _, n in cluster.pools))
        for k, cluster in enumerate(fixed)
        for v, value in enumerate(swept)
    ]
    question = question_of(
        "vary",
        options,
        str(ends[0].first.versions.get("provisioner")),
        prices=prices,
        vary=varied.name,
        values=swept,
        clusters=[_typed(each) for each in fixed],
    )
    at = [case for of_cluster in cases for case in of_cluster]
    of = [cluster for cluster in fixed for _ in swept]
    costs = [prices_of((m for _, m, _ in each.pools), prices, case)[0] for each, case in zip(of, at, strict=True)]
    listed = prices_of((machine for each in fixed for _, machine, _ in each.pools), prices, options)[1]

    def assembled(records: Sequence[Record]) -> Variation:
        rows = [
            {
                "cluster": of[k].name,
                "design": of[k].design,
                varied.column: swept[k % len(swept)],
                **totals_of(of[k].pools, costs[k]),
                **{name: value for name, value in record.items() if name not in ("batch_time_share", varied.column)},
            }
            for k, record in enumerate(records)
        ]
        return _assembled(varied, swept, fixed, rows, records, ends, listed, question)

    return answered(
        Points([without_prices(each) for each in at], occupancy=True),
        items,
        assembled,
        question=question,
        outputs=outputs,
        threads=threads,
        dask=dask,
        resume=resume,
        progress=progress,
    )


def _sized(options: SimulateOptions, clusters: Sequence[str]) -> list[SimulateOptions]:
    """The options of each cluster."""
    if not clusters:
        return [options]
    if options.design is not None:
        raise InputError("--cluster: names design and sizes; leave out --design")
    return [_of_cluster(options, text) for text in clusters]


def _of_cluster(options: SimulateOptions, text: str) -> SimulateOptions:
    """The options with the cluster of a text such as ``splitwise-hh=35+5`` or ``baseline-h100=40``."""
    from provisioner.planning.designs import choose, designs
    from provisioner.specs import catalog

    name, equals, sizes = (part.strip() for part in text.partition("="))
    if not (name and equals and sizes):
        raise InputError(f"--cluster: must be DESIGN=SIZES, such as splitwise-hh=35+5, got {quoted(text)}")
    (design,) = choose(designs(catalog.with_own(options.specs).machines.values()), (name,))
    numbers = [part for size in sizes.split("+") for part in whole_range(size.strip(), f"--cluster {text}")]
    if len(numbers) != len(design.slots) or sizes.count("+") + 1 != len(design.slots):
        roles = " + ".join(slot.role for slot in design.slots)
        raise InputError(f"--cluster {text}: {design.name} needs the machines of {roles}, one number for each")
    counts = {f"{slot.role}_machines": number for slot, number in zip(design.slots, numbers, strict=True)}
    empty = {f"{role}_machines": None for role in ("prompt", "token", "mixed")}
    return replace(options, design=name, **{**empty, **counts})  # type: ignore[arg-type]


def _closer(sized: Sequence[SimulateOptions], rates_rps: Sequence[float]) -> list[list[SimulateOptions]]:
    """The options of every cluster with the requests of its trace as close together as each rate wants."""
    own_rps = load_scenario(without_prices(sized[0])).request_set(0).rate_rps
    return [
        [replace(each, scale={**each.scale, "rate": rate_rps / own_rps}) for rate_rps in rates_rps] for each in sized
    ]


@dataclass(frozen=True, slots=True)
class _Ends:
    """The scenarios of a cluster at the first and the last value at which it can be simulated."""

    first: Scenario
    last: Scenario
    shown: tuple[str, str]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of both; those of one with its value."""
        pairs = ((self.shown[0], self.first, self.last), (self.shown[1], self.last, self.first))
        return tuple(
            note if note in other.warnings else f"{shown}: {note}"
            for shown, mine, other in pairs
            for note in mine.warnings
        )

    @property
    def load(self) -> str:
        """How requests arrive, from the first to the last."""
        a, b = self.first.load.split(), self.last.load.split()
        if a == b:
            return self.first.load
        before = next(k for k in range(len(a)) if a[k] != b[k])
        after = next(k for k in range(len(a)) if a[-1 - k] != b[-1 - k])
        end = len(a) - after
        return " ".join([*a[:before], *a[before:end], "to", *b[before : len(b) - after], *a[end:]])


def _ends(name: str, cases: Sequence[SimulateOptions], values: Sequence[float]) -> _Ends:
    """What is said of all the cases of a cluster; the first one's error where none can be simulated."""
    first, at = _first_of(cases)
    last, back = _first_of(cases[::-1]) if len(cases) > 1 else (first, 0)
    return _Ends(first, last, (f"{name} {values[at]:g}", f"{name} {values[len(cases) - 1 - back]:g}"))


def _first_of(cases: Sequence[SimulateOptions]) -> tuple[Scenario, int]:
    """The first case that can be simulated, and its position."""
    refused: list[InputError] = []
    for k, each in enumerate(cases):
        try:
            return load_scenario(without_prices(each)), k
        except InputError as error:
            refused.append(error)
    raise refused[0]


def _fixed(scenario: Scenario) -> FixedCluster:
    pools = scenario.cluster.pools
    return FixedCluster(scenario.design, tuple((pool.role, pool.perf.machine.name, pool.machines) for pool in pools))


def _typed(cluster: FixedCluster) -> str:
    return f"{cluster.design.lower()}={'+'.join(str(machines) for _, _, machines in cluster.pools)}"


def _assembled(
    varied: Input,
    values: tuple[float, ...],
    clusters: tuple[FixedCluster, ...],
    rows: Sequence[Record],
    records: Sequence[Record],
    ends: Sequence[_Ends],
    price_sources: tuple[str, ...],
    question: Mapping[str, Any],
) -> Variation:
    warnings = dict.fromkeys(note for each in ends for note in each.warnings)
    sources = dict.fromkeys(source for each in ends for end in (each.first, each.last) for source in end.sources)
    basis = basis_of(ends[0].first, question)
    return Variation(
        name=varied.name,
        values=values,
        clusters=clusters,
        points=tuple(rows),
        occupancy=tuple(record.get("batch_time_share") or {} for record in records),
        sources=(*sources, *price_sources),
        warnings=(*warnings, *notes_of(rows, "points")),
        **{**basis, "load": ends[0].load, "sets": ends[0].last.sets},
    )
