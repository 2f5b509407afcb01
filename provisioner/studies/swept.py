"""What a sweep of sizes and one over an input have alike: how they are run and written, and what they rest on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from provisioner.errors import InputError
from provisioner.options import SimulateOptions
from provisioner.simulation.assemble import Scenario
from provisioner.specs.slo import SLO
from provisioner.specs.units import format_count
from provisioner.studies.points import Point, Points, Record, journal_path, refuse_not_swept, simulated
from provisioner.studies.result import StudyResult

if TYPE_CHECKING:
    from provisioner.report.files import Output

MOST_POINTS: Final = 100_000
"""Clusters that one sweep simulates at most."""

_NOT_ASKED: Final = ("study", "version", "files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(StudyResult):
    """What every sweep says of what it rests on.

    ``slo`` has the limits, ``load`` says in words how requests arrive, ``sets`` is the number of request sets of a
    point, ``prices`` the name of the price list, ``question`` what was asked, with every default.
    """

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

    def plain(self, own: Mapping[str, Any], command: str) -> dict[str, Any]:
        """Plain values of a sweep: its ``own``, then what it rests on, and the ``command`` that does it again."""
        from provisioner.report.as_json import plain_value

        plain: dict[str, Any] = plain_value(
            {
                **own,
                "slo": self.slo.name,
                "limits": [
                    {
                        "metric": each.metric,
                        "percentile": f"p{each.percentile:g}",
                        "limit": each.value,
                        "kind": each.kind,
                    }
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
                "command": command,
                "seed": self.seed,
                "versions": self.versions,
            }
        )
        return plain


def basis_of(scenario: Scenario, question: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``Swept`` that a scenario and the question of its journal say, without sources and warnings."""
    perf = scenario.cluster.pools[0].perf
    return {
        "slo": scenario.slo,
        "model": perf.model.name,
        "workload": scenario.workload,
        "load": scenario.load,
        "assumptions": perf.assumptions,
        "sets": scenario.sets,
        "seed": scenario.seed,
        "prices": question["prices"],
        "question": {name: value for name, value in question.items() if name not in _NOT_ASKED},
        "versions": scenario.versions,
    }


def outputs_of(options: SimulateOptions, out: Sequence[str], kind: type[Swept]) -> tuple[Output, ...]:
    """The files that a sweep writes, checked; refuses options of a single simulation."""
    from provisioner.report.files import check_outputs

    refuse_not_swept(options)
    return check_outputs(out, kind=kind)


def check_points(count: int, what: str) -> None:
    """Refuse more points than a sweep may have."""
    if count > MOST_POINTS:
        raise InputError(f"{format_count(count)} {what} are more than the {format_count(MOST_POINTS)} of a sweep")


Found = TypeVar("Found", bound=Swept)


def answered(
    points: Points,
    items: Sequence[Point],
    assembled: Callable[[Sequence[Record]], Found],
    *,
    question: Mapping[str, Any],
    outputs: Sequence[Output],
    threads: int | None,
    dask: str | None,
    resume: bool,
    progress: Callable[[str], None],
) -> Found:
    """Simulate all points and write what is ``assembled`` of their records; the journal goes when all is written."""
    from provisioner.report.files import write_outputs

    with simulated(
        points,
        items,
        question=question,
        journal=journal_path([output.given for output in outputs]),
        resume=resume,
        threads=threads,
        dask=dask,
        progress=progress,
    ) as records:
        found = assembled(records)
        write_outputs(found, outputs)
    return found


def notes_of(cells: Iterable[Mapping[str, Any]], what: str) -> tuple[str, ...]:
    """What only some simulations have to say, with how many of them do and the first's words."""
    notes = [str(cell["note"]) for cell in cells if cell.get("note")]
    if not notes:
        return ()
    return (f"{len(notes):,} of the {what} ran beyond what was measured; the first of them: {notes[0]}",)
