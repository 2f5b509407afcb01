import re
import shlex

from provisioner.cli.commands import command
from provisioner.cli.given import given_of
from provisioner.options import PlanOptions, declared
from provisioner.options.command import command_of, plan_question
from provisioner.report.document import Column, Document, Notes, Table
from provisioner.report.markdown import markdown
from provisioner.results.plan import Plan


def tables(text: str) -> list[list[list[str]]]:
    """Cells of every pipe table."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        found.append(rows)
    return found


def test_tables_are_well_formed(plan: Plan) -> None:
    found = tables(str(plan))
    assert [rows[0][0] for rows in found] == ["role", "latency", "design", "option"]
    for rows in found:
        assert len({len(row) for row in rows}) == 1
        assert all(re.fullmatch("-{3,}:?", cell) for cell in rows[1])
    assert found[0][2][:3] == ["prompt", "dgx-h100", "15"]
    assert ["**TTFT P99**", "**300.0**", "**4.50**", "**6x**", "**25.0**", "**one fewer misses**"] in found[1]


def test_holds_what_repeats_the_plan(plan: Plan) -> None:
    text = str(plan)
    for part in ("- seed: 0", "provisioner 0.1.0", "numpy 2.4.6", "- curves: one source, 2024", "| slo | p99 |"):
        assert part in text
    defaults = text.partition("## Inputs left at their defaults\n\n")[2].partition("\n")[0]
    assert defaults.startswith("workload coding, failed_rows drop, model llama2-70b, ") and "slo" not in defaults
    assert f"```\n{plan.command}\n```" in text


def test_escapes_cells() -> None:
    text = markdown(Document("h", "", (Table("t", (Column("a|c"), Column("b")), (("x|y", "<b>\nz"),)),)))
    assert "| x\\|y | &lt;b> z |" in text and "| a\\|c | b |" in text


def printed(asked: PlanOptions) -> list[str]:
    """The command that a plan of some options prints, planned at 70 requests/s."""
    question = {name: getattr(asked, name) for name in PlanOptions.__dataclass_fields__}
    return shlex.split(command_of("plan", plan_question(question, 70.0), PlanOptions))


def test_printed_command_asks_the_same_question() -> None:
    options = PlanOptions(
        workload="my trace.csv",
        slo="p99",
        rate_rps=12.5,
        limits={"ttft_p99": "2s", "tbt_p50": "60ms"},
        designs=("splitwise-ha",),
        machines=("dgx-h100", "dgx-a100"),
        objective="power",
        max_cost_usd_per_h=1234.5,
        max_power_w=4e5,
        max_machines=40,
        stock={"dgx-h100": 20},
        prices="paper",
        headroom=0.2,
        cv=2.5,
        independent=True,
        seed=7,
    )
    typed = printed(options)
    assert typed[:2] == ["provision", "plan"]
    context = command().commands["plan"].make_context("plan", typed[2:])
    assert PlanOptions.of(**given_of(declared(PlanOptions), context.params)) == options


def test_printed_command_states_the_rate_that_was_planned_for() -> None:
    assert "--rate 70" in shlex.join(printed(PlanOptions()))
    assert "--rate" not in printed(PlanOptions(objective="throughput"))


def test_printed_command_of_a_trace_names_no_workload() -> None:
    typed = printed(PlanOptions(trace="a b.csv"))
    assert typed[typed.index("--trace") + 1] == "a b.csv"
    assert "--workload" not in typed and "--rate" not in typed


def test_a_link_in_a_text_is_no_link_in_markdown() -> None:
    text = "[a](javascript:alert(1)), [b]: javascript:alert(1), [c][b], <javascript:alert(1)>, a\x1b[31mred"
    shown = markdown(Document("x", "", (Notes("", (text,)),))).splitlines()[-1]
    assert shown == (
        r"- [a\](javascript:alert(1)), [b\]: javascript:alert(1), [c\][b], &lt;javascript:alert(1)>, a\x1b[31mred"
    )
