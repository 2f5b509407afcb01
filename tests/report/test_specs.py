"""The listings of machines, models and workloads."""

from collections.abc import Callable, Iterable

import pytest

from provisioner.report.document import Document, Table
from provisioner.report.specs import (
    machines_data,
    machines_document,
    models_document,
    workloads_data,
    workloads_document,
)
from provisioner.report.terminal import MAX_WIDTH, render
from provisioner.specs import catalog


def only_table(document: Document) -> Table:
    (table,) = (block for block in document.blocks if isinstance(block, Table))
    return table


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (machines_document, catalog.machines),
        (models_document, catalog.models),
        (workloads_document, catalog.workloads),
    ],
)
def test_listings_fit_the_terminal_with_a_row_each(
    make: Callable[[], Document], names: Callable[[], Iterable[str]]
) -> None:
    document = make()
    table = only_table(document)
    assert [row[0] for row in table.rows] == list(names())
    lines = render(document).splitlines()
    assert max(map(len, lines)) <= MAX_WIDTH
    # one line a row: nothing is broken to fit
    start = next(k for k, line in enumerate(lines) if line.lstrip().startswith("─"))
    assert [line.split()[0] for line in lines[start + 1 :]] == [row[0] for row in table.rows]


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
    for name in catalog.machines():
        text = render(machines_document(name))
        assert catalog.machine(name).title in text and "Sources" in text
    for name in catalog.models():
        text = render(models_document(name))
        assert catalog.model(name).title in text and "Sources" in text
    for name in catalog.workloads():
        text = render(workloads_document(name))
        assert "Lengths" in text and "Sources" in text
        assert ("Arrivals in its trace" in text) == (catalog.workload(name).arrivals is not None)


def test_a_workload_without_a_trace_has_no_arrivals() -> None:
    assert workloads_data("rag")["arrivals"] is None
    assert "prefix reuse" in render(workloads_document("agents"))
