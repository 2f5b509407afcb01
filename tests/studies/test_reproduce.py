"""The reproduction: its parts against the curves themselves, and how it is run, interrupted and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from provisioner import api
from provisioner.errors import InputError, Interrupted, UnknownNameError
from provisioner.report.chart import BarChart
from provisioner.report.terminal import render
from provisioner.report.views.reproduction import charts, document
from provisioner.results.reproduction import Reproduction
from provisioner.specs import catalog
from provisioner.studies.splitwise import experiments as study
from provisioner.studies.splitwise import paper
from provisioner.studies.splitwise.findings import findings


def cluster(sizes: list[int], throughput: float, cost: float = 100.0, power: float = 10.0) -> dict[str, Any]:
    return {
        "sizes": sizes,
        "reason": "",
        "throughput": throughput,
        "cost": cost,
        "power": power,
        "machines": float(sum(sizes)),
    }


DESIGNS = {
    "Baseline-A100": cluster([70], 50.0),
    "Baseline-H100": cluster([40], 60.0, 120.0, 20.0),
    "Splitwise-AA": cluster([45, 25], 107.5, 90.0, 25.0),
    "Splitwise-HH": cluster([25, 15], 100.0),
    "Splitwise-HA": {"sizes": [], "reason": "nothing passes"},
    "Splitwise-HHcap": cluster([25, 21], 130.0, 120.0, 15.0),
}


def fabricated() -> dict[str, dict[str, Any]]:
    held = {"sizes": [35, 5], "throughput": 90.0, "best_sizes": [25, 15], "best_throughput": 100.0, "loss": 0.1}
    return {
        "iso-power-coding": DESIGNS,
        "iso-power-conversation": DESIGNS,
        "iso-cost-conversation": DESIGNS,
        "iso-throughput-power": DESIGNS,
        "iso-throughput-cost": DESIGNS,
        "changed-workload": {"Splitwise-HH": held},
        "changed-model": {"Splitwise-HH": held},
        "batch": {
            "Baseline-A100": {"sizes": [70], "throughput": 80.0, "rps_per_usd_per_h": 0.8},
            "Splitwise-HH": {"sizes": [25, 15], "throughput": 60.0, "rps_per_usd_per_h": 0.6},
        },
        "fig-12": {"sizes": [27, 3], "cost_usd_per_h": 1.0},
    }


def shown(values: Mapping[str, Any], result: str) -> tuple[str, str, str]:
    found = [each for each in findings(values, values) if result in each.result]
    assert len(found) == 1, [each.result for each in found]
    return found[0].published, found[0].simulator, found[0].measured


def test_the_budgets_of_the_paper_are_those_of_its_prices() -> None:
    prices = catalog.price_list("paper")
    a100, h100 = prices.price("dgx-a100"), prices.price("dgx-h100")
    assert 40 * h100.provisioned_power_w / a100.provisioned_power_w == pytest.approx(70, abs=1.0)
    assert 40 * h100.cost_usd_per_h / a100.cost_usd_per_h == pytest.approx(86, abs=1.0)
    power = {"Splitwise-AA": (a100, a100), "Splitwise-HH": (h100, h100), "Splitwise-HA": (h100, a100)}
    for label, types in power.items():
        sizes = paper.ISO_POWER_CONVERSATION[label]
        used = sum(n * each.provisioned_power_w for n, each in zip(sizes, types, strict=True))
        assert used <= 1.01 * 40 * h100.provisioned_power_w


def test_numbers_of_one_machine_are_those_of_the_curves() -> None:
    found = api.reproduce(only=["machines", "transfer"])
    values = found.values["measured"]["machines"]
    assert values["tbt_64"] == pytest.approx(2.0, abs=0.1)  # the paper's own measurement: it doubles
    assert found.values["splitwise-sim"]["machines"]["tbt_64"] == pytest.approx(1.0, abs=0.02)
    assert values["ttft_h100_a100"] == pytest.approx(0.51, abs=0.05)
    assert values["tbt_h100_a100"] == pytest.approx(0.70, abs=0.05)
    # 1,500 tokens x 70 layers x 2 x 14,336 numbers x 2 bytes over eight ports of 400 Gb/s
    gap_s = values_s(found)
    serialized_s = 1500 * 70 * 2 * 14336 * 2 / (8 * 400e9 / 8)
    transfer = found.values["measured"]["transfer"]["dgx-h100"]
    assert transfer["of_second_token_serialized"] == pytest.approx(serialized_s / gap_s, rel=1e-6)
    assert transfer["visible_s"] < serialized_s
    assert {each.experiment for each in found.findings} == {
        "Table IV",
        "Machine behaviour",
        "Power cap",
        "KV-cache transfer",
    }


def values_s(found: Reproduction) -> float:
    """Time between tokens of one sequence, from what the transfer was divided by."""
    transfer = found.values["measured"]["transfer"]["dgx-h100"]
    return float(transfer["visible_s"] / transfer["of_second_token"])


def test_ratios_are_those_of_the_clusters() -> None:
    values = fabricated()
    assert shown(values, "throughput of Splitwise-AA over Baseline-A100") == ("2.15x", "2.15x", "2.15x")
    assert shown(values, "power of Splitwise-AA over Baseline-H100") == ("1.25x", "1.25x", "1.25x")
    assert shown(values, "power of Splitwise-HHcap over Baseline-H100") == ("0.75x", "0.75x", "0.75x")
    assert shown(values, "the design with the least cost")[1] == "Splitwise-AA"
    assert shown(values, "throughput of Splitwise-HA over Baseline-A100")[1] == "none"
    assert shown(values, "throughput of Splitwise-HH over Baseline-H100, chunked")[1] == ""
    assert shown(values, "Conversation on the coding cluster, Splitwise-HH") == ("none", "10.0 %", "10.0 %")
    saturated = "4.80 (60 requests/s)"
    assert shown(values, "at saturation, Splitwise-HH") == ("0.75", saturated, saturated)
    no_plan = [each for each in findings(values, values) if each.result.startswith("Splitwise-HA: machines")]
    assert no_plan and all(each.simulator == "no plan" for each in no_plan)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Experiments that give fabricated values at once; what was run, in order."""
    ran: list[str] = []
    values = fabricated()

    def giving(name: str) -> study.Experiment:
        def run(world: study.World, known: Mapping[str, Any], progress: Callable[[str], None]) -> Mapping[str, Any]:
            assert all(needed in known for needed in study.NEEDS.get(name, ()))
            ran.append(f"{world.assumptions} {name}")
            return values[name]

        return run

    monkeypatch.setattr(
        study,
        "EXPERIMENTS",
        {name: giving(name) for name in values if name not in study.NEEDS}
        | {name: giving(name) for name in values if name in study.NEEDS},
    )
    return ran


def test_what_an_experiment_needs_is_run_too(quick: list[str]) -> None:
    found = api.reproduce(only=["changed-workload"])
    wanted = {"iso-power-coding", "iso-power-conversation", "changed-workload"}
    assert {name.split()[1] for name in quick} == wanted and len(quick) == 6
    assert "--only changed-workload" in found.command


def test_the_report_has_every_experiment(quick: list[str]) -> None:
    found = api.reproduce(sets=3, duration_s=60.0)
    text = render(document(found), width=100, styled=False)
    for title in ("Fig. 12", "Iso-power, coding", "Iso-cost, conversation", "Batch job", "Changed model"):
        assert title in text
    assert "3 request sets of 60 s" in text
    power, cost = charts(found).values()
    assert isinstance(power, BarChart) and isinstance(cost, BarChart) and power.bars[0].values[0] == 1.0
    assert set(found.to_frame().columns) == {"experiment", "result", "published", "simulator", "measured", "remark"}
    json.dumps(found.to_dict())


def test_an_interrupted_one_goes_on_where_it_stopped(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r.md"
    whole = api.reproduce(out=[str(out)])
    text = out.read_text(encoding="utf-8")
    out.unlink()
    total = len(quick)
    quick.clear()
    real = study.EXPERIMENTS["batch"]

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(study.EXPERIMENTS, "batch", interrupted)  # type: ignore[arg-type]
    with pytest.raises(Interrupted, match=r"of 18 experiments done; kept in .*r\.md\.journal, resume goes on"):
        api.reproduce(out=[str(out)])
    before = len(quick)
    assert 0 < before < total and not out.exists()
    with pytest.raises(InputError, match="go on with resume"):
        api.reproduce(out=[str(out)])
    monkeypatch.setitem(study.EXPERIMENTS, "batch", real)  # type: ignore[arg-type]
    again = api.reproduce(out=[str(out)], resume=True)
    assert len(quick) == total and len(set(quick)) == total
    assert again.findings == whole.findings and out.read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["r.md"]


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown paper 'vidur'"):
        api.reproduce("vidur")
    with pytest.raises(UnknownNameError, match="fig-12"):
        api.reproduce(only=["fig12"])
    with pytest.raises(InputError, match="resume: goes on"):
        api.reproduce(only=["curves"], resume=True)
    with pytest.raises(InputError, match="must end in"):
        api.reproduce(only=["curves"], out=["r.xls"])


def test_the_page_is_what_the_command_writes() -> None:
    """The quick parts of docs/explanation/reproduction.md, computed again; the rest takes most of an hour."""
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "reproduction.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    for line in str(api.reproduce(only=["machines", "curves", "transfer"])).splitlines():
        if line.startswith("|"):
            assert line in rows
    for title in ("Fig. 12", "Iso-power, coding", "Iso-power, conversation", "Iso-cost, conversation", "Batch job"):
        assert f"## {title}" in page
    assert page.count("Sources") == 1
