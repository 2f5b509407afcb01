"""The latency curves as reports: models and machines that they cover, their errors, and the evidence behind them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final, Literal

from provisioner.errors import UnknownNameError
from provisioner.perf import summary
from provisioner.perf.operators import gpu_limits
from provisioner.perf.provenance import SERVED_RUNS, KernelsProvenance, kernels_provenance
from provisioner.perf.summary import NUMBER_TYPES, Coverage, CurveError, CurveSummary, MachineCurves
from provisioner.report.document import Block, Column, Document, Notes, Table, facts, grouped, listing, notes, table
from provisioner.report.numbers import per_cent, whole
from provisioner.specs.catalog import SHIPPED, Catalog
from provisioner.specs.engine import Engine
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture, NumberType

_LIMITED: Final = {
    "fit": "as fitted",
    "floor": "raised to the time of reading the KV cache",
    "ceiling": "lowered to the ceiling for it",
}


def own_names(known: Catalog, part: Literal["machines", "models", "engines"]) -> frozenset[str]:
    """Names of the machines, models or engines in a folder of own specs."""
    own = () if known.own is None else (Path(known.own) / part).glob("*.yaml")
    return frozenset(path.stem for path in own)


def marked(name: str, own: bool) -> str:
    """A name, marked if it is of own specs."""
    return f"{name} *" if own else name


def marking(known: Catalog, part: Literal["machines", "models", "engines"]) -> Callable[[str], str]:
    """Return the function that marks those names of machines, models or engines that are of own specs."""
    own = own_names(known, part)
    return lambda name: marked(name, name in own)


def own_note(known: Catalog) -> str:
    """The meaning of the mark; empty without own specs."""
    return "" if known.own is None else f"*: of one's own, from {known.own}."


def all_coverage(
    models: Iterable[ModelArchitecture], machines: Sequence[Machine], known: Catalog, engine: Engine | None = None
) -> list[Coverage]:
    """Curves of models on machines, under the default engine unless one is given."""
    return [row for model in models for machine in machines for row in summary.coverage(model, machine, known, engine)]


def coverage_blocks(
    title: str,
    models: Sequence[ModelArchitecture],
    machines: Sequence[Machine],
    known: Catalog,
    engine: Engine | None = None,
) -> list[Block]:
    """A table of the curves of one model on machines, or of models on one machine, and notes on its numbers."""
    rows = all_coverage(models, machines, known, engine)
    title += f", engine {engine.name}" if engine else ""
    subject: Literal["machine", "model"] = "machine" if len(models) == 1 else "model"
    mark = marking(known, "machines" if subject == "machine" else "models")
    lines = grouped(((mark(getattr(row, subject)), row.dtype, marked(row.evidence, row.own)), row) for row in rows)
    degrees = sorted({row.tensor_parallel for row in rows})
    numbers = (*(f"TP {degree}" for degree in degrees), "prompt, %", "decode, %")
    columns = [Column(subject), Column("type"), Column("curves"), *(Column(header, True) for header in numbers)]
    cells = []
    for key, of in lines.items():
        tokens = {row.tensor_parallel: row.kv_capacity_tokens for row in of}
        room = {degree: "no room" if held is None else whole(held / 1e3) for degree, held in tokens.items()}
        cells.append((*key, *(room.get(degree, "") for degree in degrees), *_spans(row.error for row in of)))
    return [table(title, columns, cells), *notes("", _legend(rows, models, machines, known))]


def _spans(errors: Iterable[CurveError | None]) -> tuple[str, str]:
    known = [error for error in errors if error is not None]
    return span([error.prompt for error in known]), span([error.decode for error in known])


def span(errors: Sequence[tuple[float, float]]) -> str:
    """Fractions from the least to the most, in per cent; empty where none is known.

    >>> span([(0.243, 0.243)]), span([(0.0434, 0.114), (0.06, 0.2)]), span([])
    ('24.3', '4 to 20', '')
    """
    if not errors:
        return ""
    least, most = min(low for low, _ in errors), max(high for _, high in errors)
    alike = round(100 * least) == round(100 * most)
    return per_cent((least + most) / 2) if alike else f"{100 * least:.0f} to {100 * most:.0f}"


def _legend(
    rows: Sequence[Coverage], models: Sequence[ModelArchitecture], machines: Sequence[Machine], known: Catalog
) -> Iterable[str]:
    cache = "/".join(sorted({model.kv_dtype for model in models}))
    kept = []
    for part in list(rows[0].memory_bytes)[1:-1] if rows else ():
        gib = sorted({f"{row.memory_bytes[part] / row.tensor_parallel / 2**30:.2f}" for row in rows}, key=float)
        kept.append(f"{part} {' to '.join(dict.fromkeys((gib[0], gib[-1])))}")
    yield (
        f"Below each TP: thousands of tokens of KV cache (in {cache}) that one replica has room for; no room for less "
        "than one full context (plans ask for their longest request only). Beside weights a GPU keeps, in GiB: "
        f"{', '.join(kept)} (docs/explanation/memory.md)."
    )
    yield from error_notes({row.evidence for row in rows}, {row.error is None for row in rows} == {False})
    reasons = grouped(
        (why.removeprefix(f"{machine.name} "), machine.name)
        for machine in machines
        for why in summary.not_covered(models[0], machine).values()
    )
    for why, names in reasons.items():
        yield f"None derived or estimated where a machine {why}: {', '.join(dict.fromkeys(names))}."
    if any(machine.power_cap < 1 for machine in machines):
        yield "With a power cap times are longer by what is assumed of it; no error here counts that."
    yield own_note(known)


def error_notes(kinds: Iterable[str], known: bool = True) -> list[str]:
    """The meaning of the errors of each kind of curve."""
    meanings = {
        "measured": "measured: mean errors of prompt and decode times at points left out"
        + ("." if known else "; blank where there are too few points to leave one out."),
        "derived": (
            f"derived: mean errors of TTFT and TPOT in {SERVED_RUNS} runs served by vLLM, Llama-3.1-70B on H200 and "
            "Qwen3-32B on H100; other models and GPUs were not compared (docs/explanation/validation.md)."
        ),
        "estimated": (
            "estimated: median errors of prompt and decode iterations against derived ones, from the least to the most "
            "over GPUs with kernels, each estimated from all others (not from one that is like it); those of derived "
            "curves come on top. Over PCIe at TP 1 only."
        ),
    }
    return [text for kind, text in meanings.items() if kind in kinds]


def machines_table(machines: Iterable[Machine], known: Catalog) -> Table:
    """The curves of each machine for models that were not measured on it, with errors of prompt / decode."""
    mark = marking(known, "machines")
    return listing(
        "Where a model was not measured",
        [summary.machine_curves(machine) for machine in machines],
        (Column("machine"), lambda curves: mark(curves.machine)),
        (Column("curves"), lambda curves: curves.evidence),
        (Column("kernels of"), _kernels),
        *((Column(f"{dtype}, %", True), partial(_errors, dtype=dtype)) for dtype in NUMBER_TYPES),
    )


def _errors(curves: MachineCurves, dtype: NumberType) -> str:
    return " / ".join(filter(None, _spans([curves.errors.get(dtype)])))


def _kernels(curves: MachineCurves) -> str:
    if len(curves.kernels) == len(gpu_limits()):
        return "all GPUs"
    like = "like " if curves.evidence == "estimated" else ""
    return like + ", ".join(curves.kernels)


def other_curves(machine: Machine) -> str:
    """A sentence on the curves of a machine for models that were not measured on it, and on their errors."""
    curves = summary.machine_curves(machine)
    first, second = ("TTFT", "TPOT") if curves.evidence == "derived" else ("prompt", "decode")
    types = grouped((_spans([error]), dtype) for dtype, error in curves.errors.items())
    errors = "; ".join(f"in {' and '.join(of)} {first} {p} %, {second} {d} % off" for (p, d), of in types.items())
    capped = "" if machine.power_cap == 1 else "; slowed down as is assumed of its power cap"
    noted = f"; {machine.estimate_note}" if machine.estimate_note else ""
    return f"{curves.evidence} from kernels of {_kernels(curves).removeprefix('like ')}: {errors}{capped}{noted}"


def by_evidence(machines: Iterable[Machine]) -> dict[str, list[str]]:
    """Names of machines by the kind of curves that they get for models that were not measured on them."""
    names = grouped((curves.evidence, curves.machine) for curves in map(summary.machine_curves, machines))
    return dict(sorted(names.items()))


def curves_document(name: str | None = None, known: Catalog = SHIPPED, engine: Engine | None = None) -> Document:
    """The curves: all in brief, or those of a model or machine with their evidence."""
    models, machines, measured = _subject(name, known)
    if name is None:
        refused = sum(len(row.curve.refused) for row in measured)
        subtitle = (
            f"{refused} measured points were refused. Errors are mean absolute ones of prompt / decode times: of "
            "single runs left out at random (the Splitwise paper's kind), and of whole points left out, each predicted "
            "without it (the honest kind). provision curves NAME shows those of a model or machine with the evidence."
        )
        meanings = notes("", (*error_notes(by_evidence(machines)), own_note(known)))
        blocks = (_overview(measured), machines_table(machines, known), *meanings)
        return Document(f"{len(measured)} groups of measured latency curves", subtitle, blocks)
    shown = [] if name in known.models else _origin(*machines)
    shown += coverage_blocks("Coverage", models, machines, known, engine)
    shown += [block for row in measured for block in _evidence(row)]
    shown += notes("Sources", dict.fromkeys(source for row in measured for source in row.curve.sources))
    return Document(f"Latency curves of {name}", "", tuple(shown))


def _subject(
    name: str | None, known: Catalog
) -> tuple[tuple[ModelArchitecture, ...], tuple[Machine, ...], list[CurveSummary]]:
    """Models and machines, of which one has the name if there is one, and their measured curves."""
    models, machines = tuple(known.models.values()), tuple(known.whole_machines.values())
    if name is None:
        return models, machines, summary.curve_summary(own=known)
    if name in known.models:
        return (known.models[name],), machines, summary.curve_summary(model=name, own=known)
    if name.partition("@")[0] in known.machines:  # NAME@70: with a power cap
        machine = known.machine(name)
        return models, (machine,), summary.curve_summary(machine=machine.name, own=known)
    raise UnknownNameError("model or machine", name, (*known.models, *known.machines))


def _origin(machine: Machine) -> list[Block]:
    """The origin of a machine's curves: tables of its GPU's kernels, or the GPUs that it is estimated from."""
    curves = summary.machine_curves(machine)
    others = ", ".join(curves.borrowed)
    blocks: list[Block] = [facts("", ("where not measured", other_curves(machine)), ("from other GPUs", others))]
    taken = curves.kernels if len(curves.kernels) == 1 else ()
    for gpu in dict.fromkeys(filter(None, (machine.kernels, *taken))):
        blocks += _kernel_tables(kernels_provenance()[gpu])
    if curves.evidence == "estimated":
        blocks.append(_left_out_gpus())
    return blocks


def _kernel_tables(kernels: KernelsProvenance) -> list[Block]:
    tables = listing(
        f"Kernels of {kernels.gpu}",
        kernels.tables,
        (Column("operator"), lambda each: each.name),
        (Column("software"), lambda each: each.software),
        (Column("rows", True), lambda each: whole(each.rows)),
        (Column("used", True), lambda each: whole(each.rows_used)),
        (Column("by rules", True), lambda each: whole(sum(part.rows for part in each.refused))),
        (Column("median, %", True), lambda each: per_cent(each.error_median)),
        (Column("P95, %", True), lambda each: per_cent(each.error_p95)),
    )
    refused = [
        f"{each.name} of {each.software}: {whole(part.rows)} rows: {part.rule} (such as {part.examples[0]})"
        for each in kernels.tables
        for part in each.refused
    ]
    source = (
        "Tables and rules: hardware_specs/operators/provenance.yaml. By rules rows were refused or took another time. "
        "Errors are of a table against its rows."
    )
    return [tables, Notes("", (*refused, kernels.limits, source))]


def _left_out_gpus() -> Table:
    cases = [(phase, dtype) for dtype in NUMBER_TYPES for phase in ("prompt", "decode")]
    provenance = kernels_provenance()

    def errors(gpu: str, case: tuple[str, NumberType]) -> str:
        error = provenance[gpu].estimated.get(case)
        return "" if error is None else f"{per_cent(error.median)}, {per_cent(error.p95)}"

    return listing(
        "GPUs with kernels, estimated from the others: median error, and its P95",
        [gpu for gpu, kernels in provenance.items() if kernels.estimated],
        (Column("GPU"), str),
        *((Column(f"{phase} {dtype}, %", True), partial(errors, case=(phase, dtype))) for phase, dtype in cases),
    )


def _pair(errors: Iterable[float]) -> str:
    return " / ".join(map(per_cent, errors))


def _overview(rows: Sequence[CurveSummary]) -> Table:
    return listing(
        "Measured",
        rows,
        (Column("model"), lambda row: row.curve.model),
        (Column("machine"), lambda row: marked(row.curve.machine, row.own)),
        (Column("TP", True), lambda row: whole(row.curve.tensor_parallel)),
        (Column("points", True), lambda row: whole(len(row.curve.points))),
        (Column("refused", True), lambda row: whole(len(row.curve.refused))),
        (Column("levelled", True), lambda row: whole(len(row.curve.dips))),
        (Column("runs out, %", True), lambda row: _pair(error.mape for error in row.errors_repeats)),
        (Column("points out, %", True), lambda row: _pair(summary.inner_errors(row.errors_points) or ())),
        (Column("obtained"), lambda row: ", ".join(row.curve.provenance)),
    )


def _evidence(row: CurveSummary) -> list[Block]:
    curve = row.curve
    obtained = ", ".join(curve.provenance)
    slope = row.context
    about = facts(
        f"{curve.model} on {curve.machine} at TP {curve.tensor_parallel}",
        ("points", f"{len(curve.points)}, {len(curve.refused)} refused, {len(curve.dips)} levelled ({obtained})"),
        ("prompt", f"measured from {_range(curve.prompt_range_tokens)} batched tokens"),
        ("decode", f"measured from {_range(curve.decode_batch_range)} sequences in a batch"),
        ("context", f"measured from {_range(curve.decode_context_range)} tokens held by a batch"),
        (
            "context slope",
            f"{1e9 * slope.slope_s_per_token:,.1f} ns per token ({_LIMITED[slope.limited_by]}); fitted "
            f"{1e9 * slope.fitted_s_per_token:,.1f} +- {1e9 * slope.standard_error_s_per_token:,.1f} ns, residual "
            f"{1e3 * slope.residual_s:.2f} ms over {slope.rows} rows",
        ),
    )
    errors = listing(
        "",
        (*row.errors_repeats, *row.errors_points),
        (Column("left out"), lambda error: error.axis),
        (Column("points", True), lambda error: whole(error.left_out) if error.left_out else ""),
        (Column("mean error, %", True), lambda error: per_cent(error.mape)),
        (Column("largest, %", True), lambda error: per_cent(error.largest)),
        (Column("bias, %", True), lambda error: "" if error.bias is None else f"{100 * error.bias:+.1f}"),
    )
    refused = (f"refused: {each.point.label}: {each.reason}" for each in curve.refused)
    remarks = notes("", (*refused, *(dip.reason for dip in curve.dips), *curve.assumed))
    return [about, *([errors] if errors.rows else []), *remarks]


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:,.0f} to {bounds[1]:,.0f}"


def curves_data(name: str | None = None, known: Catalog = SHIPPED, engine: Engine | None = None) -> dict[str, object]:
    """The same as plain values: ``measured`` groups, ``machines``, and of one model or machine its ``coverage``."""
    models, machines, measured = _subject(name, known)
    data: dict[str, object] = {
        "measured": [_group_data(row) for row in measured],
        "machines": [_machine_data(machine) for machine in machines],
    }
    return data if name is None else data | {"coverage": all_coverage(models, machines, known, engine)}


def _machine_data(machine: Machine) -> dict[str, object]:
    curves, provenance = summary.machine_curves(machine), kernels_provenance()
    kernels = [
        {
            "gpu": gpu,
            "tables": provenance[gpu].tables,
            "estimated_from_others": [
                {"phase": phase, "dtype": dtype} | asdict(error)
                for (phase, dtype), error in provenance[gpu].estimated.items()
            ],
        }
        for gpu in curves.kernels
    ]
    return asdict(curves) | {"kernels": kernels}


def _group_data(row: CurveSummary) -> dict[str, object]:
    curve = row.curve
    named = ("model", "machine", "tensor_parallel", "prompt_range_tokens", "decode_batch_range", "provenance")
    return {name: getattr(curve, name) for name in named} | {
        "own": row.own,
        "points": len(curve.points),
        "refused": [{"point": each.point.label, "reason": each.reason} for each in curve.refused],
        "levelled": curve.dips,
        "assumed": curve.assumed,
        "decode_context_range_tokens": curve.decode_context_range,
        "context_slope_s_per_token": row.context.slope_s_per_token,
        "context_slope_fitted_s_per_token": row.context.fitted_s_per_token,
        "context_slope_limited_by": row.context.limited_by,
        "errors_runs_left_out": row.errors_repeats,
        "errors_points_left_out": row.errors_points,
        "sources": curve.sources,
    }
