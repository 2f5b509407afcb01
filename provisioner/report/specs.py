"""Machines, models and workloads as reports: all in a table, or one with its sources."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Final, Literal

from provisioner.perf.curves import curve_groups
from provisioner.perf.evidence import measured_on
from provisioner.perf.summary import machine_curves
from provisioner.report import curves
from provisioner.report.document import Block, Column, Document, Notes, Table, facts, grouped, listing, notes, table
from provisioner.report.numbers import dollars, significant, whole
from provisioner.report.serialiser import in_own_currency
from provisioner.specs import catalog
from provisioner.specs.catalog import SHIPPED, Catalog
from provisioner.specs.engine import Engine
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.money import USD, in_currency
from provisioner.specs.prices import PriceList
from provisioner.specs.traces import describe_arrivals
from provisioner.specs.units import format_bytes, format_power, format_rate, format_share
from provisioner.specs.workload import Workload

Side = Literal["prompt", "output"]

_SIDES: Final[tuple[Side, ...]] = ("prompt", "output")
_QUANTILES: Final = (50, 90, 99)
_LINKS: Final = {"nvlink": "NVLink", "xgmi": "Infinity Fabric", "pcie": "PCIe"}


def machines_document(name: str | None = None, known: Catalog = SHIPPED) -> Document:
    """All machine types, or the one of that name."""
    groups = curve_groups(known)
    lists = {listed: known.price_list(listed) for listed in known.price_lists}
    units = " or ".join(dict.fromkeys(in_currency("$/h", prices.currency) for prices in lists.values()))
    if name is None:
        mark = curves.marking(known, "machines")
        shown = listing(
            "",
            tuple(known.whole_machines.values()),
            (Column("machine"), lambda machine: mark(machine.name)),
            (Column("GPUs", True), lambda machine: whole(machine.gpus)),
            (Column("GPU"), lambda machine: machine.gpu),
            (Column("HBM, GiB", True), lambda machine: whole(machine.memory_bytes / 2**30)),
            (Column("HBM, GB/s", True), lambda machine: whole(machine.memory_bandwidth_gb_per_s)),
            (Column("W", True), lambda machine: whole(machine.max_power_w)),
            *((Column(listed, True), partial(_price, prices=prices)) for listed, prices in lists.items()),
        )
        models = ", ".join(dict.fromkeys(model for model, _, _ in groups))
        measured = f"of {models} on {', '.join(sorted({at for _, at, _ in groups}))}"
        note = f"Prices are in {units}, by list; blank where a list has none. {curves.own_note(known)}"
        curves_of = _curves(known, measured, "{}", "curves")
        return _overview("machine types", "machines", shown, note, *_instances(known, lists), *curves_of)
    machine = known.machine(name)
    degrees = grouped((model, str(degree)) for model, degree in _measured(machine, known))
    fp8 = f", FP8 {machine.peak_fp8_tflops:,.1f}" if machine.peak_fp8_tflops else ", no FP8,"
    cap = "" if machine.power_cap == 1 else f", capped to {format_share(machine.power_cap)} of it"
    about = facts(
        "",
        ("name", machine.name),
        ("letter", f"{machine.letter}, as in Splitwise-{machine.letter}{machine.letter}"),
        ("GPUs", f"{machine.gpus} x {machine.gpu}"),
        ("memory", f"{format_bytes(machine.memory_bytes)} ({machine.memory_gib_per_gpu:g} GiB per GPU)"),
        ("memory bandwidth", f"{machine.memory_bandwidth_gb_per_s:,.0f} GB/s per GPU"),
        ("peak", f"16 bits {machine.peak_fp16_tflops:,.1f}{fp8} TFLOP/s per GPU, dense"),
        ("GPU link", f"{_LINKS[machine.gpu_link]}, {machine.gpu_link_gb_per_s:,.0f} GB/s per GPU"),
        ("network", f"{machine.network}, {machine.network_gbps:,g} Gb/s of the whole machine"),
        ("host", _host(machine)),
        ("GPU power", f"{format_power(machine.gpu_tdp_w)}{cap}"),
        ("machine power", f"{machine.max_power_w:,.0f} W"),
        ("released", str(machine.released)),
        ("measured curves", "; ".join(f"{model} at TP {', '.join(of)}" for model, of in degrees.items()) or "none"),
        ("other curves", curves.other_curves(machine)),
    )
    prices = [
        (listed, _price(machine, prices), whole(price.provisioned_power_w), price.source)
        for listed, prices in lists.items()
        if (price := prices.machines.get(machine.name)) is not None
    ]
    columns = (Column("list"), Column(units, True), Column("W", True), Column("source", words=True))
    priced = [table("Prices", columns, prices)] if prices else []
    end = (*notes("Note", (machine.note,)), *notes("Sources", machine.sources))
    return Document(machine.title, "", (about, *priced, *end))


def _instances(known: Catalog, lists: Mapping[str, PriceList]) -> tuple[Block, ...]:
    """Instances with part of a server's GPUs, and how a plan considers them."""
    mark = curves.marking(known, "machines")
    instances = [machine for machine in known.machines.values() if machine.cloud]
    priced = {listed: of for listed, of in lists.items() if any(each.name in of.machines for each in instances)}
    shown = listing(
        "Instances as clouds sell them",
        instances,
        (Column("instance"), lambda machine: mark(machine.name)),
        (Column("GPUs", True), lambda machine: whole(machine.gpus)),
        (Column("GPU"), lambda machine: machine.gpu),
        (Column("vCPUs", True), lambda machine: whole(machine.vcpus) if machine.vcpus else ""),
        (
            Column("memory, GiB", True),
            lambda machine: whole(machine.host_memory_gib) if machine.host_memory_gib else "",
        ),
        (Column("Gb/s", True), lambda machine: f"{machine.network_gbps:,g}"),
        *((Column(listed, True), partial(_price, prices=prices)) for listed, prices in priced.items()),
    )
    note = (
        "provision plan --instances considers them beside whole machines. Their replicas have the curves of their GPU.",
    )
    return (shown, *notes("", note)) if instances else ()


def machines_data(name: str | None = None, known: Catalog = SHIPPED) -> object:
    """All machine types, or the one of that name, as plain values."""
    if name is None:
        return [machines_data(each, known) for each in known.machines]
    machine = known.machine(name)
    data = asdict(machine) | {
        "own": machine.name in curves.own_names(known, "machines"),
        "memory_bytes": machine.memory_bytes,
        "network_bytes_per_s": machine.network_bytes_per_s,
        "prices": {
            listed: asdict(prices.machines[machine.name]) | {"date": prices.date, "currency": prices.currency}
            for listed in known.price_lists
            if machine.name in (prices := known.price_list(listed)).machines
        },
        "curves": [{"model": model, "tensor_parallel": degree} for model, degree in _measured(machine, known)],
        "other_curves": asdict(machine_curves(machine)),
    }
    return in_own_currency(data)


def _measured(machine: Machine, known: Catalog) -> list[tuple[str, int]]:
    """Models with their degrees of which a machine has measured curves: its own, or those of its GPUs in another."""
    found = ((model, measured_on(model, machine, known)) for model in known.models.values())
    return [
        (model.name, degree)
        for model, names in found
        for degree, name in sorted(names.items())
        if known.machine(name).power_cap == machine.power_cap
    ]


def _host(machine: Machine) -> str:
    """The processors and memory of an instance's host; empty where unknown."""
    parts = [f"{machine.vcpus:,} vCPUs"] if machine.vcpus else []
    parts += [f"{machine.host_memory_gib:,g} GiB of memory"] if machine.host_memory_gib else []
    return ", ".join(parts)


def _price(machine: Machine, prices: PriceList) -> str:
    price = prices.machines.get(machine.name)
    code = "" if prices.currency == USD else f" {prices.currency}"
    return "" if price is None else f"{dollars(price.cost_usd_per_h, sign=False)}{code}"


def _curves(known: Catalog, measured: str, others: str, command: str) -> tuple[Block, ...]:
    """Latency curves that are measured, and by their evidence the machines on which the ``others`` are."""
    kinds = curves.by_evidence(known.whole_machines.values())
    rows = [(kind, others.format(", ".join(names))) for kind, names in kinds.items()]
    hint = f"provision curves shows the errors, provision {command} NAME where a model fits."
    return facts("Latency curves", ("measured", measured), *rows), Notes("", (hint,))


def models_document(name: str | None = None, known: Catalog = SHIPPED, engine: Engine | None = None) -> Document:
    """All models, or the one of that name."""
    if name is None:
        mark = curves.marking(known, "models")
        shown = listing(
            "",
            tuple(known.models.values()),
            (Column("model"), lambda model: mark(model.name)),
            (Column("parameters, 10^9", True), lambda model: significant(model.parameters / 1e9)),
            (Column("weights, GiB", True), lambda model: f"{model.weight_bytes / 2**30:,.1f}"),
            (Column("layers", True), lambda model: whole(model.layers)),
            (Column("KV heads", True), lambda model: whole(model.kv_heads)),
            (Column("KV cache", True), lambda model: whole(model.kv_bytes_per_token / 2**10)),
            (Column("context", True), lambda model: whole(model.trained_context_tokens)),
        )
        machines = grouped((model, machine) for model, machine, _ in curve_groups(known))
        measured = "; ".join(f"{model} on {', '.join(dict.fromkeys(on))}" for model, on in machines.items())
        note = f"KV cache is in KiB per token, the context trained for in tokens. {curves.own_note(known)}"
        return _overview("models", "models", shown, note, *_curves(known, measured, "all, on {}", "models"))
    model = known.model(name)
    about = facts(
        "",
        ("name", model.name),
        ("names on the hub", ", ".join(model.aliases)),
        ("parameters", f"{model.parameters / 1e9:,.4g} x 10^9, {model.layer_bytes_per_weight:.4g} bytes each"),
        ("weights", format_bytes(model.weight_bytes)),
        ("layers", whole(model.layers)),
        ("hidden size", whole(model.hidden_size)),
        *shape_facts(model),
        ("trained context", f"{model.trained_context_tokens:,} tokens"),
    )
    where = curves.coverage_blocks("Where it runs", (model,), tuple(known.whole_machines.values()), known, engine)
    end = (*notes("Note", (model.note,)), *notes("Sources", model.sources))
    return Document(model.title, "", (about, *where, *end))


def models_data(name: str | None = None, known: Catalog = SHIPPED, engine: Engine | None = None) -> object:
    """All models, or the one of that name, as plain values."""
    if name is None:
        return [models_data(each, known, engine) for each in known.models]
    model = known.model(name)
    return asdict(model) | {
        "own": model.name in curves.own_names(known, "models"),
        "weight_bytes": model.weight_bytes,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "machines": curves.all_coverage((model,), tuple(known.whole_machines.values()), known, engine),
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


def workloads_document(name: str | None = None, rules: object = None) -> Document:
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
    workload = catalog.workload(name, rules)
    reuse = workload.context_share_reused
    headers = ("mean", *(f"P{q}" for q in _QUANTILES), "largest")
    about = facts(
        "",
        ("name", workload.name),
        ("rate to plan for", format_rate(workload.rate_rps)),
        ("CV to plan for", f"{workload.cv:.3g} (of the gaps between arrivals; 1 is Poisson)"),
        ("classes", f"{workload.classes:,} of prompt and output lengths"),
        ("prefix reuse", "" if reuse is None else f"{format_share(reuse)} of the prompt tokens"),
    )
    columns = (Column("tokens"), *(Column(header, True) for header in headers))
    rows = []
    for side in _SIDES:
        mean, *others = _length_data(workload, side).values()
        rows.append((side, f"{mean:,.1f}", *map(whole, others)))
    lengths = table("Lengths", columns, rows)
    blocks: list[Block] = [about, lengths]
    if (arrivals := workload.arrivals) and arrivals.requests:
        counted = ("requests", whole(arrivals.requests))
        blocks.append(facts("Arrivals in its trace", counted, *describe_arrivals(arrivals).items()))
    end = (*notes("Note", (workload.note,)), *notes("Sources", workload.sources))
    return Document(workload.title, "", (*blocks, *end))


def workloads_data(name: str | None = None, rules: object = None) -> object:
    """All shipped workloads, or one, as plain values; its lengths as statistics, not class by class."""
    if name is None:
        return [workloads_data(each) for each in catalog.workloads()]
    return workload_data(catalog.workload(name, rules))


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


def _overview(noun: str, command: str, shown: Table, note: str, *more: Block) -> Document:
    subtitle = f"{note.rstrip()} provision {command} NAME shows one with its sources."
    return Document(f"{len(shown.rows)} {noun}", subtitle, (shown, *more))
