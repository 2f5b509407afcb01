"""The options that only ``provision sweep`` has; the others are those of ``provision simulate``."""

from __future__ import annotations

from typing import Annotated, Final

from provisioner.cli.help import option
from provisioner.errors import InputError
from provisioner.options import PlanOptions
from provisioner.specs.units import parse_whole, quoted

_DEFAULT: Final = PlanOptions()

_CLUSTER = "Cluster"
_SWEEP = "Sweep"
_SCALE = "Scale"

DesignOption = Annotated[
    str | None,
    option(
        "--design",
        metavar="NAME",
        help="Design to sweep, such as splitwise-ha or baseline-h100, with the ranges of its machines.",
        panel=_CLUSTER,
    ),
]
PromptOption = Annotated[
    str | None,
    option(
        "--prompt",
        metavar="FROM:TO[:STEP]",
        help="Prompt machines: 1:40, 10:100:10, one number, or several of those with commas.",
        panel=_CLUSTER,
    ),
]
TokenOption = Annotated[
    str | None, option("--token", metavar="FROM:TO[:STEP]", help="Token machines, likewise.", panel=_CLUSTER)
]
MixedOption = Annotated[
    str | None,
    option("--mixed", metavar="FROM:TO[:STEP]", help="Mixed machines of a baseline, likewise.", panel=_CLUSTER),
]
ClusterOption = Annotated[
    list[str] | None,
    option(
        "--cluster",
        metavar="DESIGN=SIZES",
        help="A cluster for --vary, in place of --design: splitwise-hh=35+5, baseline-h100=40. Repeatable.",
        panel=_CLUSTER,
    ),
]
VaryOption = Annotated[
    str | None,
    option(
        "--vary",
        metavar="INPUT=FROM:TO:STEP",
        help="Vary an input at fixed sizes: rate=30:250:10 (requests/s), cv=1:3:0.5, or by factors any input of "
        "--scale, such as slo=0.8:1.2:0.1 or decode-time=0.5,1,2.",
        panel=_SWEEP,
    ),
]
ObjectiveOption = Annotated[
    str | None,
    option(
        "--objective",
        metavar="cost|power|machines",
        help="What the optimum has least of.",
        panel=_SWEEP,
        default=_DEFAULT.objective,
    ),
]
ThreadsOption = Annotated[
    str | None,
    option(
        "--threads",
        metavar="COUNT",
        help="Clusters simulated at once on this machine.",
        panel=_SCALE,
        default="its cores",
    ),
]
DaskOption = Annotated[
    str | None,
    option(
        "--dask",
        metavar="ADDRESS",
        help="Simulate on the workers of a Dask scheduler, such as tcp://127.0.0.1:8786, in place of threads.",
        panel=_SCALE,
    ),
]
ResumeOption = Annotated[
    bool,
    option(
        "--resume",
        help="Go on with an interrupted sweep, from the journal beside its first --out.",
        panel=_SCALE,
    ),
]
OutOption = Annotated[
    list[str] | None,
    option(
        "--out",
        metavar="FILE",
        help="Write the result in the format of the ending: the table as .csv or .parquet, all as .json, a report as "
        ".md or .html, the picture as .png or .svg. Repeatable.",
    ),
]


def threads_of(text: str | None) -> int | None:
    """The number of threads, None for one per core.

    >>> threads_of("2"), threads_of(None)
    (2, None)
    """
    return None if text is None else parse_whole(text, "--threads")


def input_of(text: str) -> tuple[str, str]:
    """The input to vary and its range.

    >>> input_of("rate=30:250:10"), input_of("decode-time:dgx-a100=0.5,1")
    (('rate', '30:250:10'), ('decode-time:dgx-a100', '0.5,1'))
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    if not (name and equals and values):
        raise InputError(f"--vary: must be INPUT=FROM:TO:STEP, such as rate=30:250:10, got {quoted(text)}")
    return name, values
