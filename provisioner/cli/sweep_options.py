"""The options that only ``provision sweep`` has; the others are those of ``provision simulate``."""

from __future__ import annotations

from typing import Final

from provisioner.cli.given import Flag, group
from provisioner.cli.options import whole
from provisioner.errors import InputError
from provisioner.options import PlanOptions
from provisioner.specs.units import quoted


def input_of(text: str) -> tuple[str, str]:
    """The input to vary and its range.

    >>> input_of("rate=30:250:10"), input_of("decode-time:dgx-a100=0.5,1")
    (('rate', '30:250:10'), ('decode-time:dgx-a100', '0.5,1'))
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals and values):
        raise InputError(f"--vary: must be INPUT=FROM:TO:STEP, such as rate=30:250:10, got {quoted(text)}")
    return name, values


CLUSTER: Final = group(
    "Cluster",
    design=Flag(
        "--design",
        metavar="NAME",
        help="Design to sweep, such as splitwise-ha or baseline-h100, with the ranges of its machines.",
    ),
    prompt=Flag(
        "--prompt",
        metavar="FROM:TO[:STEP]",
        help="Prompt machines: 1:40, 10:100:10, one number, or several of those with commas.",
    ),
    token=Flag("--token", metavar="FROM:TO[:STEP]", help="Token machines, likewise."),
    mixed=Flag("--mixed", metavar="FROM:TO[:STEP]", help="Mixed machines of a baseline, likewise."),
    clusters=Flag(
        "--cluster",
        metavar="DESIGN=SIZES",
        help="A cluster for --vary, in place of --design: splitwise-hh=35+5, baseline-h100=40. Repeatable.",
        several=True,
    ),
)

SWEEP: Final = group(
    "Sweep",
    vary=Flag(
        "--vary",
        metavar="INPUT=FROM:TO:STEP",
        help="Vary an input at fixed sizes: any number of a simulation under its flag's name, such as rate=30:250:10 "
        "(requests/s), in-flight=8:64:8, batch-tokens=512:4096:512, tp=2,4,8 or duration=30s:2min:30s; or by factors "
        "any input of --scale, such as slo=0.8:1.2:0.1.",
        parse=lambda text, _: input_of(text),
    ),
    objective=Flag(
        "--objective",
        metavar="cost|power|machines",
        help="What the optimum has least of.",
        default=PlanOptions().objective,
    ),
)

SCALE: Final = group(
    "Scale",
    threads=Flag(
        "--threads",
        metavar="COUNT",
        help="Clusters simulated at once on this machine.",
        default="its cores",
        parse=whole(),
    ),
    dask=Flag(
        "--dask",
        metavar="ADDRESS",
        help="Simulate on the workers of a Dask scheduler, such as tcp://127.0.0.1:8786, in place of threads.",
    ),
    resume=Flag("--resume", help="Go on with an interrupted sweep, from the journal beside its first --out."),
)
