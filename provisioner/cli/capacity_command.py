"""``provision capacity``: what a cluster in hand holds, and what to add for more."""

from __future__ import annotations

from typing import Final

from provisioner.cli.given import Flag, Given, group, takes, without
from provisioner.cli.options import AT_LARGEST, LIMITS, METHOD, PROOF, WORKLOAD, JsonOption, OutOption, whole
from provisioner.cli.progress import on_stderr
from provisioner.cli.screen import hand_over
from provisioner.errors import InputError
from provisioner.options import PlanOptions
from provisioner.progress import worded
from provisioner.specs.units import parse_positive

IN_HAND: Final = group(
    "Cluster in hand",
    design=Flag(
        "--design", metavar="NAME", help="Design of the cluster in hand, such as splitwise-hh or baseline-h100."
    ),
    prompt=Flag("--prompt", metavar="COUNT", help="Prompt machines in hand.", parse=whole("machines")),
    token=Flag("--token", metavar="COUNT", help="Token machines in hand.", parse=whole("machines")),
    mixed=Flag("--mixed", metavar="COUNT", help="Machines in hand of a colocated design.", parse=whole("machines")),
)
MORE: Final = group(
    "More machines",
    to=Flag(
        "--to",
        metavar="RATE",
        help="Rate in requests/s to find the least additions for. Repeatable.",
        default="1.1, 1.25 and 1.5 times the capacity",
        several=True,
        parse=lambda rates, what: tuple(parse_positive(rate, what, "requests/s") for rate in rates),
    ),
    no_additions=Flag("--no-additions", help="Find what the cluster holds, not what to add for more."),
    objective=Flag(
        "--objective", metavar="cost|power|machines", help="What to add least of.", default=PlanOptions().objective
    ),
)


@takes(
    IN_HAND,
    MORE,
    without(WORKLOAD, "rate_rps", "trace"),
    LIMITS,
    without(AT_LARGEST, "designs"),
    METHOD,
    without(PROOF, "fast"),
)
def capacity(given: Given, out: OutOption = None, json: JsonOption = False) -> None:
    """Find the largest rate that a cluster in hand holds.

    Answers with that rate and the first at which the cluster fails, what breaks there and by how much, the latencies
    beside their limits, and the least machines to add for higher rates. Limits on cost, power and machines, and stock,
    are of the whole cluster. Exit code 3 where it holds no rate at all.
    """
    if "design" not in given:
        raise InputError("--design: is needed: the design of the cluster in hand, such as splitwise-hh")
    asked = {"designs": (given.pop("design"),), "additions": not given.pop("no_additions", False), **given}
    from provisioner import api
    from provisioner.report.capacity_document import capacity_document
    from provisioner.report.files import check_outputs
    from provisioner.studies.capacity import Capacity

    outputs = check_outputs(out or (), kind=Capacity)
    with on_stderr() as progress:
        found = api.capacity(progress=lambda text: progress(worded(text, "capacity: ")), **asked)
    hand_over(found, capacity_document, outputs, json)
