import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from provisioner.report.terminal import MAX_WIDTH
from tests.cli.conftest import Run, instead

P99 = ("plan", "--fast", "--slo", "p99")
AT_8 = (*P99, "--tp", "8")
HH = (*AT_8, "--design", "splitwise-hh")


def answer(provision: Run, *arguments: str) -> dict[str, Any]:
    ended = provision(*arguments, "--json")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    values: dict[str, Any] = json.loads(ended.out)
    return values


def test_default_output(provision: Run) -> None:
    ended = provision("plan", "--fast", "--workload", "coding", "--slo", "p99")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert re.match(r"Splitwise-\w+:\d\+\d: \d+ dgx-\S+ \(prompt\) \+ \d+ dgx-\S+ \(token\)", lines[0])
    for part in ("cost ", "power ", "machines ", "Pools", "Predicted latency", "Other designs", "Warnings", "Sources"):
        assert part in ended.out
    assert "$" in ended.out and "per million tokens" in ended.out
    assert max(map(len, lines)) <= MAX_WIDTH
    assert "\x1b" not in ended.out
    assert ended.out.endswith("\n") and not ended.out.endswith("\n\n")


def test_json_has_what_was_promised(provision: Run) -> None:
    plan = answer(provision, *P99)
    promised = {"design", "pools", "cost_usd_per_h", "power_w", "machines", "rate_rps", "latency", "alternatives"}
    assert promised | {"sources", "warnings"} <= set(plan)
    assert plan["rate_rps"] == 70
    assert plan["machines"] == sum(pool["machines"] for pool in plan["pools"])
    for pool in plan["pools"]:
        assert {"role", "machine", "machines", "tensor_parallel", "utilization"} <= set(pool)
        assert 0 < pool["utilization"] < 1
    assert len(plan["latency"]) == 9
    for figure in plan["latency"]:
        assert {"metric", "percentile", "seconds", "slowdown", "limit", "slack", "binding"} <= set(figure)
        assert (figure["limit"] is None) == (figure["percentile"] != 99)
        assert figure["slack"] is None or figure["slack"] >= 0
    families = {name.partition(":")[0] for name in (plan["design"], *(each["design"] for each in plan["alternatives"]))}
    assert {
        "Splitwise-HH",
        "Splitwise-AA",
        "Splitwise-HA",
        "Splitwise-HHcap",
        "Baseline-A100",
        "Baseline-H100",
    } <= families
    assert all(other["reason"] for other in plan["alternatives"])


def test_one_design_has_no_alternatives(provision: Run) -> None:
    ended = provision(*HH)
    assert "Other designs" not in ended.out
    assert ended.out.startswith("Splitwise-HH: ")


def test_files_hold_the_same_plan(provision: Run, tmp_path: Path) -> None:
    plan = answer(provision, *HH)
    ended = provision(*HH, "--out", "p.csv", "--out", "p.md", "--out", "p.json", "--out", "all/", "--table", "latency")
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "  written to  p.csv, p.md, p.json, all/"
    assert json.loads((tmp_path / "p.json").read_text(encoding="utf-8")) == plan
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["seconds"]) for row in rows] == [figure["seconds"] for figure in plan["latency"]]
    markdown = (tmp_path / "p.md").read_text(encoding="utf-8")
    assert plan["command"] in markdown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "p.csv", "p.json", "p.md"]
    written = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert written == ["latency.csv", "pools.csv", "report.html", "report.md"]
    rows = list(csv.DictReader((tmp_path / "all" / "pools.csv").read_text(encoding="utf-8").splitlines()))
    assert float(rows[0]["plan_cost_usd_per_h"]) == plan["cost_usd_per_h"]


def test_printed_command_gives_the_same_plan(provision: Run) -> None:
    first = answer(provision, *HH, "--headroom", "20%", "--ttft-p50", "300ms", "--prices", "paper")
    typed = first["command"].split()
    assert typed[0] == "provision"
    again = answer(provision, *typed[1:])
    assert again["latency"] == first["latency"]
    assert again["pools"] == first["pools"]


CHANGES = [
    (("--model", "bloom-176b"), lambda plan, base: plan["machines"] > base["machines"]),
    (("--rate", "35"), lambda plan, base: plan["machines"] < base["machines"] and plan["rate_rps"] == 35),
    (("--headroom", "50%"), lambda plan, base: plan["machines"] > base["machines"] and plan["rate_rps"] == 70),
    (("--slo", "splitwise"), lambda plan, base: plan["machines"] > base["machines"]),
    (("--slo", "batch"), lambda plan, base: plan["machines"] < base["machines"]),
    (("--workload", "conversation"), lambda plan, base: plan["pools"] != base["pools"]),
    (("--cv", "4"), lambda plan, base: plan["machines"] > base["machines"]),
    (("--independent",), lambda plan, base: plan["latency"] != base["latency"]),
    (("--prices", "paper"), lambda plan, base: plan["cost_usd_per_h"] > base["cost_usd_per_h"]),
    (("--assumptions", "splitwise-sim"), lambda plan, base: plan["latency"] != base["latency"]),
    (("--design", "baseline-h100"), lambda plan, base: plan["alternatives"][0]["design"] == "Baseline-H100"),
    (
        ("--objective", "throughput", "--max-machines", "6"),
        lambda plan, base: plan["machines"] <= 6 and plan["rate_rps"] < 40,
    ),
    (
        ("--objective", "throughput", "--max-power", "50kW"),
        lambda plan, base: plan["power_w"] <= 50_000 and plan["rate_rps"] < 40,
    ),
    (
        ("--objective", "throughput", "--max-cost", "150"),
        lambda plan, base: plan["cost_usd_per_h"] <= 150 and plan["rate_rps"] < 40,
    ),
]


@pytest.mark.parametrize(("options", "changed"), CHANGES, ids=[" ".join(options) for options, _ in CHANGES])
def test_option_changes_the_answer(provision: Run, options: tuple[str, ...], changed: Any) -> None:
    base = answer(provision, *HH)
    assert changed(answer(provision, *(instead(HH, *options) if "--slo" in options else (*HH, *options))), base)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PuLP's, of the solver that it brings along
def test_every_solver_at_hand_finds_the_same_plan(provision: Run) -> None:
    import pulp

    plans = [answer(provision, *AT_8, "--solver", name) for name in pulp.listSolvers(onlyAvailable=True)]
    assert [plan["solver"] for plan in plans] == pulp.listSolvers(onlyAvailable=True)
    assert len({json.dumps(plan["pools"]) for plan in plans}) == 1


def test_objective_and_caps_choose_another_design(provision: Run) -> None:
    cheapest = answer(provision, *AT_8)
    thriftiest = answer(provision, *AT_8, "--objective", "power")
    assert thriftiest["power_w"] < cheapest["power_w"]
    assert thriftiest["cost_usd_per_h"] > cheapest["cost_usd_per_h"]
    capped = answer(provision, *AT_8, "--max-power", f"{cheapest['power_w'] - 1}")
    assert capped["power_w"] < cheapest["power_w"]
    smallest = answer(provision, *AT_8, "--objective", "machines")
    assert smallest["machines"] <= cheapest["machines"]


def test_machines_and_stock(provision: Run) -> None:
    only = answer(provision, *P99, "--machine", "dgx-a100")
    assert {pool["machine"] for pool in only["pools"]} == {"dgx-a100"}
    both = answer(provision, *P99, "--machine", "dgx-a100", "--machine", "dgx-h100", "--stock", "dgx-h100=10")
    used = sum(pool["machines"] for pool in both["pools"] if pool["machine"] == "dgx-h100")
    assert 0 < used <= 10
    assert {pool["machine"] for pool in both["pools"]} == {"dgx-a100", "dgx-h100"}


def figure_of(plan: Any, name: str) -> Any:
    """A percentile such as ``ttft_p99`` of a plan."""
    return next(row for row in plan["latency"] if name == f"{row['metric']}_p{row['percentile']:g}")


@pytest.mark.parametrize("metric", ["ttft", "tbt", "e2e"])
@pytest.mark.parametrize("percentile", ["p50", "p90", "p99"])
def test_single_limits(provision: Run, metric: str, percentile: str) -> None:
    free = answer(provision, *instead(HH, "--slo", "batch"))
    value = figure_of(free, f"{metric}_{percentile}")["seconds"] * 0.8
    held = answer(provision, *instead(HH, "--slo", "batch"), f"--{metric}-{percentile}", f"{1e3 * value:.6g}ms")
    figure = figure_of(held, f"{metric}_{percentile}")
    assert figure["limit"]["value"] == pytest.approx(value, rel=1e-4)
    assert figure["limit"]["kind"] == "seconds"
    assert figure["seconds"] <= figure["limit"]["value"]
    assert held["machines"] >= free["machines"]


def test_limits_of_a_file_and_as_slowdowns(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text("ttft: {p99: 2s}\ntbt: {p50: 60ms}\n")
    plan = answer(provision, "plan", "--fast", "--design", "splitwise-hh", "--slo", "slo.yaml", "--e2e-p90", "4x")
    limits = [figure_of(plan, name)["limit"] for name in ("ttft_p99", "tbt_p50", "e2e_p90")]
    assert [(limit["value"], limit["kind"]) for limit in limits] == [(2, "seconds"), (0.06, "seconds"), (4, "slowdown")]


def test_prices_of_a_file(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "machines:\n  dgx-h100: {cost_usd_per_h: 10, provisioned_power_w: 10200}\n"
        "  dgx-a100: {cost_usd_per_h: 20, provisioned_power_w: 6500}\n"
        "  dgx-h100-capped: {cost_usd_per_h: 20, provisioned_power_w: 7140}\n"
    )
    plan = answer(provision, *HH, "--prices", "mine.yaml")
    assert plan["cost_usd_per_h"] == 10 * plan["machines"]


def test_trace_as_a_workload_and_as_it_is(provision: Run, trace: Path) -> None:
    at_rate = answer(provision, *HH, "--workload", trace.name, "--rate", "20")
    assert (at_rate["workload"], at_rate["rate_rps"]) == ("trace", 20)
    as_it_is = answer(provision, *HH, "--trace", trace.name)
    assert as_it_is["rate_rps"] == pytest.approx(2, rel=0.1)
    assert as_it_is["question"]["trace"] == trace.name


def test_unsorted_times_are_sorted_with_a_warning(provision: Run, trace: Path) -> None:
    header, *rows = trace.read_text().splitlines()
    trace.write_text("\n".join([header, *reversed(rows)]) + "\n")
    plan = answer(provision, *HH, "--trace", trace.name)
    assert any("sorted by time" in warning for warning in plan["warnings"])
    assert "sorted by time" in provision(*HH, "--trace", trace.name).out


def test_equal_times_are_normal(provision: Run, tmp_path: Path) -> None:
    rows = [f"{k // 4},1000,20" for k in range(80)]
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    assert answer(provision, *HH, "--trace", "t.csv")["machines"] >= 2


def test_write_lp(provision: Run, tmp_path: Path) -> None:
    assert provision(*HH, "--write-lp", "model.lp").code == 0
    assert (tmp_path / "model.lp").read_text().rstrip().endswith("End")


def test_a_long_search_tells_a_terminal_what_it_does(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr("provisioner.cli.progress._FIRST_S", 0.0)
    monkeypatch.setattr("provisioner.cli.progress._REDRAW_S", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    ended = provision(*HH, "--objective", "throughput", "--max-machines", "4")
    assert "largest rate of Splitwise-HH" in ended.err
    assert ended.err.endswith("\r\x1b[K")
    assert "\x1b" not in ended.out


def test_terminal_gets_styles(provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    ended = provision(*HH)
    assert ended.out.startswith("\x1b[1mSplitwise-HH")
