"""The listings of machines, models, curves and workloads."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from provisioner.perf.evidence import degrees_of, kernels_evidence
from provisioner.perf.operators import gpu_limits
from provisioner.report.curves import curves_data, curves_document, span
from provisioner.report.document import Document, Facts, Table
from provisioner.report.serialiser import json_text
from provisioner.report.specs import (
    machines_data,
    machines_document,
    models_data,
    models_document,
    workloads_data,
    workloads_document,
)
from provisioner.report.terminal import MAX_WIDTH, render
from provisioner.specs import catalog
from provisioner.specs.shipped import data_folder


def only_table(document: Document) -> Table:
    (table,) = (block for block in document.blocks if isinstance(block, Table) and not block.title)
    return table


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (machines_document, catalog.SHIPPED.whole_machines),
        (models_document, catalog.SHIPPED.models),
        (workloads_document, catalog.workloads()),
    ],
)
def test_listings_fit_the_terminal_with_a_row_each(make: Callable[[], Document], names: Iterable[str]) -> None:
    document = make()
    table = only_table(document)
    assert [row[0] for row in table.rows] == list(names)
    lines = render(document).splitlines()
    assert max(map(len, lines)) <= MAX_WIDTH
    # one line a row: nothing is broken to fit
    start = next(k for k, line in enumerate(lines) if line.lstrip().startswith("─"))
    assert [line.split()[0] for line in lines[start + 1 :][: len(table.rows)]] == [row[0] for row in table.rows]


def test_a_price_that_a_list_has_not_is_blank() -> None:
    table = only_table(machines_document())
    names = [column.header for column in table.columns]
    assert names[-3:] == ["2026", "2026-reserved", "paper"]
    rows = {row[0]: row[-3:] for row in table.rows}
    assert rows["dgx-h100"] == ("31.92", "21.76", "38.08")
    assert rows["gb200"] == ("42.00", "", "")
    assert rows["rtx2080ti-x8"] == ("", "", "")
    assert machines_data("rtx2080ti-x8")["prices"] == {}
    assert "Prices" not in render(machines_document("rtx2080ti-x8"))


def test_every_machine_model_and_workload_can_be_shown() -> None:
    for name in catalog.SHIPPED.machines:
        text = render(machines_document(name))
        assert catalog.machine(name).title in text and "Sources" in text
    for name in catalog.SHIPPED.models:
        text = render(models_document(name))
        assert catalog.model(name).title in text and "Sources" in text
    for name in catalog.workloads():
        text = render(workloads_document(name))
        assert "Lengths" in text and "Sources" in text
        assert ("Arrivals in its trace" in text) == (catalog.workload(name).arrivals is not None)


def test_a_workload_without_a_trace_has_no_arrivals() -> None:
    assert workloads_data("rag")["arrivals"] is None
    assert "prefix reuse" in render(workloads_document("agents"))


def tables(document: Document) -> dict[str, Table]:
    return {block.title: block for block in document.blocks if isinstance(block, Table)}


def test_listings_say_what_curves_there_are() -> None:
    for document in (machines_document(), models_document()):
        (facts,) = (block for block in document.blocks if isinstance(block, Facts))
        told = dict(facts.rows)
        assert list(told) == ["measured", "derived", "estimated"]
        assert "llama2-70b" in told["measured"] and "dgx-a100" in told["measured"]
        for machine in catalog.SHIPPED.whole_machines.values():
            kind = kernels_evidence("bf16", machine)
            assert machine.name in re.split("[ ,]+", told[kind]), (machine.name, kind)
    told = dict(next(block for block in machines_document("a10g-x4").blocks if isinstance(block, Facts)).rows)
    assert told["measured curves"] == "none"
    assert told["other curves"].startswith("estimated from kernels of a40-48gb: in bf16 prompt 4 to 12 %")


@pytest.mark.parametrize("name", ["llama2-70b", "llama-3.1-405b", "qwen3-8b"])
def test_coverage_of_a_model_names_every_machine_degree_and_type(name: str) -> None:
    model = catalog.model(name)
    table = tables(models_document(name))["Where it runs"]
    assert [column.header for column in table.columns[:7]] == [
        "machine",
        "type",
        "curves",
        "TP 1",
        "TP 2",
        "TP 4",
        "TP 8",
    ]
    shown = {
        (row[0], row[1], degree, row[2])
        for row in table.rows
        for degree, cell in zip((1, 2, 4, 8), row[3:7], strict=True)
        if cell
    }
    assert shown == {
        (machine.name, dtype, degree, kind)
        for machine in catalog.SHIPPED.whole_machines.values()
        for dtype in ("bf16", "fp8")
        for degree, kind in degrees_of(model.in_dtype("fp8" if dtype == "fp8" else "bf16"), machine).items()
    }
    assert table.rows == tables(curves_document(name))["Coverage"].rows
    assert all(row[7] and row[8] for row in table.rows)  # none without an error
    rows = {row[:3]: row for row in table.rows}
    if name == "llama2-70b":  # thousands of the tokens in docs/reference/hardware.md
        assert rows["dgx-h100", "bf16", "measured"][3:7] == ("", "29", "483", "1,387")
        assert rows["dgx-h100", "bf16", "derived"][3:7] == ("no room", "", "", "")
    data = json.loads(json_text(models_data(name)))["machines"]
    assert {(row["machine"], row["dtype"], row["tensor_parallel"], row["evidence"]) for row in data} == shown
    assert json.loads(json_text(curves_data(name)))["coverage"] == data


@pytest.mark.parametrize("name", list(catalog.SHIPPED.machines))
def test_curves_of_every_machine_fit_the_terminal_with_the_tables_of_its_kernels(name: str) -> None:
    machine = catalog.machine(name)
    document = curves_document(name)
    assert max(map(len, render(document).splitlines())) <= MAX_WIDTH
    found = tables(document)
    assert {row[0] for row in found["Coverage"].rows} == set(catalog.SHIPPED.models)
    evidence = kernels_evidence("bf16", machine)
    kernels = machine.kernels if evidence == "derived" else machine.kernels_like
    if kernels:
        rows = found[f"Kernels of {kernels}"].rows
        assert rows[0][0] == "gemm bf16" and all(row[1] and row[2] and row[3] for row in rows)
    assert any(title.startswith("GPUs with kernels, estimated") for title in found) == (evidence == "estimated")
    (data,) = json.loads(json_text(curves_data(name)))["machines"]
    assert data["evidence"] == evidence
    assert [each["gpu"] for each in data["kernels"]] == ([kernels] if kernels else list(gpu_limits()))


def test_kernels_show_what_their_provenance_states() -> None:
    rows = {row[0]: row[1:] for row in tables(curves_document("dgx-a100"))["Kernels of a100-sxm-80gb"].rows}
    assert rows["decode_attention bf16"] == ("vllm 0.14.0", "3,211", "3,091", "120", "1.6", "17.8")
    text = " ".join(render(curves_document("dgx-a100")).split())
    refused = "120 rows: slower than a larger problem (such as context_tokens 131072"
    assert f"decode_attention bf16 of vllm 0.14.0: {refused}" in text


def test_a_span_is_one_number_where_both_ends_are_the_same_in_per_cent() -> None:
    assert span([(0.05, 0.05), (0.051, 0.054)]) == "5.2"
    assert span([(0.049, 0.049), (0.151, 0.3)]) == "5 to 30"


@pytest.fixture
def own(tmp_path: Path) -> catalog.Catalog:
    """A machine and a model of one's own, and a measured curve of one on a shipped machine."""
    folder, shipped = tmp_path / "own", data_folder("hardware_specs")
    for part, name, old in (("machines", "mine", "l40s-x8"), ("models", "ours", "qwen3-8b")):
        (folder / part).mkdir(parents=True)
        text = (shipped / part / f"{old}.yaml").read_text(encoding="utf-8").replace(f"name: {old}", f"name: {name}", 1)
        text = re.sub("letter: .*", "letter: Mine", text)
        (folder / part / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "curves").mkdir()
    curve = (shipped / "curves" / "dgx-h100__llama2-70b.csv").read_text(encoding="utf-8")
    (folder / "curves" / "dgx-h100__ours.csv").write_text(curve.replace("llama2-70b,", "ours,"), encoding="utf-8")
    return catalog.with_own(str(folder))


def test_ones_own_are_listed_beside_the_shipped_and_marked(own: catalog.Catalog) -> None:
    for document, name in ((machines_document(None, own), "mine *"), (models_document(None, own), "ours *")):
        assert [row[0] for row in only_table(document).rows if row[0].endswith("*")] == [name]
        text = render(document)
        assert f"*: of one's own, from {own.own}" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= max(MAX_WIDTH, len(str(own.own)))
    assert [each["name"] for each in machines_data(None, own) if each["own"]] == ["mine"]
    assert [each["name"] for each in models_data(None, own) if each["own"]] == ["ours"]

    measured = tables(curves_document(None, own))["Measured"].rows
    assert [row[:3] for row in measured if row[1].endswith("*")] == [("ours", "dgx-h100 *", tp) for tp in "248"]
    assert all(row[6] == "" and row[7] for row in measured if row[1].endswith("*"))  # runs are not known, points are
    rows = tables(curves_document("ours", own))["Coverage"].rows
    assert ("dgx-h100", "bf16", "measured *") in {row[:3] for row in rows}
    assert ("mine *", "bf16", "derived") in {row[:3] for row in rows}
    assert ("ours *", "fp8", "derived") in {row[:3] for row in tables(curves_document("mine", own))["Coverage"].rows}
    assert "ours" not in render(curves_document()) and "mine" not in render(machines_document())
    assert render(machines_document("mine", own)) and render(models_document("ours", own))
