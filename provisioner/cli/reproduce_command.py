"""``provision reproduce``: what a paper publishes, computed again."""

from __future__ import annotations

from typing import Annotated, Final

from provisioner.cli.help import argument, option
from provisioner.cli.options import (
    DebugOption,
    JsonOption,
    OutOption,
    PlanDurationOption,
    PlanSetsOption,
    SeedOption,
    parse_time,
)
from provisioner.cli.progress import on_stderr
from provisioner.cli.run import emit
from provisioner.cli.screen import json_text, report_text
from provisioner.specs.units import parse_whole

_PANEL: Final = "Reproduction"

OnlyOption = Annotated[
    list[str] | None,
    option(
        "--only",
        metavar="EXPERIMENT",
        help="Compute this experiment, and what it needs, such as fig-12 or iso-power-conversation. Repeatable.",
        panel=_PANEL,
        default="all",
    ),
]
ResumeOption = Annotated[
    bool,
    option("--resume", help="Go on where an interrupted reproduction to the same --out stopped.", panel=_PANEL),
]


def reproduce(
    paper: Annotated[str, argument("PAPER", "Paper whose results are computed: splitwise.")] = "splitwise",
    only: OnlyOption = None,
    sets: PlanSetsOption = None,
    duration_s: PlanDurationOption = None,
    seed: SeedOption = None,
    resume: ResumeOption = False,
    out: OutOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compute a paper's published results again.

    Every published result stands beside ours: by the published simulator's rules, and with measured latency curves and
    today's colocated baseline. All experiments take some twenty minutes; each is kept as it is finished.
    """
    from provisioner import api
    from provisioner.report.reproduction_document import reproduction_document

    fields = {
        name: value
        for name, value in {
            "only": tuple(only or ()),
            "sets": None if sets is None else parse_whole(sets, "--seeds", "request sets"),
            "duration_s": None if duration_s is None else parse_time(duration_s, "--duration"),
            "seed": None if seed is None else parse_whole(seed, "--seed", minimum=0),
            "resume": resume,
            "out": tuple(out or ()),
        }.items()
        if value is not None
    }
    with on_stderr() as progress:
        found = api.reproduce(paper, progress=progress, **fields)  # type: ignore[arg-type]
    emit(json_text(found.to_dict()) if json else report_text(reproduction_document(found), out or ()))
