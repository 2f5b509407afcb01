import re
import shlex
from dataclasses import replace

from provisioner.cli.commands import command
from provisioner.cli.given import given_of
from provisioner.options import PlanOptions, declared
from provisioner.planning.plan import Plan
from provisioner.report.command_line import command_line
from provisioner.report.document import Column, Document, Table
from provisioner.report.markdown import markdown, plan_markdown


def tables(text: str) -> list[list[list[str]]]:
    """Cells of every pipe table."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        found.append(rows)
    return found


def test_tables_are_well_formed(plan: Plan) -> None:
    found = tables(plan_markdown(plan))
    assert [rows[0][0] for rows in found] == ["role", "latency", "design", "option"]
    for rows in found:
        assert len({len(row) for row in rows}) == 1
        assert all(re.fullmatch("-{3,}:?", cell) for cell in rows[1])
    assert found[0][2][:3] == ["prompt", "dgx-h100", "15"]
    assert ["**TTFT P99**", "**300.0**", "**4.50**", "**6x**", "**25.0**", "**binds**"] in found[1]


def test_holds_what_repeats_the_plan(plan: Plan) -> None:
    text = plan_markdown(plan)
    assert str(plan) == text
    for part in ("- seed: 0", "provisioner 0.1.0", "numpy 2.4.6", "- curves: one source, 2024", "| slo | p99 |"):
        assert part in text
    assert f"```\n{command_line(plan)}\n```" in text


def test_escapes_cells() -> None:
    text = markdown(Document("h", "", (Table("t", (Column("a"), Column("b")), (("x|y", "<b>\nz"),)),)))
    assert "| x\\|y | &lt;b> z |" in text


def parsed(plan: Plan) -> PlanOptions:
    """The options that the printed command asks for."""
    typed = shlex.split(command_line(plan))
    assert typed[:2] == ["provision", "plan"]
    context = command().commands["plan"].make_context("plan", typed[2:])
    return PlanOptions.of(**given_of(declared(PlanOptions), context.params))


def test_printed_command_asks_the_same_question(plan: Plan) -> None:
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
    question = {name: getattr(options, name) for name in PlanOptions.__dataclass_fields__}
    assert parsed(replace(plan, question=question, objective="power")) == options


def test_printed_command_states_the_rate_that_was_planned_for(plan: Plan) -> None:
    assert "--rate 70" in command_line(plan)
    throughput = replace(plan, objective="throughput", question=dict(plan.question) | {"objective": "throughput"})
    assert "--rate" not in command_line(throughput)


def test_printed_command_of_a_trace_names_no_workload(plan: Plan) -> None:
    typed = command_line(replace(plan, question=dict(plan.question) | {"trace": "a b.csv"}))
    assert "--trace 'a b.csv'" in typed
    assert "--workload" not in typed and "--rate" not in typed
