import re
from dataclasses import replace

import pytest

from provisioner.report.document import Boxes, Code, Column, Document, Facts, Folded, Notes, Table
from provisioner.report.terminal import MAX_WIDTH, render
from provisioner.report.views.plan import document
from provisioner.results.plan import Plan


def test_answer_comes_first(plan: Plan) -> None:
    lines = render(document(plan)).splitlines()
    assert lines[0] == "Splitwise-HA: 15 dgx-h100 (prompt) + 2 dgx-a100 (token)"
    assert lines[1] == "The cheapest plan for coding on llama2-70b at 70 requests/s, within SLO p99."
    assert "  cost         $523.44/h, $382,111 a month (730 h), $0.976 per million tokens ($74.50 of output)" in lines
    assert "  power        166.0 kW, 17 machines" in lines
    assert "  least slack  25.0 % (TTFT P99; binding: TTFT P99, capacity)" in lines


def test_tables(plan: Plan) -> None:
    text = render(document(plan))
    assert re.search(r"^  prompt  dgx-h100 +15 +8 +83\.8 +478\.80  153\.0  misses TTFT P99$", text, re.M)
    assert re.search(r"^  token   dgx-a100 +2 +8 +41\.0 +34\.2 +44\.64   13\.0  overloaded$", text, re.M)
    assert re.search(r"^  TTFT P99 +300\.0 +4\.50 +6x +25\.0  one fewer misses$", text, re.M)
    assert re.search(r"^  E2E P50 +10,000\.0 +1\.50$", text, re.M)
    assert re.search(r"^  Splitwise-AA +27 prompt \+ 2 token +8\+8 +647\.28 +188\.5 +29  23\.7 % more", text, re.M)
    assert "Designs without a plan\n  - Baseline-A100: TTFT P99 of 6x is out of reach" in text
    assert "Warnings\n  - 14.9 % of the requests" in text
    assert "Sources\n  - curves: one source, 2024" in text
    assert "analytic: queueing formulas, not simulated" in text
    assert "solver HiGHS, optimality gap 0" in text


def test_numbers_of_a_column_end_at_the_same_place(plan: Plan) -> None:
    lines = render(document(plan)).splitlines()
    start = lines.index("Predicted latency")
    rows = [line for line in lines[start + 3 : start + 12]]
    end = lines[start + 1].index("ms") + 2
    assert all(line[end - 1].isdigit() and line[end : end + 1] in ("", " ") for line in rows)


@pytest.mark.parametrize("width", [100, 90, 60, 40])
def test_text_keeps_to_the_width(plan: Plan, width: int) -> None:
    long = replace(plan, warnings=("word " * 80, "https://" + "x" * 30), sources=("70 % of it " * 30,))
    report = document(long)
    without_tables = replace(report, blocks=tuple(b for b in report.blocks if not isinstance(b, Table | Boxes)))
    assert max(map(len, render(without_tables, width).splitlines())) <= width


def test_tables_fit_100_columns_with_large_numbers_and_long_names(plan: Plan) -> None:
    pools = tuple(
        replace(
            pool,
            machine="dgx-h100-capped",
            replicas=1200,
            cost_usd_per_h=123456.78,
            power_w=12e6,
            min_prompt_tokens=4_668,
            binding=("TTFT P50", "TTFT P90", "TTFT P99", "E2E P99"),
        )
        for pool in plan.pools
    )
    text = render(document(replace(plan, pools=pools)))
    assert "123,456.78" in text
    assert "dgx-h100-capped" in text
    assert max(map(len, text.splitlines())) <= MAX_WIDTH + 6  # six digits of dollars an hour are beyond the aim


def test_narrow_terminal_cuts_no_number(plan: Plan) -> None:
    text = render(document(plan), 40)
    for number in ("478.80", "10,000.0", "647.28", "188.5"):
        assert number in text


def test_plain_text_has_no_escape_codes_whatever_the_environment(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    plain = render(document(plan))
    assert "\x1b" not in plain
    styled = render(document(plan), styled=True)
    assert "\x1b[1mSplitwise-HA" in styled
    stripped = "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", styled).splitlines())
    assert stripped == plain


def test_names_are_not_read_as_markup() -> None:
    table = Table("[bold]t[/bold]", (Column("a"),), (("[red]x[/red] :smile:",),))
    blocks = (table, Facts("", (("[i]", "[link]"),)), Notes("", ("[/]",)), Code("", "[x]"))
    text = render(Document("[b]h", "", blocks))
    for given in ("[b]h", "[bold]t[/bold]", "[red]x[/red] :smile:", "[i]  [link]", "- [/]", "  [x]"):
        assert given in text


def test_defaults_are_one_paragraph() -> None:
    text = render(Document("", "", (Folded("Defaults", (("model", "llama2-70b"), ("seed", "0"))),)))
    assert text.endswith("Defaults\n  model llama2-70b, seed 0")


def test_per_cent_sign_stays_with_its_number() -> None:
    text = render(Document("", "", (Notes("", ("x " * 47 + "70 % of it",)),)))
    assert "x\n    70 % of it" in text


def test_headroom_and_shared_roles_are_said(plan: Plan) -> None:
    pools = (replace(plan.pools[0], max_prompt_tokens=900), plan.pools[1])
    text = render(document(replace(plan, planned_rate_rps=84.0, pools=pools)))
    assert "at 70 requests/s + 20 % headroom = 84 requests/s" in text
    assert "Predicted latency with the headroom" in text
    assert "serves" in text
    assert "prompts of up" in text


def test_plan_without_limits(plan: Plan) -> None:
    free = tuple(replace(figure, limit=None, binding=False) for figure in plan.latency)
    pools = tuple(replace(pool, binding=("a pool needs one machine",)) for pool in plan.pools)
    text = render(document(replace(plan, latency=free, pools=pools, alternatives=(), warnings=())))
    assert "without latency limits." in text
    assert "least slack" not in text
    assert "binding nothing" in " ".join(text.split())
    assert "million tokens for a dollar" in text
    assert "Other designs" not in text
    assert "Warnings" not in text


def test_values_that_are_none_or_unbounded(plan: Plan) -> None:
    worst = tuple(replace(f, seconds=float("inf"), slowdown=float("nan")) for f in plan.latency)
    text = render(document(replace(plan, latency=worst)))
    assert "unbounded" in text
    assert "nan" not in text
