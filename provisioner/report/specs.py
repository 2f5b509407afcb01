"""Machines, models and workloads as reports: all in a table, or one with its sources."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Final, Literal

from provisioner.perf.curves import curve_groups
from provisioner.perf.summary import machine_curves
from provisioner.report.coverage import (
    all_coverage,
    by_evidence,
    coverage_blocks,
    known_of,
    marked,
    other_curves,
    own_names,
    own_note,
)
from provisioner.report.document import Block, Column, Document, Facts, Notes, Table, listing, notes, table
from provisioner.report.numbers import dollars, significant, whole
from provisioner.specs import catalog
from provisioner.specs.catalog import Catalog
from provisioner.specs.hardware import Machine
from provisioner.specs.model import DTYPE_BYTES, ModelArchitecture
from provisioner.specs.prices import PriceList
from provisioner.specs.units import format_bytes, format_count, format_power, format_rate, format_seconds, format_share
from provisioner.specs.workload import Workload

Side = Literal["prompt", "output"]

_SIDES: Final[tuple[Side, ...]] = ("prompt", "output")
_QUANTILES: Final = (50, 90, 99)
_LINKS: Final = {"nvlink": "NVLink", "xgmi": "Infinity Fabric", "pcie": "PCIe"}


def machines_document(name: str | None = None, own: Catalog | None = None) -> Document:
    """All machine types, or the one of that name."""
    known = known_of(own)
    if name is None:
        mine = own_names(own, "machines")
        note = f"Prices are in $/h, by list; blank where a list has none. {own_note(own)}".rstrip()
        groups = curve_groups(own)
        models = ", ".join(dict.fromkeys(model for model, _, _ in groups))
        measured = f"of {models} on {', '.join(sorted({machine for _, machine, _ in groups}))}"
        shown = listing(
            "",
            tuple(known.machines.values()),
            (Column("machine"), lambda machine: marked(machine.name, machine.name in mine)),
            (Column("GPUs", True), lambda machine: whole(machine.gpus)),
            (Column("GPU"), lambda machine: machine.gpu),
            (Column("HBM, GiB", True), lambda machine: whole(machine.memory_bytes / 2**30)),
            (Column("HBM, GB/s", True), lambda machine: whole(machine.memory_bandwidth_gb_per_s)),
            (Column("W", True), lambda machine: whole(machine.max_power_w)),
            *((Column(prices, True), partial(_price, prices=known.price_list(prices))) for prices in known.price_lists),
        )
        return _overview("machine types", "machines", shown, note, *_curves(known, measured, "{}", "curves"))
    machine = known.machine(name)
    facts = (
        ("name", machine.name),
        ("letter", f"{machine.letter}, as in Splitwise-{machine.letter}{machine.letter}"),
        ("GPUs", f"{machine.gpus} x {machine.gpu}"),
        ("memory", f"{format_bytes(machine.memory_bytes)} ({machine.memory_gib_per_gpu:g} GiB per GPU)"),
        ("memory bandwidth", f"{machine.memory_bandwidth_gb_per_s:,.0f} GB/s per GPU"),
        ("peak", f"{_peaks(machine)} TFLOP/s per GPU, dense"),
        ("GPU link", f"{_LINKS[machine.gpu_link]}, {machine.gpu_link_gb_per_s:,.0f} GB/s per GPU"),
        ("network", f"{machine.network}, {machine.network_gbps:,.0f} Gb/s of the whole machine"),
        ("GPU power", f"{format_power(machine.gpu_tdp_w)}{_capped(machine)}"),
        ("machine power", f"{machine.max_power_w:,.0f} W"),
        ("released", str(machine.released)),
        ("measured curves", _curves_of_machine(machine, own)),
        ("other curves", other_curves(machine)),
    )
    prices = [
        (list_name, dollars(price.cost_usd_per_h, sign=False), whole(price.provisioned_power_w), price.source)
        for list_name in known.price_lists
        if (price := known.price_list(list_name).machines.get(machine.name)) is not None
    ]
    columns = (Column("list"), Column("$/h", True), Column("W", True), Column("source", words=True))
    listed = [table("Prices", columns, prices)] if prices else []
    return Document(machine.title, "", (Facts("", facts), *listed, *_notes(machine.note, machine.sources)))


def machines_data(name: str | None = None, own: Catalog | None = None) -> object:
    """All machine types, or the one of that name, as plain values."""
    known = known_of(own)
    if name is None:
        return [machines_data(each, own) for each in known.machines]
    machine = known.machine(name)
    lists = {list_name: known.price_list(list_name) for list_name in known.price_lists}
    prices = {
        list_name: asdict(prices.machines[machine.name]) | {"date": prices.date}
        for list_name, prices in lists.items()
        if machine.name in prices.machines
    }
    return asdict(machine) | {
        "own": machine.name in own_names(own, "machines"),
        "memory_bytes": machine.memory_bytes,
        "network_bytes_per_s": machine.network_bytes_per_s,
        "prices": prices,
        "curves": [{"model": m, "tensor_parallel": tp} for m, at, tp in curve_groups(own) if at == machine.name],
        "other_curves": asdict(machine_curves(machine)),
    }


def _price(machine: Machine, prices: PriceList) -> str:
    price = prices.machines.get(machine.name)
    return "" if price is None else dollars(price.cost_usd_per_h, sign=False)


def _peaks(machine: Machine) -> str:
    """Peaks by number type, in TFLOP/s."""
    fp8 = f", FP8 {machine.peak_fp8_tflops:,.1f}" if machine.peak_fp8_tflops else ", no FP8,"
    return f"16 bits {machine.peak_fp16_tflops:,.1f}{fp8}"


def _capped(machine: Machine) -> str:
    return "" if machine.power_cap == 1 else f", capped to {format_share(machine.power_cap)} of it"


def _curves_of_machine(machine: Machine, own: Catalog | None) -> str:
    by_model: dict[str, list[str]] = {}
    for model, at, tensor_parallel in curve_groups(own):
        if at == machine.name:
            by_model.setdefault(model, []).append(str(tensor_parallel))
    return "; ".join(f"{model} at TP {', '.join(tps)}" for model, tps in by_model.items()) or "none"


def _curves(known: Catalog, measured: str, others: str, command: str) -> tuple[Block, ...]:
    """Latency curves that are measured, and by their evidence the machines on which the ``others`` are."""
    by_kind = by_evidence(known.machines.values())
    rows = [(kind, others.format(", ".join(machine.name for machine in on))) for kind, on in by_kind.items()]
    hint = f"provision curves shows the errors, provision {command} NAME where a model fits."
    return Facts("Latency curves", (("measured", measured), *rows)), Notes("", (hint,))


def models_document(name: str | None = None, own: Catalog | None = None) -> Document:
    """All models, or the one of that name."""
    known = known_of(own)
    if name is None:
        mine = own_names(own, "models")
        note = f"KV cache is in KiB per token, the context trained for in tokens. {own_note(own)}".rstrip()
        machines: dict[str, dict[str, None]] = {}
        for of_model, machine, _ in curve_groups(own):
            machines.setdefault(of_model, {})[machine] = None
        measured = "; ".join(f"{of_model} on {', '.join(on)}" for of_model, on in machines.items())
        shown = listing(
            "",
            tuple(known.models.values()),
            (Column("model"), lambda model: marked(model.name, model.name in mine)),
            (Column("parameters, 10^9", True), lambda model: significant(model.parameters / 1e9)),
            (Column("weights, GiB", True), lambda model: f"{model.weight_bytes / 2**30:,.1f}"),
            (Column("layers", True), lambda model: whole(model.layers)),
            (Column("KV heads", True), lambda model: whole(model.kv_heads)),
            (Column("KV cache", True), lambda model: whole(model.kv_bytes_per_token / 2**10)),
            (Column("context", True), lambda model: whole(model.trained_context_tokens)),
        )
        return _overview("models", "models", shown, note, *_curves(known, measured, "all, on {}", "models"))
    model = known.model(name)
    facts = (
        ("name", model.name),
        ("parameters", f"{model.parameters / 1e9:,.4g} x 10^9, {DTYPE_BYTES[model.dtype]:g} bytes each"),
        ("weights", format_bytes(model.weight_bytes)),
        ("layers", whole(model.layers)),
        ("hidden size", whole(model.hidden_size)),
        *shape_facts(model),
        ("trained context", f"{model.trained_context_tokens:,} tokens"),
    )
    where = coverage_blocks("Where it runs", (model,), tuple(known.machines.values()), own)
    return Document(model.title, "", (Facts("", facts), *where, *_notes(model.note, model.sources)))


def models_data(name: str | None = None, own: Catalog | None = None) -> object:
    """All models, or the one of that name, as plain values."""
    known = known_of(own)
    if name is None:
        return [models_data(each, own) for each in known.models]
    model = known.model(name)
    return asdict(model) | {
        "own": model.name in own_names(own, "models"),
        "weight_bytes": model.weight_bytes,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "machines": all_coverage((model,), known.machines.values(), own),
    }


def shape_facts(model: ModelArchitecture) -> tuple[tuple[str, str], ...]:
    """Shape of a model's layers, and the KV cache of a token."""
    return (
        ("heads", f"{model.heads} of dimension {model.head_dim}, {model.kv_heads} for keys and values"),
        ("MLP", f"{model.intermediate_size:,} {'gated' if model.gated_mlp else 'plain'}"),
        ("vocabulary", f"{model.vocab_size:,}{', embedding and head tied' if model.tied_embeddings else ''}"),
        ("positions", f"{model.positions}, {model.norm} norm"),
        ("KV cache", f"{model.kv_bytes_per_token:,.0f} bytes per token"),
    )


def workloads_document(name: str | None = None) -> Document:
    """All shipped workloads, or one: of a shipped name, a workload file or a trace file."""
    if name is None:
        shown = listing(
            "",
            [catalog.workload(each) for each in catalog.workloads()],
            (Column("workload"), lambda workload: workload.name),
            (Column("requests/s", True), lambda workload: significant(workload.rate_rps)),
            (Column("CV", True), lambda workload: significant(workload.cv)),
            *(
                (Column(f"{side} P{q}" if q == 50 else f"P{q}", True), partial(_quantile, side=side, q=q))
                for side in _SIDES
                for q in _QUANTILES
            ),
        )
        return _overview("workloads", "workloads", shown, "Lengths are in tokens.")
    workload = catalog.workload(name)
    return Document(workload.title, "", (*workload_blocks(workload), *_notes(workload.note, workload.sources)))


def workload_blocks(workload: Workload) -> tuple[Block, ...]:
    """The rate to plan for, the lengths, and the arrivals of the trace."""
    facts = [
        ("name", workload.name),
        ("rate to plan for", format_rate(workload.rate_rps)),
        ("CV to plan for", f"{workload.cv:.3g} (of the gaps between arrivals; 1 is Poisson)"),
        ("classes", f"{workload.classes:,} of prompt and output lengths"),
    ]
    if workload.context_share_reused is not None:
        facts.append(("prefix reuse", f"{format_share(workload.context_share_reused)} of the prompt tokens"))
    headers = ("mean", *(f"P{q}" for q in _QUANTILES), "largest")
    columns = (Column("tokens"), *(Column(header, True) for header in headers))
    blocks = (Facts("", tuple(facts)), Table("Lengths", columns, tuple(_length_row(workload, side) for side in _SIDES)))
    arrivals = workload.arrivals
    if arrivals is None or not arrivals.requests:
        return blocks
    measured = [("requests", format_count(arrivals.requests)), ("duration", format_seconds(arrivals.duration_s))]
    if arrivals.mean_rate_rps is not None:
        measured.append(("mean rate", format_rate(arrivals.mean_rate_rps)))
    if arrivals.rate_by_minute_rps:
        measured.append(("busiest minute", format_rate(max(arrivals.rate_by_minute_rps))))
    if arrivals.cv is not None:
        measured.append(("CV of the gaps", f"{arrivals.cv:.3g}"))
    for window_s, index in arrivals.index_of_dispersion.items():
        measured.append((f"dispersion in {window_s} s", f"{index:.3g} (variance over mean of arrivals; 1 is Poisson)"))
    return (*blocks, Facts("Arrivals in its trace", tuple(measured)))


def workloads_data(name: str | None = None) -> object:
    """All shipped workloads, or one, as plain values; its lengths as statistics, not class by class."""
    if name is None:
        return [workloads_data(each) for each in catalog.workloads()]
    return workload_data(catalog.workload(name))


def workload_data(workload: Workload) -> dict[str, object]:
    """A workload as plain values."""
    return {
        "name": workload.name,
        "title": workload.title,
        "rate_rps": workload.rate_rps,
        "cv": workload.cv,
        "classes": workload.classes,
        "prompt_tokens": _length_data(workload, "prompt"),
        "output_tokens": _length_data(workload, "output"),
        "context_share_reused": workload.context_share_reused,
        "arrivals": None if workload.arrivals is None else asdict(workload.arrivals),
        "sources": workload.sources,
        "note": workload.note,
    }


def _quantile(workload: Workload, side: Side, q: int) -> str:
    return whole(workload.quantile(side, q / 100))


def _length_data(workload: Workload, side: Side) -> dict[str, float]:
    mean = workload.mean_prompt_tokens if side == "prompt" else workload.mean_output_tokens
    quantiles = {f"p{q}": workload.quantile(side, q / 100) for q in _QUANTILES}
    return {"mean": mean, **quantiles, "largest": workload.quantile(side, 1.0)}


def _length_row(workload: Workload, side: Side) -> tuple[str, ...]:
    mean, *others = _length_data(workload, side).values()
    return (side, f"{mean:,.1f}", *map(whole, others))


def _overview(what: str, command: str, shown: Table, note: str, *more: Block) -> Document:
    subtitle = f"{note} provision {command} NAME shows one with its sources."
    return Document(f"{len(shown.rows)} {what}", subtitle, (shown, *more))


def _notes(note: str, sources: tuple[str, ...]) -> tuple[Block, ...]:
    return (*notes("Note", (note,) if note else ()), *notes("Sources", sources))
