"""Serving engines as reports: all in a table, or one with the basis of each number."""

from dataclasses import asdict

from provisioner.report import curves
from provisioner.report.document import Column, Document, Notes, facts, listing, notes, table
from provisioner.specs.catalog import SHIPPED, Catalog
from provisioner.specs.engine import DEFAULT_ENGINE, Engine, Execution, FusedNorms

_PARTS = {
    "scheduling": "Scheduling",
    "estimate": "Admission by estimate",
    "execution": "Time beside the kernels",
    "memory": "Memory",
    "handover": "Handover",
}


def engines_document(name: str | None = None, known: Catalog = SHIPPED) -> Document:
    """All engines, or the one of that name."""
    if name is None:
        mark = curves.marking(known, "engines")
        shown = listing(
            "",
            tuple(known.engines.values()),
            (Column("engine"), lambda engine: mark(engine.name)),
            (Column("what it is", words=True), lambda engine: engine.title),
            (Column("first"), lambda engine: engine.scheduling.order.removesuffix("-first")),
            (Column("tokens", True), lambda engine: _range(engine, "batch_tokens")),
            (Column("requests", True), lambda engine: _range(engine, "batch_requests")),
            (Column("admission"), lambda engine: engine.scheduling.admission),
            (Column("host, ms", True), lambda engine: _host(engine.execution)),
        )
        meaning = "Host: time of an iteration with n sequences beside its kernels."
        note = f"{meaning} Without --engine: {DEFAULT_ENGINE}. {curves.own_note(known)}"
        hint = "provision engines NAME shows every number with its basis."
        return Document(_counted(len(known.engines)), "", (shown, Notes("", (note.strip(), hint))))
    engine = known.engine(name)
    parts = [
        table(
            title,
            (Column("number"), Column("value", True), Column("basis", words=True)),
            [(number, _text(value), engine.basis[number]) for number, of, value in engine.numbers() if of == part],
        )
        for part, title in _PARTS.items()
        if part != "estimate" or engine.estimate is not None
    ]
    cards = [
        f"{batch.batch_tokens:,} tokens and {batch.batch_requests:,} requests {_card(batch.gpus, batch.from_gib)}"
        for batch in engine.scheduling.batches
    ]
    orders = [
        f"{each.operator or 'all operators'}{f' on {each.gpu}' if each.gpu else ''}: {', '.join(each.tables)}"
        for each in engine.kernels
    ]
    errors = listing(
        "Derived curves against served runs, % off",
        engine.errors,
        (Column("GPU"), lambda each: each.gpu),
        (Column("type"), lambda each: each.dtype),
        (Column("runs", True), lambda each: f"{each.runs:,}"),
        (Column("TTFT", True), lambda each: f"{100 * each.prompt:.0f}"),
        (Column("TPOT", True), lambda each: f"{100 * each.decode:.1f}"),
    )
    about = facts("", ("name", engine.name), ("an iteration has at most", "; ".join(cards)))
    end = (
        *([errors] if engine.errors else ()),
        *notes("Kernel tables, in this order", orders),
        *notes("Note", (engine.note,)),
        *notes("Sources", engine.sources),
    )
    return Document(engine.title, "", (about, *parts, *end))


def engines_data(name: str | None = None, known: Catalog = SHIPPED) -> object:
    """All engines, or the one of that name, as plain values."""
    if name is None:
        return [engines_data(each, known) for each in known.engines]
    engine = known.engine(name)
    return asdict(engine) | {"own": engine.name in curves.own_names(known, "engines")}


def _host(execution: Execution) -> str:
    return f"{1e3 * execution.iteration_s:g} + {1e3 * execution.sequence_s:g} n"


def _counted(engines: int) -> str:
    return f"{engines} engine{'s' if engines > 1 else ''}"


def _range(engine: Engine, name: str) -> str:
    values = next(value for number, _, value in engine.numbers() if number == name)
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _card(gpus: tuple[str, ...], from_gib: float) -> str:
    if gpus:
        return f"on {' and '.join(gpus)}"
    return f"from {from_gib:g} GiB a GPU on" if from_gib else "by default"


def _text(value: object) -> str:
    if isinstance(value, FusedNorms):
        models = f"{' and '.join(value.models) or 'all models'} on {' and '.join(value.gpus) or 'all GPUs'}"
        return f"{models}, above {value.above_hidden_size:,}" if value.above_hidden_size else models
    if isinstance(value, tuple):
        return ", ".join(dict.fromkeys(map(_text, value)))
    return f"{value:,.6g}" if isinstance(value, int | float) else str(value)
