"""The options of studies: those of a plan or a simulation, with their own."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, Final

from provisioner.errors import InputError
from provisioner.options import kinds
from provisioner.options.base import Options
from provisioner.options.declaration import Group, changed
from provisioner.options.defaults import FACTOR_NAMES
from provisioner.options.limits import LATENCY
from provisioner.options.plan import PROOF, PlanOptions
from provisioner.options.shared import CLUSTER, METHOD, WORKLOAD
from provisioner.options.simulation import POLICY, SimulateOptions
from provisioner.specs.criteria import CRITERIA, OF_CLUSTERS, WATCHES, CriterionName, ObjectiveName, Watch
from provisioner.spelling import spelled

COMPARISON: Final = Group("Comparison")
IN_HAND: Final = Group("Cluster in hand")
MORE: Final = Group("More machines")
SENSITIVITY: Final = Group("Sensitivity")
REPRODUCTION: Final = Group("Reproduction")
SWEEP: Final = Group("Sweep")
SCALE: Final = Group("Scale")

LARGEST_TOLERANCE: Final = 0.5
MOST_PROBES: Final = 1000
"""Bounds of a search for switches."""

OBJECTIVE: Final = kinds.name_of("objective", tuple(CRITERIA)).shown_as("|".join(OF_CLUSTERS))

_OF_ONE_PLAN: Final = ("against", "write_lp")
_OF_BATCHES: Final = ("deadline_s", "backlog_requests", "within_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions(PlanOptions):
    """The question of a comparison of designs."""

    GROUPS: ClassVar[tuple[str, ...]] = (COMPARISON, *PlanOptions.GROUPS, SCALE)
    LEFT_OUT: ClassVar[tuple[str, ...]] = _OF_ONE_PLAN

    same: ObjectiveName = COMPARISON.option(  # noqa: RUF009
        kinds.name_of("thing to hold the same", ("power", "cost", "machines", "throughput")),
        "Quantity that all designs have in common: a --budget of power, cost or machines, or the throughput of "
        "--rate. [default: power, or throughput with --rate or --trace]",
        default="power",
    )
    budget: str | float | None = COMPARISON.option(
        kinds.BUDGET,
        "Budget of each design: 400kW, '1500 $/h', 40 (machines), or the use of machines of a type: '40 dgx-h100'.",
    )
    baseline: str | None = COMPARISON.option(
        kinds.DESIGN,
        "Design that the others are compared with, with degrees of tensor parallelism as a row of its own: "
        "baseline-h100:2. [default: the first colocated one]",
    )
    chunked: bool = COMPARISON.switch("Add every colocated design with chunked prefill, as rows of their own.")
    objective: ObjectiveName = changed(  # noqa: RUF009
        PlanOptions,
        "objective",
        kind=OBJECTIVE,
        help="Quantity to make smallest with --same throughput.",
        group=COMPARISON,
    )
    dask: str | None = SCALE.option(
        kinds.ADDRESS, "Compute on the workers of a Dask scheduler, such as tcp://127.0.0.1:8786."
    )

    @classmethod
    def completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The given values; by default at one throughput with a rate or trace."""
        if "budget" not in given and ("rate_rps" in given or "trace" in given):
            given = {"same": "throughput", **given}
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityOptions(PlanOptions):
    """The question about a cluster in hand."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = ("rate_rps", "trace", "fast", "instances", *_OF_BATCHES, *_OF_ONE_PLAN)

    designs: tuple[str, ...] = changed(
        PlanOptions,
        "designs",
        help="Design of the cluster in hand, such as splitwise-hh or baseline-h100.",
        group=IN_HAND,
        default_text="",
    )
    prompt: int | None = IN_HAND.option(kinds.MACHINES, "Prompt machines in hand.")
    token: int | None = IN_HAND.option(kinds.MACHINES, "Token machines in hand.")
    mixed: int | None = IN_HAND.option(kinds.MACHINES, "Machines in hand of a colocated design.")
    to: tuple[float, ...] = MORE.option(
        kinds.RATE.several().once(),
        "Rate in requests/s to find the least additions for. [default: 1.1, 1.25 and 1.5 times the capacity]",
    )
    additions: bool = MORE.switch(
        "Find the capacity only, without additions for more load.", flag="--no-additions", default=True
    )
    objective: ObjectiveName = changed(  # noqa: RUF009
        PlanOptions, "objective", kind=OBJECTIVE, help="Quantity to add least of.", group=MORE
    )

    @classmethod
    def completed(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The given values, after a check that the design is among them."""
        if not given.get("designs"):
            designs = spelled("designs")
            raise InputError(f"{designs}: is needed: the design of the cluster in hand, such as splitwise-hh")
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoOptions(PlanOptions):
    """The question of a frontier of plans."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = ("objective", *_OF_BATCHES, *_OF_ONE_PLAN)

    time_limit_s: float | None = PROOF.option(
        kinds.TIME,
        "Time from the start of the program to the answer, such as 60s: then the points found so far and what is left "
        "open. [default: no limit]",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityOptions(PlanOptions):
    """The question of the sensitivity of a plan to its inputs."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = ("exhaustive", *_OF_ONE_PLAN)

    inputs: tuple[str, ...] | None = SENSITIVITY.option(
        kinds.INPUT.several().once(),
        f"Input of the tornado: {FACTOR_NAMES}. [default: all that can move the answer; none with --switch or --rates]",
        default=None,
    )
    spread: float = SENSITIVITY.option(
        kinds.share().checked(lambda value: value > 0.0, "above 0"),
        "Divide and multiply each input by 1 plus this share: 0.2 or 20%.",
        default=0.2,
    )
    switches: Mapping[str, tuple[float, float]] = SENSITIVITY.option(
        kinds.SWITCHES,
        "Find the factors on an input between these two at which the answer switches, such as "
        "price:dgx-a100=0.2:1, link-bandwidth=0.001:1, cv=1:4.",
        flag="--switch",
    )
    watch: Watch = SENSITIVITY.option(  # noqa: RUF009
        kinds.name_of("thing to watch", tuple(WATCHES)),
        "Change that counts as a switch: another best design, other sizes of its pools, another number of machines, or "
        "a change between split and colocated.",
        default="design",
    )
    tolerance: float = SENSITIVITY.option(
        kinds.share().within(1e-6, LARGEST_TOLERANCE), "Relative width to which a switch is narrowed.", default=0.01
    )
    probes: int = SENSITIVITY.option(
        kinds.whole(minimum=0, most=MOST_PROBES),
        "Number of factors between the ends that are tried before bisection.",
        default=5,
    )
    rates_rps: tuple[float, ...] = SENSITIVITY.option(
        kinds.positive().listed().once().shown_as("RATE,..."),
        "Rates in requests/s of the map of where splitting pays; with --ratios.",
    )
    ratios: tuple[float, ...] = SENSITIVITY.option(
        kinds.positive().listed().once().shown_as("RATIO,..."),
        "Ratios of mean prompt to mean output tokens of the map; prompts stay as they are.",
    )
    dask: str | None = SENSITIVITY.option(
        kinds.ADDRESS, "Scheduler of a Dask cluster on which plans are made, such as tcp://10.0.0.1:8786 (extra: dask)."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceOptions(Options):
    """The question of a paper's published results, computed again."""

    paper: str = REPRODUCTION.fixing(
        kinds.TEXT.shown_as("PAPER"), "Paper whose results are computed: splitwise.", flag="", default="splitwise"
    )
    only: tuple[str, ...] = REPRODUCTION.option(
        kinds.TEXT.several().once().shown_as("EXPERIMENT"),
        "Experiment to compute, with those it needs, such as fig-12 or iso-power-conversation. [default: all]",
    )
    resume: bool = REPRODUCTION.switch("Go on where an interrupted reproduction to the same --out stopped.")
    sets: int = changed(PlanOptions, "sets")
    duration_s: float = changed(PlanOptions, "duration_s")
    seed: int = changed(PlanOptions, "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class GridOptions(SimulateOptions):
    """Options common to the studies that simulate many clusters."""

    GROUPS: ClassVar[tuple[str, ...]] = (CLUSTER, SWEEP, WORKLOAD, LATENCY, POLICY, METHOD, SCALE)
    LEFT_OUT: ClassVar[tuple[str, ...]] = ("pools", "failures", "repeat", "records", "timeline")

    prices: str = changed(PlanOptions, "prices")
    threads: int | None = SCALE.option(
        kinds.whole(most=1024), "Clusters simulated at once on this machine. [default: its cores]"
    )
    dask: str | None = SCALE.option(
        kinds.ADDRESS, "Simulate on the workers of a Dask scheduler, such as tcp://127.0.0.1:8786, in place of threads."
    )
    resume: bool = SCALE.switch("Go on with an interrupted sweep, from the journal beside its first --out.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions(GridOptions):
    """The question of a sweep over the sizes of pools."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = (*GridOptions.LEFT_OUT, "prompt_machines", "token_machines", "mixed_machines")

    design: str | None = CLUSTER.option(
        kinds.DESIGN, "Design to sweep, such as splitwise-ha or baseline-h100, with the ranges of its machines."
    )
    prompt: str | tuple[int, ...] | None = CLUSTER.option(
        kinds.SIZES, "Prompt machines: 1:40, 10:100:10, one number, or several of those with commas."
    )
    token: str | tuple[int, ...] | None = CLUSTER.option(kinds.SIZES, "Token machines, written like prompt machines.")
    mixed: str | tuple[int, ...] | None = CLUSTER.option(
        kinds.SIZES, "Mixed machines of a baseline, written like prompt machines."
    )
    objective: CriterionName = SWEEP.fixing(  # noqa: RUF009
        kinds.name_of("objective of a sweep", OF_CLUSTERS), "Quantity that the optimum has least of.", default="cost"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VaryOptions(GridOptions):
    """The question of a sweep over an input at fixed sizes."""

    clusters: tuple[str, ...] = CLUSTER.option(
        kinds.DESIGN.several().shown_as("DESIGN=SIZES"),
        "A cluster for --vary, in place of --design: splitwise-hh=35+5, baseline-h100=40.",
    )
    name: str = SWEEP.option(
        kinds.INPUT.shown_as("INPUT=FROM:TO:STEP"),
        "Vary an input at fixed sizes: any number of a simulation under its flag's name, such as rate=30:250:10 "
        "(requests/s), in-flight=8:64:8, batch-tokens=512:4096:512, tp=2,4,8 or duration=30s:2min:30s; or by factors "
        "any input of --scale, such as slo=0.8:1.2:0.1.",
        flag="--vary",
        default=MISSING,
    )
    values: str | float | tuple[float, ...] = SWEEP.option(
        kinds.SIZES.shown_as("FROM:TO:STEP"),
        "Values of the input: a range such as 30:250:10, or numbers.",
        flag="",
        default=MISSING,
    )

    def check_needs(self) -> None:
        """Leave the check to the study, which knows the input that is given by its range."""
