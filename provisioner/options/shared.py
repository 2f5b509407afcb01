"""The options that plans and simulations have in common, and those of the files of a result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from provisioner.options.base import Options
from provisioner.options.declaration import Group
from provisioner.options.defaults import ASSUMPTIONS, DEFAULT_SLO, FACTOR_NAMES
from provisioner.options.kinds import (
    CONTEXT,
    FILE,
    FOLDER,
    NON_NEGATIVE,
    RATE,
    SCALE,
    SPAN,
    TEXT,
    name_of,
    share,
    whole,
)
from provisioner.options.limits import LATENCY, LIMIT_OPTIONS, LIMITS
from provisioner.specs.engine import DEFAULT_ENGINE
from provisioner.specs.metrics import LARGEST_PERCENTILE, MEASURED
from provisioner.specs.trace_formats import TIME_UNITS

WORKLOAD: Final = Group("Workload")
CLUSTER: Final = Group("Cluster")
METHOD: Final = Group("Method")
OUTPUT: Final = Group("Output")

_DTYPE: Final = TEXT.shown_as("bf16|fp8|fp8_block|nvfp4")
_KV_DTYPE: Final = TEXT.shown_as("bf16|fp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Options):
    """The options that plans and simulations have in common.

    ``OF_TRACES`` are those that a workload that is no trace leaves without effect.
    """

    OF_TRACES: ClassVar[tuple[str, ...]] = ("time_unit", "block_tokens", "failed_rows", "span_s")

    workload: str = WORKLOAD.fixing(
        TEXT.shown_as("NAME|FILE"),
        "Shipped workload, workload file (.yaml) or trace file: its lengths and burstiness, at --rate.",
        default="coding",
    )
    rate_rps: float | None = WORKLOAD.option(
        RATE.varied_as("rate"), "Load in requests/s; for a plan the peak load. [default: the workload's own]"
    )
    trace: str | None = WORKLOAD.option(
        FILE, "Requests and times of a trace file as they are, in place of --workload and --rate."
    )
    time_unit: str | None = WORKLOAD.option(name_of("unit", [*TIME_UNITS]), "Unit of the times in a trace file.")
    block_tokens: int | None = WORKLOAD.option(whole("tokens"), "Tokens of each of the hash_ids in a trace file.")
    failed_rows: str = WORKLOAD.option(
        name_of("treatment", ["drop", "refuse"]), "Rows of a trace file that have 0 output tokens.", default="drop"
    )
    span_s: tuple[float, float] | None = WORKLOAD.option(
        SPAN, "Part of a ServeGen folder from which requests are drawn, such as 18h:19h. [default: all of it]"
    )
    cv: float | None = WORKLOAD.option(
        NON_NEGATIVE.within(0.0, 100.0).shown_as("CV").varied_as("CV of the gaps between arrivals"),
        "Burstiness: coefficient of variation of the gaps between arrivals (1 is Poisson). [default: the workload's "
        "own]",
    )
    independent: bool = WORKLOAD.switch("Draw prompt and output tokens independently, not as pairs of the workload.")
    model: str = WORKLOAD.fixing(TEXT, "Model to serve (see provision models).", default="llama2-70b")
    slo: str = LATENCY.fixing(
        TEXT.shown_as("NAME|FILE"),
        "Set of limits: splitwise (the nine of the Splitwise paper), its rows p50, p90 and p99, none (the cluster has "
        "to be stable, no more; batch is another name), or a YAML file such as {ttft: {p99: 2s}, tbt: {p50: 60ms}, "
        "e2e: {p90: 1.5x}}. [default: splitwise, or none beside limits of your own]",
        default=DEFAULT_SLO,
    )
    limits: Mapping[str, str] = LATENCY.option(
        LIMITS,
        f"Limit on any percentile (Q above 0, at most 99.9) of {', '.join(MEASURED)}, such as tbt-p99.9=60ms; also "
        "written --tbt-p99.9 60ms. Limits stand alone; beside an --slo they are added to it.",
        members=LIMIT_OPTIONS,
    )
    attainment: float | None = LATENCY.option(
        share().checked(lambda value: 0.0 < value <= LARGEST_PERCENTILE / 100.0, "above 0, at most 99.9%"),
        "Share of the requests that have to be within all of --ttft, --tbt, --gap and --e2e at once (goodput), such as "
        "99%. The simulator alone judges it.",
    )
    assumptions: str = METHOD.fixing(
        name_of("set of assumptions", ASSUMPTIONS),
        "Rules for latencies: measured curves, or the published simulator's whole set.",
        default="measured",
    )
    engine: str = METHOD.fixing(
        TEXT.shown_as("NAME|FILE"),
        "Serving engine (see provision engines) or its YAML file; other numbers after a comma: NAME,batch_tokens=4096.",
        default=DEFAULT_ENGINE,
    )
    dtype: str | None = METHOD.option(
        _DTYPE,
        "Number type of the layers' weights; 16-bit types count as bf16, fp8_block has a scale per 128 x 128 weights. "
        "[default: the model's own]",
    )
    kv_dtype: str | None = METHOD.option(_KV_DTYPE, "Number type of the KV cache. [default: the model's own]")
    context_tokens: int | None = METHOD.option(
        CONTEXT,
        "Longest request, prompt and output together, that replicas have room for, such as 8192, 8k (8,000) or 8K "
        "(8,192). [default: the longest of the requests]",
        flag="--context",
    )
    reference: str | None = METHOD.option(
        TEXT.shown_as("MACHINE[:TP]"),
        "Reference of slowdowns: a request alone on this machine. [default: dgx-a100:8, or the first shipped machine "
        "that can serve the model]",
    )
    network: tuple[str, ...] = METHOD.option(
        TEXT.several().shown_as("[MACHINE=]NETWORK"),
        "Network between machines, of all or of one type: infiniband-100 to -800, roce-100 to -400, ethernet-10 to "
        "-200, with a number of ports as in 2xethernet-25, or Gb/s of a whole machine. [default: the machine's own]",
    )
    specs: str | None = METHOD.option(
        FOLDER, "Folder with own machines, instances, models, engines, prices and curves, beside the shipped ones."
    )
    scale: Mapping[str, float] = METHOD.option(SCALE, f"What-if: multiply an input by a factor: {FACTOR_NAMES}=0.5.")
    seed: int = METHOD.fixing(
        whole(minimum=0, most=2**32 - 1).shown_as("NUMBER"), "Seed of everything drawn at random.", default=0
    )

    def __post_init__(self) -> None:
        """Leave limits given by hand alone, unless an SLO is named beside them; then parse every value."""
        if self.slo is DEFAULT_SLO:
            by_hand, deadline_s = self.limits or self.attainment is not None, getattr(self, "deadline_s", None)
            object.__setattr__(self, "slo", "none" if by_hand else "batch" if deadline_s is not None else self.slo)
        Options.__post_init__(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(Options):
    """The files of a result."""

    GROUPS: ClassVar[tuple[str, ...]] = (OUTPUT,)

    out: tuple[str, ...] = OUTPUT.option(
        FILE.several(),
        "Write the result in the format of the ending: a table as .csv or .parquet, all as .json, a report as .md or "
        ".html, the pictures as .png, .svg or .pdf. A folder, ending in /, gets every table, the report and the page.",
    )
    table: str | None = OUTPUT.option(
        TEXT, "Table to write as .csv or .parquet in place of the main one; an unknown name lists them all."
    )
