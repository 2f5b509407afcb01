"""``provision machines``, ``engines``, ``models``, ``curves`` and ``workloads``: lists, and imports of own specs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVarTuple

import typer

from provisioner.cli.given import Given, JsonOption, takes
from provisioner.cli.help import Command, CommandGroup, ShowByDefault, argument, option
from provisioner.cli.output import emit, report_text
from provisioner.errors import InputError
from provisioner.options import PlanOptions, flag_of
from provisioner.options.declaration import declarations_of
from provisioner.options.imports import CurveImportOptions, ModelImportOptions, TraceOptions, WorkloadImportOptions

if TYPE_CHECKING:
    from provisioner.report.document import Document
    from provisioner.specs.catalog import Catalog
    from provisioner.specs.engine import Engine


def group(help: str, kind: type[CommandGroup] = ShowByDefault) -> typer.Typer:
    """A group of commands with this program's help and errors."""
    return typer.Typer(
        cls=kind,
        help=help,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def _listing(noun: str, help: str) -> typer.Typer:
    return group(f"{help}\n\nprovision {noun} NAME is provision {noun} show NAME.")


models_app = _listing("models", "List the models, show one, or import one.")
curves_app = _listing("curves", "List the latency curves, show some, or import measurements.")
workloads_app = _listing("workloads", "List the workloads, show one, or import a trace.")

_SPECS: Final = (
    "Folder with own machines, instances, models, engines, prices and curves, shown with a mark beside the shipped "
    "ones."
)
SpecsOption = Annotated[str | None, option("--specs", metavar="FOLDER", help=_SPECS)]
"""The option of the listings that own specs join."""

_ENGINE: Final = declarations_of(PlanOptions)["engine"]
EngineOption = Annotated[str | None, option(_ENGINE.flag, metavar=_ENGINE.kind.metavar, help=_ENGINE.help)]
"""The option of the listings whose numbers depend on the engine; without it they are of the default one."""

Subject = TypeVarTuple("Subject")


def _show(
    json: bool, document: "Callable[[*Subject], Document]", data: Callable[[*Subject], object], *subject: *Subject
) -> None:
    """Write the document of a subject, or its data as JSON."""
    from provisioner.report.serialiser import json_text

    emit(json_text(data(*subject)) if json else report_text(document(*subject)))


def _known(specs: str | None, engine: str | None) -> "tuple[Catalog, Engine | None]":
    """The catalog with own specs, and the engine of that name if one is given."""
    from provisioner.specs.catalog import with_own

    known = with_own(specs)
    return known, None if engine is None else known.engine(engine)


@takes()
def machines(
    name: Annotated[str | None, argument("[NAME]", "Machine type to show; all if left out.")] = None,
    specs: SpecsOption = None,
    json: JsonOption = False,
) -> None:
    """List the machine types, or show one with its curves, prices and sources."""
    from provisioner.report.specs import machines_data, machines_document
    from provisioner.specs.catalog import with_own

    _show(json, machines_document, machines_data, name, with_own(specs))


@takes()
def engines(
    name: Annotated[
        str | None, argument("[NAME|FILE]", "Engine to show, also with other numbers as for --engine; all if left out.")
    ] = None,
    specs: SpecsOption = None,
    json: JsonOption = False,
) -> None:
    """List the serving engines, or show one with the basis of each of its numbers."""
    from provisioner.report.engines import engines_data, engines_document
    from provisioner.specs.catalog import with_own

    _show(json, engines_document, engines_data, name, with_own(specs))


@models_app.command("show", cls=Command)
@takes()
def show_models(
    name: Annotated[str | None, argument("[NAME]", "Model to show; all if left out.")] = None,
    specs: SpecsOption = None,
    engine: EngineOption = None,
    json: JsonOption = False,
) -> None:
    """List the models, or show one with its memory, where it runs, and its sources."""
    from provisioner.report.specs import models_data, models_document

    _show(json, models_document, models_data, name, *_known(specs, engine))


@models_app.command("import", cls=Command)
@takes(ModelImportOptions)
def import_model(
    file: Annotated[str, argument("FILE", "config.json of a model on Hugging Face.")],
    *,
    given: Given,
    json: JsonOption = False,
) -> None:
    """Read a model's config.json: describe the model, and write it as a spec.

    Understands dense decoders (docs/how-to/own-models.md has the families) in 16 bits, FP8, INT8, AWQ, GPTQ, NVFP4 and
    MXFP4, also stated in a file beside it. Refuses any other, and names the part that it does not understand.
    """
    from provisioner.cli.imports import import_model as read
    from provisioner.report.imports import model_data, model_document

    _show(json, model_document, model_data, *read(file, ModelImportOptions.of(**given)))


@curves_app.command("show", cls=Command)
@takes()
def show_curves(
    name: Annotated[
        str | None, argument("[NAME]", "Model or machine type whose curves to show in full; all in brief if left out.")
    ] = None,
    specs: SpecsOption = None,
    engine: EngineOption = None,
    json: JsonOption = False,
) -> None:
    """List the latency curves, or show those of a model or machine with their evidence.

    The list has the kind of each curve (measured, derived from kernels, or estimated), where a model fits, and the
    errors. The evidence of a measured curve: its points, refused points with the reason, levelled dips, ranges, errors
    on points held out, and sources. The evidence of a derived curve: its tables of kernels, with the rows used and
    refused and their errors.
    """
    from provisioner.report.curves import curves_data, curves_document

    _show(json, curves_document, curves_data, name, *_known(specs, engine))


@curves_app.command("import", cls=Command)
@takes(CurveImportOptions)
def import_curves(
    files: Annotated[list[str], argument("FILE...", "Results of benchmarks, or tables of points.")],
    *,
    given: Given,
    json: JsonOption = False,
) -> None:
    """Make a latency curve from a benchmark's measurements of one replica.

    Prints the recognised format, the points taken, the points left out with the reason, and how well the curve explains
    the points. Recognises results of vLLM, SGLang, GuideLLM, AIPerf, genai-perf, inference-perf, llm-d and InferenceX,
    and CSV of points (docs/how-to/own-measurements.md).
    """
    from provisioner.cli.imports import import_curve
    from provisioner.report.imports import measured_data, measured_document

    _show(json, measured_document, measured_data, *import_curve(files, CurveImportOptions.of(**given)))


@workloads_app.command("show", cls=Command)
@takes(TraceOptions)
def show_workloads(
    name: Annotated[
        str | None, argument("[NAME|FILE]", "Workload, workload file or trace file to show; all shipped if left out.")
    ] = None,
    *,
    given: Given,
    json: JsonOption = False,
) -> None:
    """List the shipped workloads, or show one with its lengths, arrivals and sources."""
    from provisioner.report.specs import workloads_data, workloads_document

    for option_name in given if name is None else ():
        raise InputError(f"{flag_of(option_name)}: is of a trace file; name one")
    _show(json, workloads_document, workloads_data, name, TraceOptions.of(**given))


@workloads_app.command("import", cls=Command)
@takes(WorkloadImportOptions)
def import_workload(
    file: Annotated[str, argument("FILE", "Trace: CSV with a header, JSON lines, or a folder of them.")],
    *,
    given: Given,
    json: JsonOption = False,
) -> None:
    """Read a trace: print its format and content, and write it as a workload.

    Recognises arrival_s,prompt_tokens,output_tokens and the columns of Azure, AIBrix, AIPerf, BurstGPT, LLMServingSim,
    Mooncake, Qwen-Bailian, RAGPulse, ServeGen, SplitwiseSim, Vidur and vLLM's router (docs/how-to/own-traces.md).
    """
    from provisioner.cli.imports import import_trace
    from provisioner.report.imports import import_data, import_document

    _show(json, import_document, import_data, *import_trace(file, WorkloadImportOptions.of(**given)))
