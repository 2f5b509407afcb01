"""``provision compare``: designs side by side within one budget, or at one throughput."""

from __future__ import annotations

from typing import Final

from provisioner.cli.given import Flag, Given, group, only, takes
from provisioner.cli.options import AT_LARGEST, BATCH, LIMITS, METHOD, PROOF, WORKLOAD, JsonOption, OutOption
from provisioner.cli.progress import on_stderr
from provisioner.cli.screen import hand_over
from provisioner.cli.sweep_options import SCALE
from provisioner.options import PlanOptions

COMPARISON: Final = group(
    "Comparison",
    same=Flag(
        "--same",
        metavar="power|cost|machines|throughput",
        help="What all designs have in common: a --budget of power, cost or machines, or the throughput of --rate.",
        default="power, or throughput with --rate or --trace",
    ),
    budget=Flag(
        "--budget",
        metavar="AMOUNT",
        help="What a design may use at most: 400kW, '1500 $/h', 40 (machines), or as much as so many machines of a "
        "type: '40 dgx-h100'.",
    ),
    baseline=Flag(
        "--baseline",
        metavar="NAME",
        help="Design that the others are measured against.",
        default="the first colocated one",
    ),
    chunked=Flag("--chunked", help="Add every colocated design with chunked prefill, as rows of their own."),
    objective=Flag(
        "--objective",
        metavar="cost|power|machines",
        help="What each design has least of with --same throughput.",
        default=PlanOptions().objective,
    ),
)


@takes(COMPARISON, WORKLOAD, LIMITS, BATCH, AT_LARGEST, METHOD, PROOF, only(SCALE, "dask"))
def compare(given: Given, out: OutOption = None, json: JsonOption = False) -> None:
    """Compare designs within one budget, or at one throughput.

    Answers with the largest throughput of each design within the budget (or its least cost, power or machines at the
    throughput), with its best split, and everything relative to a baseline. A design without a plan is a row with the
    reason: exit code 0.
    """
    if "budget" not in given and ("rate_rps" in given or "trace" in given):
        given.setdefault("same", "throughput")
    from provisioner import api
    from provisioner.report.compare_document import compare_document
    from provisioner.report.files import check_outputs
    from provisioner.studies.compare import Comparison

    outputs = check_outputs(out or (), kind=Comparison)
    with on_stderr() as progress:
        found = api.compare(progress=progress, **given)
    hand_over(found, compare_document, outputs, json)
