"""``provision sensitivity``: how the answer moves with its inputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from provisioner.cli.given import Flag, Given, group, takes, without
from provisioner.cli.options import BATCH, CLUSTER, LIMITS, METHOD, PROOF, WORKLOAD, JsonOption, OutOption, whole
from provisioner.cli.progress import on_stderr
from provisioner.cli.screen import hand_over
from provisioner.errors import InputError
from provisioner.options import FACTORS, MACHINE_FACTORS
from provisioner.specs.units import parse_fraction, parse_positive


def parse_switches(given: Iterable[str], what: str) -> dict[str, tuple[float, float]]:
    """Inputs to search, each written NAME=LOW:HIGH.

    >>> parse_switches(["price:dgx-a100=0.2:1"], "--switch")
    {'price:dgx-a100': (0.2, 1.0)}
    """
    found: dict[str, tuple[float, float]] = {}
    for text in given:
        name, equals, bounds = text.partition("=")
        low, colon, high = bounds.partition(":")
        if not (name and equals and colon):
            raise InputError(f"{what}: must be NAME=LOW:HIGH, such as price:dgx-a100=0.2:1, got {text!r}")
        if name in found:
            raise InputError(f"{what} {name}: is given twice")
        found[name] = (parse_positive(low, f"{what} {name}"), parse_positive(high, f"{what} {name}"))
    return found


def _numbers(text: str, what: str) -> tuple[float, ...]:
    return tuple(parse_positive(each, what) for each in text.split(","))


SENSITIVITY: Final = group(
    "Sensitivity",
    inputs=Flag(
        "--input",
        metavar="NAME",
        help=f"Input of the tornado: {', '.join(FACTORS)}, and {', '.join(MACHINE_FACTORS)} of all machines or of one "
        "type, such as price:dgx-a100. Repeatable.",
        default="all that can move the answer; none with --switch or --rates",
        several=True,
    ),
    spread=Flag(
        "--spread",
        metavar="SHARE",
        help="Each input is divided and multiplied by 1 and so much more: 0.2 or 20%.",
        default="0.2",
        parse=parse_fraction,
    ),
    switches=Flag(
        "--switch",
        metavar="NAME=LOW:HIGH",
        help="Find the factors on an input between these two at which the answer switches, such as "
        "price:dgx-a100=0.2:1, link-bandwidth=0.001:1, cv=1:4. Repeatable.",
        several=True,
        parse=parse_switches,
    ),
    watch=Flag(
        "--watch",
        metavar="design|split|machines|splitting",
        help="What counts as a switch: another best design, other sizes of its pools, another number of machines, or "
        "whether the best design splits the phases.",
        default="design",
    ),
    tolerance=Flag(
        "--tolerance", metavar="SHARE", help="How near a switch is found.", default="0.01", parse=parse_fraction
    ),
    probes=Flag(
        "--probes",
        metavar="COUNT",
        help="Factors between the ends that are looked at before bisection.",
        default="5",
        parse=whole(minimum=0),
    ),
    rates_rps=Flag(
        "--rates",
        metavar="RATE,...",
        help="Rates in requests/s of the map of where splitting pays; with --ratios.",
        parse=_numbers,
    ),
    ratios=Flag(
        "--ratios",
        metavar="RATIO,...",
        help="Mean prompt over mean output tokens of the map, prompts as they are.",
        parse=_numbers,
    ),
    dask=Flag(
        "--dask",
        metavar="ADDRESS",
        help="Scheduler of a Dask cluster on which plans are made, such as tcp://10.0.0.1:8786 (extra: dask).",
    ),
)


@takes(SENSITIVITY, WORKLOAD, LIMITS, BATCH, CLUSTER, METHOD, without(PROOF, "exhaustive"))
def sensitivity(given: Given, out: OutOption = None, json: JsonOption = False) -> None:
    """See how the plan moves with its inputs.

    A tornado of every input; with --switch, the points where the answer switches, found by bisection; with --rates and
    --ratios, the map of where splitting the phases pays. Every value is a plan of its own.
    """
    from provisioner import api
    from provisioner.report.files import check_outputs
    from provisioner.report.sensitivity_document import sensitivity_document
    from provisioner.studies.sensitivity import Sensitivity

    outputs = check_outputs(out or (), kind=Sensitivity)
    with on_stderr() as progress:
        found = api.sensitivity(progress=progress, **given)
    hand_over(found, sensitivity_document, outputs, json)
