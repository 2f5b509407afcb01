"""``provision pareto``: the frontier of cost, power and machines at a rate."""

from __future__ import annotations

from typing import Final

from provisioner.cli.given import Flag, Given, group, takes, without
from provisioner.cli.options import CLUSTER, LIMITS, METHOD, PROOF, WORKLOAD, JsonOption, OutOption, parse_time
from provisioner.cli.progress import on_stderr
from provisioner.cli.screen import hand_over

WHOLE_TIME: Final = Flag(
    "--time-limit",
    metavar="TIME",
    help="Stop after this time, such as 60s, with the points found so far and what was left open.",
    default="no limit",
    parse=parse_time,
)


@takes(
    WORKLOAD,
    LIMITS,
    without(CLUSTER, "objective"),
    METHOD,
    group("Proof by simulation", **{**PROOF, "time_limit_s": WHOLE_TIME}),
)
def pareto(given: Given, out: OutOption = None, json: JsonOption = False) -> None:
    """Find the clusters that none beats in cost, power and machines at once.

    Answers with every such cluster at the rate, over all designs and sizes, each a plan proven by simulation. Exit code
    3 where nothing meets the limits.
    """
    from provisioner import api
    from provisioner.report.files import check_outputs
    from provisioner.report.pareto_document import pareto_document
    from provisioner.studies.pareto import Frontier

    outputs = check_outputs(out or (), kind=Frontier)
    with on_stderr() as progress:
        found = api.pareto(progress=progress, **given)
    hand_over(found, pareto_document, outputs, json)
