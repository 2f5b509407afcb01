"""A reproduction as a report: every published result beside ours, and why they differ."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from provisioner.report.chart import Axis, BarChart, Bars, Chart, Rule
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, table

if TYPE_CHECKING:
    from provisioner.studies.reproduce import Finding, Reproduction

_TITLES = {"iso-power-conversation": "the power", "iso-cost-conversation": "the cost"}


def reproduction_document(found: Reproduction, *, inputs: bool = False) -> Document:
    """The report of a reproduction: a table for each experiment, with the reasons for differences below it.

    ``inputs`` adds the command that repeats it.
    """
    blocks: list[Block] = []
    for experiment in dict.fromkeys(finding.experiment for finding in found.findings):
        these = [finding for finding in found.findings if finding.experiment == experiment]
        blocks += _experiment(experiment, these)
    blocks.append(Notes("Sources", (*found.sources, "published simulator: github.com/Mutinifni/splitwise-sim")))
    blocks.append(
        Facts(
            "How this was computed",
            (
                ("splitwise-sim", "the published simulator's rules, its flat token curve, its prices and its lengths"),
                ("measured", "measured decode curves, today's baseline (chunked prefill) beside the paper's"),
                ("verdicts", f"{found.sets} request sets of {found.duration_s:g} s, seed {found.seed}"),
                ("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
            ),
        )
    )
    if inputs:
        blocks.append(Code("To repeat this", command(found)))
    compared = sum(bool(finding.published) for finding in found.findings)
    return Document(
        "Splitwise (ISCA 2024), reproduced",
        f"{compared} published results beside ours: by the published simulator's rules, and with measured curves.",
        tuple(blocks),
    )


def _experiment(experiment: str, these: list[Finding]) -> list[Block]:
    columns = [Column("result", words=True), Column("published"), Column("splitwise-sim"), Column("measured")]
    rows = [(each.result, each.published, each.simulator, each.measured) for each in these]
    blocks: list[Block] = [table(experiment, columns, rows)]
    remarks = tuple(dict.fromkeys(each.remark for each in these if each.remark))
    if remarks:
        blocks.append(Notes("", remarks))
    return blocks


def reproduction_charts(found: Reproduction) -> tuple[Chart, ...]:
    """Throughput of every design over the baseline's, within the same power and within the same cost."""
    charts: list[Chart] = []
    for name, what in _TITLES.items():
        worlds = {world: values[name] for world, values in found.values.items() if name in values}
        labels = list(dict.fromkeys(label for values in worlds.values() for label in values))
        bars = []
        for world, values in worlds.items():
            base = values.get("Baseline-A100", {}).get("throughput")
            ratios = tuple(
                values[label]["throughput"] / base if base and values.get(label, {}).get("sizes") else None
                for label in labels
            )
            sizes = (" + ".join(map(str, values.get(label, {}).get("sizes", ()))) for label in labels)
            bars.append(Bars(world, ratios, tuple(text or "no plan" for text in sizes)))
        if bars:
            charts.append(
                BarChart(
                    f"Throughput within {what} of 40 DGX-H100, conversation on BLOOM-176B",
                    tuple(labels),
                    Axis("throughput over Baseline-A100", from_zero=True),
                    tuple(bars),
                    (Rule(1.0, "Baseline-A100"),),
                )
            )
    return tuple(charts)


def command(found: Reproduction) -> str:
    """The command that computes the same again."""
    typed = ["provision", "reproduce", found.paper]
    for name in found.question.get("only", ()):
        typed += ["--only", name]
    typed += ["--seeds", str(found.sets), "--duration", f"{found.duration_s:g}", "--seed", str(found.seed)]
    return shlex.join(typed)
