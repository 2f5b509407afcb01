"""An input varied at fixed sizes of clusters: latency against load or any other number, and how large batches are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, Final

from provisioner.errors import InputError, UnknownNameError
from provisioner.loading.factors import load_factors
from provisioner.options import FACTORS, MACHINE_FACTORS, PlanOptions, SimulateOptions
from provisioner.simulation.assemble import Scenario
from provisioner.specs.slo import SLO
from provisioner.specs.units import format_count, quoted
from provisioner.studies.points import (
    Point,
    Points,
    Record,
    columns_of,
    frame_of,
    journal_path,
    prices_of,
    question_of,
    refuse_not_swept,
    simulated,
    totals_of,
    without_prices,
)
from provisioner.studies.ranges import number_range, whole_range
from provisioner.studies.sweep import MOST_CELLS, notes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

ABSOLUTE: Final[Mapping[str, str]] = {"rate": "rate_rps", "cv": "cv"}
"""Inputs that are varied as they are, with the field that has them; all others as factors on what the data say."""

LABEL: Final[Mapping[str, str]] = {
    "rate": "rate (requests/s)",
    "cv": "CV of the gaps between arrivals",
    "slo": "scale of the limits",
}


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
class Variation:
    """Clusters of fixed sizes over an input: ``points`` has a row for each cluster and value, cluster by cluster.

    The columns are those of a ``Sweep``'s cells after ``cluster``, ``design`` and the input's name with ``_`` for what
    is not a letter. ``occupancy[k]`` has for point k by role the share of time with so many requests in an iteration,
    from 0; nothing where the point could not be simulated. ``slo`` has the limits as they were given: where the input
    is ``slo``, they are so many times as large.
    """

    name: str
    values: tuple[float, ...]
    clusters: tuple[FixedCluster, ...]
    points: tuple[Mapping[str, Any], ...]
    occupancy: tuple[Mapping[str, Sequence[float]], ...]
    slo: SLO
    model: str
    workload: str
    load: str
    assumptions: str
    sets: int
    seed: int
    prices: str
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    question: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def label(self) -> str:
        """What the input is, with its unit."""
        return LABEL.get(self.name, f"{self.name} (times what the data say)")

    @property
    def column(self) -> str:
        """The column of the input: ``rate_rps``, ``cv``, or ``..._factor``."""
        return ABSOLUTE.get(self.name, f"{self.name.replace('-', '_').replace(':', '_')}_factor")

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
        return frame_of(columns_of(self.points))

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
        from provisioner.report.as_json import plain_value
        from provisioner.report.vary_document import vary_command

        plain: dict[str, Any] = plain_value(
            {
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
                    {**point, "batch_time_share": shares}
                    for point, shares in zip(self.points, self.occupancy, strict=True)
                ],
                "slo": self.slo.name,
                "limits": [
                    {"metric": each.metric, "percentile": each.percentile, "limit": each.value, "kind": each.kind}
                    for each in self.slo.limits
                ],
                "model": self.model,
                "workload": self.workload,
                "load": self.load,
                "assumptions": self.assumptions,
                "sets": self.sets,
                "prices": self.prices,
                "warnings": self.warnings,
                "sources": self.sources,
                "question": self.question,
                "command": vary_command(self.question),
                "seed": self.seed,
                "versions": self.versions,
            }
        )
        return plain

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.vary_document import vary_document

        return vary_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The pictures: the largest percentile over its limit, the percentiles, and how large batches are."""
        from provisioner.report.vary_document import vary_charts

        return vary_charts(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the first of the pictures."""
        from provisioner.report.draw import draw

        return draw(self.charts()[0], axes)

    def __str__(self) -> str:
        from provisioner.report.markdown import markdown

        return markdown(self.document())

    def _repr_html_(self) -> str:
        from provisioner.report.html import html
        from provisioner.report.vary_document import vary_document

        return html(vary_document(self))


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

    ``name`` is ``rate`` (requests/s; of a trace, its requests closer together), ``cv``, or one of the inputs that
    ``scale`` multiplies, varied as a factor; ``values`` a range as typed (``30:250:10``), or numbers. The rest is as
    for ``sweep``.
    """
    from provisioner.report.files import check_outputs, write_outputs

    refuse_not_swept(options)
    outputs = check_outputs(out)
    _check_name(name, options)
    swept = number_range(values, f"--vary {name}")
    sized = _sized(options, (clusters,) if isinstance(clusters, str) else clusters)
    if len(sized) * len(swept) > MOST_CELLS:
        raise InputError(
            f"{format_count(len(sized) * len(swept))} points are more than the {format_count(MOST_CELLS)} of a sweep"
        )
    bases = Points([without_prices(each) for each in sized])
    loaded = [bases.scenario(Point("", k, _sizes(each))) for k, each in enumerate(sized)]
    fixed = tuple(_fixed(scenario) for scenario in loaded)
    if len({each.name for each in fixed}) < len(fixed):
        raise InputError("--cluster: a cluster is named twice; name each once")
    own_rps = loaded[0].request_set(0).rate_rps if name == "rate" and options.trace is not None else None
    at = [_at(each, name, value, own_rps) for each in sized for value in swept]
    points = Points([without_prices(each) for each in at], occupancy=True)
    items = [
        Point(f"{cluster.name} {name}={value:.12g}", k * len(swept) + v, tuple(n for _, _, n in cluster.pools))
        for k, cluster in enumerate(fixed)
        for v, value in enumerate(swept)
    ]
    question = question_of(
        "vary",
        options,
        str(loaded[0].versions.get("provisioner")),
        prices=prices,
        vary=name,
        values=swept,
        clusters=[_typed(each) for each in fixed],
    )
    costs = [prices_of((m for _, m, _ in fixed[k // len(swept)].pools), prices, at[k].scale)[0] for k in range(len(at))]
    listed = prices_of((machine for each in fixed for _, machine, _ in each.pools), prices, options.scale)[1]
    with simulated(
        points,
        items,
        question=question,
        journal=journal_path(out),
        resume=resume,
        threads=threads,
        dask=dask,
        progress=progress,
    ) as records:
        rows = [
            {
                "cluster": fixed[k // len(swept)].name,
                "design": fixed[k // len(swept)].design,
                _column(name): swept[k % len(swept)],
                **totals_of(fixed[k // len(swept)].pools, costs[k]),
                **{column: value for column, value in record.items() if column != "batch_time_share"},
            }
            for k, record in enumerate(records)
        ]
        found = _assembled(name, swept, fixed, rows, records, loaded, prices, listed, question)
        write_outputs(found, outputs)
    return found


def _column(name: str) -> str:
    return ABSOLUTE.get(name, f"{name.replace('-', '_').replace(':', '_')}_factor")


def _check_name(name: str, options: SimulateOptions) -> None:
    if name.partition(":")[0] not in (*FACTORS, *MACHINE_FACTORS):
        raise UnknownNameError("input to vary", name, (*FACTORS, *MACHINE_FACTORS))
    load_factors({name: 1.0})
    if name in options.scale:
        raise InputError(f"--vary {name}: is scaled with --scale too; leave out one")
    field = ABSOLUTE.get(name)
    if field is not None and getattr(options, field) is not None:
        raise InputError(f"--vary {name}: takes its values from the range; leave out --{name}")


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
    (design,) = choose(designs(catalog.machines().values()), (name,))
    numbers = [part for size in sizes.split("+") for part in whole_range(size.strip(), f"--cluster {text}")]
    if len(numbers) != len(design.slots) or sizes.count("+") + 1 != len(design.slots):
        roles = " + ".join(slot.role for slot in design.slots)
        raise InputError(f"--cluster {text}: {design.name} needs the machines of {roles}, one number for each")
    counts = {f"{slot.role}_machines": number for slot, number in zip(design.slots, numbers, strict=True)}
    empty = {f"{role}_machines": None for role in ("prompt", "token", "mixed")}
    return replace(options, design=name, **{**empty, **counts})  # type: ignore[arg-type]


def _sizes(options: SimulateOptions) -> tuple[int, ...]:
    """Machines of each pool in order."""
    numbers = (options.prompt_machines, options.token_machines, options.mixed_machines)
    return tuple(int(number) for number in numbers if number is not None)


def _at(options: SimulateOptions, name: str, value: float, own_rps: float | None) -> SimulateOptions:
    """The options with the input at a value."""
    if name == "rate" and own_rps is not None:
        return replace(options, scale={**options.scale, "rate": value / own_rps})
    if name in ABSOLUTE:
        return replace(options, **{ABSOLUTE[name]: value})  # type: ignore[arg-type]
    return replace(options, scale={**options.scale, name: value})


def _fixed(scenario: Scenario) -> FixedCluster:
    pools = scenario.cluster.pools
    return FixedCluster(scenario.design, tuple((pool.role, pool.perf.machine.name, pool.machines) for pool in pools))


def _typed(cluster: FixedCluster) -> str:
    return f"{cluster.design.lower()}={'+'.join(str(machines) for _, _, machines in cluster.pools)}"


def _assembled(
    name: str,
    values: tuple[float, ...],
    clusters: tuple[FixedCluster, ...],
    rows: Sequence[Record],
    records: Sequence[Record],
    loaded: Sequence[Scenario],
    price_list: str,
    price_sources: tuple[str, ...],
    question: Mapping[str, Any],
) -> Variation:
    first = loaded[0]
    warnings = dict.fromkeys(note for scenario in loaded for note in scenario.warnings)
    sources = dict.fromkeys(source for scenario in loaded for source in scenario.sources)
    return Variation(
        name=name,
        values=values,
        clusters=clusters,
        points=tuple(rows),
        occupancy=tuple(record.get("batch_time_share") or {} for record in records),
        slo=first.slo,
        model=first.cluster.pools[0].perf.model.name,
        workload=first.workload,
        load=first.load,
        assumptions=first.cluster.pools[0].perf.assumptions,
        sets=first.sets,
        seed=first.seed,
        prices=price_list,
        sources=(*sources, *price_sources),
        warnings=(*warnings, *notes_of(rows, "points")),
        question={key: value for key, value in question.items() if key not in ("study", "version", "files")},
        versions=first.versions,
    )
