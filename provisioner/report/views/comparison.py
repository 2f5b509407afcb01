"""A comparison as a report: the best design first, each with its cluster, then all against the baseline."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from provisioner.options import CompareOptions
from provisioner.report.chart import Axis, BarChart, Bars, Chart, Rule
from provisioner.report.document import Block, Column, Document, KeyNumber, KeyNumbers, Table, listing, notes
from provisioner.report.tables import Row, flat
from provisioner.report.views.plan import slack_numbers, splitting_text
from provisioner.report.views.view import (
    View,
    amount,
    cluster_boxes,
    criteria_columns,
    degree_cells,
    degrees,
    report,
    scaled,
    total_cells,
)
from provisioner.results.comparison import COMPARED, ComparedDesign, Comparison
from provisioner.results.plan import CAPACITY, ONLY_ONE, Plan
from provisioner.specs.criteria import CRITERIA, ObjectiveName
from provisioner.specs.money import in_currency
from provisioner.specs.units import format_factor, format_rate

_MOST_GROUPS: Final = 12  # designs that a chart of ratios shows at most


def document(comparison: Comparison, inputs: bool = False) -> Document:
    """The report of a comparison. ``inputs`` adds every option."""
    blocks: list[Block] = []
    if comparison.planned:
        best, plan = comparison.planned[0]
        differing = [name for name in COMPARED if name not in ("machines", comparison.same)]
        within = "" if comparison.budget is None else f", within {comparison.budget}"
        designs = listing(
            f"Each design at its best{within}",
            comparison.planned,
            (Column("design"), lambda pair: pair[0].label),
            (Column("machines", words=True), lambda pair: pair[1].cluster.by_role),
            degrees(lambda pair: pair[1].cluster),
            *criteria_columns(differing, lambda pair: pair[1], of_month=True),
            (Column("splitting", True), lambda pair: _gain(comparison, pair[0])),
            (Column("one machine fewer", words=True), lambda pair: _binds(pair[1])),
            strong=lambda pair: pair[0] is best,
        )
        blocks += [key_numbers(comparison), cluster_boxes(f"Cluster of {best.label}", plan.cluster)]
        blocks += [designs, ratios_table(comparison)]
    sharpness = []
    for design, plan in comparison.planned:
        if design.failed_rps is not None:
            flips = "" if design.passes_again_rps is None else f"; verdicts flip up to {design.passes_again_rps:.4g}"
            between = f"{plan.rate_rps:.4g} requests/s pass, {design.failed_rps:.4g} do not"
            sharpness.append(f"{design.label}: {between}{flips}")
    refused = (f"{design.label}: {design.reason}" for design in comparison.designs if design.plan is None)
    blocks += notes("Designs without a plan", refused) + notes("How sharp the largest rates are", sharpness)
    how = "largest rates to 1 %, from below; at each the cheapest cluster that passes" if comparison.budget else ""
    method = (("latency", comparison.method), ("rates", how), ("seed", str(comparison.seed)))
    return report(comparison, headline(comparison), subtitle(comparison), blocks, method, CompareOptions, inputs)


def _gain(comparison: Comparison, design: ComparedDesign) -> str:
    """The gain of splitting in a design: ``1.08x``; empty for a colocated one, or where it is not known."""
    gain = comparison.splitting[design.label]
    return "" if gain is None else f"{gain:.2f}x"


def _splitting_numbers(comparison: Comparison) -> list[KeyNumber]:
    """The gain of the best design that splits the phases over the best colocated one; none without any that splits."""
    if all(design.colocated for design in comparison.designs):
        return []
    found = comparison.split_against_colocated()
    if found is not None:
        return [KeyNumber("splitting", splitting_text(found))]
    if not any(design.colocated for design in comparison.designs):
        return [KeyNumber("splitting", "not known: no colocated design is compared, such as baseline-h100")]
    return [KeyNumber("splitting", "not known: the time limit was reached before the best of each kind was proven")]


def headline(comparison: Comparison) -> str:
    """The best design, with its cluster and how much better than the baseline it is."""
    if not comparison.planned:
        return "No design has a plan"
    best, plan = comparison.planned[0]
    value = CRITERIA[comparison.objective].amount(plan.of(comparison.objective))
    against = _against(comparison, best)
    beside = f", {against}" if against else ""
    return f"{best.label}: {value}{beside}, with {plan.cluster.listed} at TP {plan.cluster.degrees}"


def _against(comparison: Comparison, design: ComparedDesign) -> str:
    """The ratio of a design's value of the objective to the baseline's; empty for the baseline."""
    ratio = comparison.ratios[design.label][comparison.objective]
    if ratio is None or design.label == comparison.baseline:
        return ""
    return f"{format_factor(ratio)} {'' if comparison.objective == 'throughput' else 'of '}{comparison.baseline}"


def subtitle(comparison: Comparison) -> str:
    """The quantity that is held the same, and what each design is best in, in a sentence."""
    if comparison.budget is not None:
        return f"The largest throughput of each design within {comparison.budget}: {_case(comparison)}."
    best, at = CRITERIA[comparison.objective].short, format_rate(comparison.rate_rps or 0.0)
    return f"The {best} of each design at {at}: {_case(comparison)}."


def _case(comparison: Comparison) -> str:
    return f"{comparison.workload} on {comparison.model}, SLO {comparison.slo}"


def key_numbers(comparison: Comparison) -> KeyNumbers:
    """The best design's value of the objective beside the baseline's, its totals, and what binds it."""
    best, plan = comparison.planned[0]
    notes = {"machines": f"({plan.cluster.by_role})", comparison.objective: _against(comparison, best)}
    names = (comparison.objective, *(name for name in COMPARED if name != comparison.objective))
    numbers = [amount(name, plan, notes.get(name, "")) for name in names]
    numbers.append(KeyNumber("one machine fewer", _binds(plan)))
    return KeyNumbers((*numbers, *slack_numbers(plan), *_splitting_numbers(comparison)))


def _binds(plan: Plan) -> str:
    """The limits that a plan misses with one machine fewer; else whether a pool is overloaded, or has none left."""
    if limits := [name for name in plan.binding if name not in (CAPACITY, ONLY_ONE)]:
        return f"misses {', '.join(limits)}"
    return "overloaded" if CAPACITY in plan.binding else "none left" if plan.binding else "still enough"


def ratios_table(comparison: Comparison) -> Table:
    """One row per design: everything over the baseline's, which stands out."""

    def cell(pair: tuple[ComparedDesign, Plan], name: ObjectiveName, per: ObjectiveName | None) -> str:
        ratios = comparison.ratios[pair[0].label]
        ratio, divisor = ratios[name], 1.0 if per is None else ratios[per]
        return "" if ratio is None or divisor is None else f"{ratio / divisor:.2f}"

    columns: list[tuple[str, ObjectiveName, ObjectiveName | None]] = [(f"{name}, x", name, None) for name in COMPARED]
    columns += [(in_currency("per $, x"), "throughput", "cost"), ("per W, x", "throughput", "power")]
    has_base = any(design.label == comparison.baseline for design, _ in comparison.planned)
    return listing(
        f"Against {comparison.baseline}" + ("" if has_base else ", which has no plan"),
        comparison.planned,
        (Column("design"), lambda pair: pair[0].label),
        *((Column(header, True), partial(cell, name=name, per=per)) for header, name, per in columns),
        strong=lambda pair: pair[0].label == comparison.baseline,
    )


def charts(comparison: Comparison) -> Mapping[str, Chart]:
    """Every design against the baseline in the quantities that differ, and each design's value of the objective."""
    drawn: dict[str, Chart] = {}
    base = [design for design in comparison.designs[_MOST_GROUPS:] if design.label == comparison.baseline]
    shown = (*comparison.designs[: _MOST_GROUPS - len(base)], *base)
    best = frozenset({0} if comparison.planned else ())
    names = {design.label: f"{design.label} (best)" for design, _ in comparison.planned[:1]}
    ratios = [comparison.ratios[design.label] for design in shown]
    known = {name: {f"{each[name]:.6g}" for each in ratios if each[name] is not None} for name in COMPARED}
    differing = [name for name in COMPARED if len(known[name]) > 1]
    if differing:
        few = f", {len(shown)} of {len(comparison.designs)} designs" if len(shown) < len(comparison.designs) else ""
        texts = tuple(map(_note, shown))
        drawn["ratios"] = BarChart(
            f"Every design over {comparison.baseline}: {_case(comparison)}{few}",
            tuple(names.get(design.label, design.label) for design in shown),
            Axis(f"relative to {comparison.baseline} (x)", from_zero=True),
            tuple(Bars(name, tuple(each[name] for each in ratios), texts) for name in differing),
            rules=(Rule(1.0, comparison.baseline),),
            strong=best,
        )
    values = scaled(comparison.objective, comparison.designs)
    drawn[comparison.objective] = BarChart(
        subtitle(comparison).removesuffix("."),
        tuple(names.get(design.label, design.label) for design in comparison.designs),
        Axis(CRITERIA[comparison.objective].axis, from_zero=True),
        (Bars(comparison.objective, values, tuple(map(_note, comparison.designs))),),
        strong=best,
    )
    return drawn


def _note(design: ComparedDesign) -> str:
    return design.reason if design.plan is None else design.plan.cluster.by_role


def design_rows(comparison: Comparison) -> list[Row]:
    """One row per design: its cluster and totals, their ratios to the baseline's, what binds, or why it has no plan."""
    return [
        {
            "label": design.label,
            "design": design.design,
            "policy": design.policy,
            "feasible": design.plan is not None,
            "split": "" if design.plan is None else design.plan.cluster.by_machine,
            **degree_cells(None if design.plan is None else design.plan.cluster),
            "rate_rps": design.of("throughput"),
            "failed_rps": design.failed_rps,
            "passes_again_rps": design.passes_again_rps,
            **total_cells(design.plan),
            **{f"{name}_ratio": value for name, value in comparison.ratios[design.label].items()},
            "splitting": comparison.splitting[design.label],
            "binding": "" if design.plan is None else ", ".join(design.plan.binding),
            "worst_slack": None if design.plan is None else design.plan.worst_slack,
            "proven": design.proven,
            "miss_ratio": design.miss_ratio,
            "reason": design.reason,
        }
        for design in comparison.designs
    ]


def pool_rows(comparison: Comparison) -> list[Row]:
    """One row per design and pool of its cluster."""
    return [{"label": design.label, **flat(pool)} for design, plan in comparison.planned for pool in plan.pools]


VIEW: Final = View(Comparison, document, charts, {"designs": design_rows, "pools": pool_rows})
