"""The options of imports: a trace to a workload, a ``config.json`` to a model, measurements to a curve."""

import re
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, Final

from provisioner.errors import InputError
from provisioner.options.base import Options
from provisioner.options.declaration import Group, changed
from provisioner.options.kinds import FOLDER, RATE, TEXT, Kind, positive, whole
from provisioner.options.shared import OUTPUT, WORKLOAD, Question

MEASURED: Final = Group("What was measured")

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # name that also names files


def _parse_name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InputError(f"{what} {value}: must be letters, digits, '.', '_' and '-', for it names files")
    return value


_NAME: Final = Kind(_parse_name, "NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions(Options):
    """The rules by which a trace is read as a workload."""

    OF_TRACES: ClassVar[tuple[str, ...]] = (*Question.OF_TRACES, "seed", "rate_rps")

    time_unit: str | None = changed(Question, "time_unit")
    block_tokens: int | None = changed(Question, "block_tokens")
    failed_rows: str = changed(Question, "failed_rows")
    span_s: tuple[float, float] | None = changed(Question, "span_s")
    seed: int = changed(Question, "seed", group=WORKLOAD)
    rate_rps: float | None = WORKLOAD.option(RATE, "Rate to plan for a trace at, in requests/s. [default: its peak]")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadImportOptions(TraceOptions):
    """A workload made of a trace."""

    named: str | None = OUTPUT.option(_NAME, "Name of the workload. [default: the file's]", flag="--name")
    out: str | None = OUTPUT.option(
        TEXT.shown_as("FOLDER|FILE.yaml"),
        "Write the workload as a pair of files NAME.yaml and NAME.csv that --workload takes.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelImportOptions(Options):
    """A model made of a ``config.json``."""

    named: str | None = OUTPUT.option(_NAME, "Name of the model. [default: the file's, if not config]", flag="--name")
    title: str | None = OUTPUT.option(TEXT.shown_as("TITLE"), "Name that reports show. [default: the name]")
    out: str | None = OUTPUT.option(FOLDER, "Write the model into a folder of own specs, for --specs; made if missing.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveImportOptions(Options):
    """A curve made of measurements of one replica."""

    GROUPS: ClassVar[tuple[str, ...]] = (MEASURED, OUTPUT)

    model: str = MEASURED.option(TEXT, "Model that was served. Needed.", default=MISSING)
    machine: str = MEASURED.option(TEXT, "Machine type that served it. Needed.", default=MISSING)
    tensor_parallel: int = MEASURED.option(
        whole("GPUs"), "Tensor parallelism: GPUs of the replica. Needed.", default=MISSING
    )
    input_tokens: float | None = MEASURED.option(
        positive("tokens", "TOKENS").within(1.0, 1e6), "Prompt length of every run. [default: what the files say]"
    )
    output_tokens: float | None = MEASURED.option(
        positive("tokens", "TOKENS").within(1.0, 1e6), "Output length of every run. [default: what the files say]"
    )
    concurrency: int | None = MEASURED.option(
        whole("requests"),
        "Requests held in flight, for files that state no load, as the CSV of AIPerf and genai-perf. [default for "
        "those: from the JSON beside the file, or the folder's name]",
    )
    specs: str | None = MEASURED.option(
        FOLDER, "Folder with own models and machines; with --out, those of its folder count."
    )
    out: str | None = OUTPUT.option(
        FOLDER,
        "Write the curve into a folder of own specs, for --specs; made if missing. Points "
        "of other degrees of tensor parallelism that its file has stay.",
    )
