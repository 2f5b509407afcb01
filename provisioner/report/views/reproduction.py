"""A reproduction as a report: every published result beside ours, and why they differ."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from provisioner.report.chart import Axis, BarChart, Bars, Chart, Rule
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, notes, table
from provisioner.report.views.view import View
from provisioner.results.reproduction import Reproduction

_SIMULATOR: Final = "published simulator: github.com/Mutinifni/splitwise-sim"
_CHARTS: Final = {"iso-power-conversation": "the power", "iso-cost-conversation": "the cost"}
_BASE: Final = "Baseline-A100"


def document(reproduction: Reproduction, inputs: bool = False) -> Document:
    """The report of a reproduction: a table for each experiment, with the reasons for differences below it.

    ``inputs`` adds the command that repeats it.
    """
    blocks: list[Block] = []
    columns = (Column("result", words=True), Column("published"), Column("splitwise-sim"), Column("measured"))
    for experiment in dict.fromkeys(finding.experiment for finding in reproduction.findings):
        findings = [finding for finding in reproduction.findings if finding.experiment == experiment]
        rows = [(each.result, each.published, each.simulator, each.measured) for each in findings]
        blocks.append(table(experiment, columns, rows))
        blocks += notes("", dict.fromkeys(finding.remark for finding in findings if finding.remark))
    sets = f"{reproduction.sets} request sets of {reproduction.duration_s:g} s, seed {reproduction.seed}"
    method = (
        ("splitwise-sim", "the published simulator's rules, its flat token curve, its prices and its lengths"),
        ("measured", "measured decode curves, today's baseline (chunked prefill) beside the paper's"),
        ("verdicts", sets),
        ("versions", ", ".join(f"{name} {version}" for name, version in reproduction.versions.items())),
    )
    blocks += [Notes("Sources", (*reproduction.sources, _SIMULATOR)), Facts("How this was computed", method)]
    if inputs:
        blocks.append(Code("To repeat this", reproduction.command))
    compared = sum(bool(finding.published) for finding in reproduction.findings)
    return Document(
        "Splitwise (ISCA 2024), reproduced",
        f"{compared} published results beside ours: by the published simulator's rules, and with measured curves.",
        tuple(blocks),
    )


def charts(reproduction: Reproduction) -> Mapping[str, Chart]:
    """Throughput of every design over the baseline's, within the same power and within the same cost."""
    drawn: dict[str, Chart] = {}
    for name, what in _CHARTS.items():
        worlds = {world: values[name] for world, values in reproduction.values.items() if name in values}
        labels = dict.fromkeys(label for clusters in worlds.values() for label in clusters)
        bars = []
        for world, clusters in worlds.items():
            base = clusters.get(_BASE, {}).get("throughput")
            shown = [clusters.get(label, {}) for label in labels]
            ratios = tuple(each["throughput"] / base if base and each.get("sizes") else None for each in shown)
            sizes = (" + ".join(map(str, each.get("sizes") or ())) for each in shown)
            bars.append(Bars(world, ratios, tuple(text or "no plan" for text in sizes)))
        if bars:
            drawn[name] = BarChart(
                f"Throughput within {what} of 40 DGX-H100, conversation on BLOOM-176B",
                tuple(labels),
                Axis(f"throughput over {_BASE}", from_zero=True),
                tuple(bars),
                (Rule(1.0, _BASE),),
            )
    return drawn


VIEW: Final = View(Reproduction, document, charts, {"findings": lambda of: [asdict(each) for each in of.findings]})
