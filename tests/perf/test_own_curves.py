"""A user's own curves: files in a folder given with ``--specs``, before the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import provisioner
from provisioner.errors import InputError
from provisioner.perf.assumptions import replica
from provisioner.perf.curves import curve_groups, load_curve_set
from provisioner.perf.evidence import degrees_of
from provisioner.specs import catalog
from provisioner.specs.shipped import data_folder

SHIPPED = data_folder("hardware_specs") / "curves" / "dgx-h100__llama2-70b.csv"


def own(folder: Path, machine: str, model: str, text: str) -> catalog.Catalog:
    """A catalog with one curve file of the user's own."""
    (folder / "curves").mkdir(parents=True)
    (folder / "curves" / f"{machine}__{model}.csv").write_text(text)
    return catalog.with_own(str(folder))


def halved(text: str, tensor_parallel: int) -> str:
    """The rows of one degree, at half the times."""
    header, *rows = text.splitlines()
    fields = header.split(",")
    kept = []
    for row in rows:
        cells = dict(zip(fields, row.split(","), strict=True))
        if cells["tensor_parallel"] == str(tensor_parallel):
            cells |= {field: repr(float(cells[field]) / 2) for field in ("latency_s", "min_s", "max_s")}
            kept.append(",".join(cells[field] for field in fields))
    return "\n".join([header, *kept]) + "\n"


def test_curves_of_ones_own_come_before_the_shipped(tmp_path: Path) -> None:
    known = own(tmp_path / "own", "dgx-h100", "llama2-70b", halved(SHIPPED.read_text(), 8))
    mine, shipped = (replica("llama2-70b", "dgx-h100", 8, own=each) for each in (known, None))
    assert float(mine.prompt_s(1000)) == pytest.approx(float(shipped.prompt_s(1000)) / 2)
    assert mine.curve.sources == (f"dgx-h100: measured, {tmp_path / 'own' / 'curves' / 'dgx-h100__llama2-70b.csv'}",)
    # a degree that the file does not have is the shipped one's
    assert (
        replica("llama2-70b", "dgx-h100", 4, own=known).curve.sources
        == replica("llama2-70b", "dgx-h100", 4).curve.sources
    )
    assert curve_groups(known) == curve_groups()


def test_curves_of_ones_own_add_a_degree(tmp_path: Path) -> None:
    text = halved(SHIPPED.read_text(), 8).replace(",dgx-h100,8,", ",dgx-h100,7,")
    known = own(tmp_path / "own", "dgx-h100", "llama2-70b", text)
    assert set(curve_groups(known)) - set(curve_groups()) == {("llama2-70b", "dgx-h100", 7)}
    found = load_curve_set(catalog.model("llama2-70b"), catalog.machine("dgx-h100"), 7, own=known)
    assert found.tensor_parallel == 7 and found.provenance == ("measured",)


def test_noisy_points_are_simulated(tmp_path: Path) -> None:
    """A prompt curve whose line falls below 0 at a few tokens; a time below 0 would never end a step."""
    header = SHIPPED.read_text().splitlines()[0]
    points = (("prompt", 64, 1, 0, 1), ("prompt", 2048, 1, 0, 900), ("decode", 512, 1, 576, 30))
    rows = (
        f"llama2-70b,dgx-h100,8,{phase},{tokens},{batch},{context},{ms / 1e3},5,{ms / 1e3},{ms / 1e3},measured,,"
        for phase, tokens, batch, context, ms in (*points, ("decode", 512, 64, 64 * 576, 40))
    )
    own(tmp_path / "own", "dgx-h100", "llama2-70b", "\n".join([header, *rows, ""]))
    simulation = provisioner.simulate(
        model="llama2-70b",
        tensor_parallel=8,
        specs=str(tmp_path / "own"),
        pools="mixed:dgx-h100=2",
        workload="coding",
        rate_rps=1,
        duration_s=20,
    )
    assert min(least for result in simulation.latency for least in result.seconds.values) > 0


def test_the_published_simulator_has_its_own_curves_only(tmp_path: Path) -> None:
    known = own(tmp_path / "own", "dgx-h100", "llama2-70b", halved(SHIPPED.read_text(), 8))
    mine, shipped = (replica("llama2-70b", "dgx-h100", 8, "splitwise-sim", each) for each in (known, None))
    assert float(mine.prompt_s(1000)) == float(shipped.prompt_s(1000))


def test_a_damaged_file_of_ones_own_is_named_with_its_row(tmp_path: Path) -> None:
    text = SHIPPED.read_text().replace(",512,1,0,", ",512,1,none,", 1)
    known = own(tmp_path / "own", "dgx-h100", "llama2-70b", text)
    with pytest.raises(InputError, match=r"dgx-h100__llama2-70b\.csv: row \d+: context_tokens: must be a number"):
        curve_groups(known)


@pytest.mark.parametrize("kind", ["derived", "estimated"])
def test_a_file_of_ones_own_counts_as_the_worst_of_its_rows(tmp_path: Path, kind: str) -> None:
    """A profile of one GPU's share is measured but for its all-reduces, which makes the whole derived."""
    text = halved(SHIPPED.read_text(), 8)
    known = own(tmp_path / "own", "dgx-h100", "llama2-70b", text.replace(",measured,", f",{kind},", 3))
    model, machine = known.model("llama2-70b"), known.machine("dgx-h100")
    assert degrees_of(model, machine, known)[8] == kind
    assert {degrees_of(model, machine, known)[degree] for degree in (2, 4)} == {"measured"}
    mine, shipped = (replica("llama2-70b", "dgx-h100", 8, own=each) for each in (known, None))
    assert float(mine.prompt_s(1000)) == pytest.approx(float(shipped.prompt_s(1000)) / 2)
    assert mine.curve.sources[0].startswith(f"dgx-h100: {' and '.join(sorted((kind, 'measured')))}, ")


def test_a_capped_machine_has_the_curves_of_ones_own_slowed_down(tmp_path: Path) -> None:
    known = own(tmp_path / "own", "dgx-h100", "llama2-70b", halved(SHIPPED.read_text(), 8))
    free, capped = (replica("llama2-70b", name, 8, own=known) for name in ("dgx-h100", "dgx-h100@70"))
    assert float(capped.prompt_s(1000)) == pytest.approx(1.1 * float(free.prompt_s(1000)))
    assert str(tmp_path) in capped.curve.sources[0]
