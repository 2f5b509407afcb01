"""``provision reproduce``: what a paper publishes, computed again."""

from __future__ import annotations

from typing import Annotated, Final

from provisioner.cli.given import Flag, Given, group, only, takes
from provisioner.cli.help import argument
from provisioner.cli.options import METHOD, PROOF, JsonOption, OutOption
from provisioner.cli.progress import on_stderr
from provisioner.cli.run import emit
from provisioner.cli.screen import result_text

REPRODUCTION: Final = group(
    "Reproduction",
    only=Flag(
        "--only",
        metavar="EXPERIMENT",
        help="Compute this experiment, and what it needs, such as fig-12 or iso-power-conversation. Repeatable.",
        default="all",
        several=True,
    ),
    resume=Flag("--resume", help="Go on where an interrupted reproduction to the same --out stopped."),
)


@takes(REPRODUCTION, only(PROOF, "sets", "duration_s"), only(METHOD, "seed"))
def reproduce(
    paper: Annotated[str, argument("PAPER", "Paper whose results are computed: splitwise.")] = "splitwise",
    *,
    given: Given,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Compute a paper's published results again.

    Every published result stands beside ours: by the published simulator's rules, and with measured latency curves and
    today's colocated baseline. All experiments take some twenty minutes; each is kept as it is finished.
    """
    from provisioner import api
    from provisioner.report.views.reproduction import document

    with on_stderr() as progress:
        found = api.reproduce(paper, out=out or (), progress=progress, **given)
    emit(result_text(found, document, out or (), json))
