"""Designs side by side: the largest throughput of each within one budget, or the best of each at one throughput."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from provisioner.errors import InfeasibleError, InputError, Interrupted, UnknownNameError
from provisioner.loading.factors import load_factors
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.options.defaults import PolicyName
from provisioner.planning.check import confirmed
from provisioner.planning.designs import Design
from provisioner.planning.formulation import CRITERIA, Caps, Criterion
from provisioner.planning.setting import Setting
from provisioner.progress import worded
from provisioner.results.plan import Plan
from provisioner.specs import catalog
from provisioner.specs.units import format_cost, format_power, parse_positive, parse_whole, quoted
from provisioner.studies.result import StudyResult
from provisioner.studies.work import time_left, workers
from provisioner.verify.answer import best_plan
from provisioner.verify.throughput import largest_throughput
from provisioner.verify.verdicts import Verdicts

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

Same = Literal["power", "cost", "machines", "throughput"]
SAME: Final[tuple[Same, ...]] = ("power", "cost", "machines", "throughput")

RATIOS: Final = ("throughput", "cost", "power", "machines")
"""What is given relative to the baseline, in order."""

_POWER: Final = re.compile(r"(\S+?)\s*(W|kW|MW)?", re.IGNORECASE)
_WATTS: Final = {"w": 1.0, "kw": 1e3, "mw": 1e6}
_COST: Final = re.compile(r"\$?\s*(\S+?)\s*(?:\$/h|usd/h|/h)?", re.IGNORECASE)
_OF_A_MACHINE: Final = re.compile(r"(\S+)\s+([A-Za-z][\w.-]*)")
_EXAMPLE: Final = {"power": "400kW", "cost": "'1500 $/h'", "machines": "40"}


@dataclass(frozen=True, slots=True)
class Budget:
    """What every design may use at most: W, $/h or machines; ``given`` is how it was typed."""

    criterion: Criterion
    value: float
    given: str

    def __str__(self) -> str:
        named = _OF_A_MACHINE.fullmatch(self.given)
        as_machines = named is not None and named[2].lower() not in _WATTS and self.criterion != "machines"
        return amount_of(self.criterion, self.value) + (f" (as {self.given})" if as_machines else "")


def amount_of(criterion: Criterion, value: float) -> str:
    """A total in words, with its unit."""
    if criterion == "machines":
        return "1 machine" if value == 1 else f"{value:,.0f} machines"
    return format_cost(value) if criterion == "cost" else format_power(value)


def budget_of(given: str | float, criterion: Criterion, options: PlanOptions) -> Budget:
    """A budget from its text: an amount with or without its unit, or a number of machines of a type.

    Prices and power are those of the options' price list, with their factors.
    """
    text = " ".join(str(given).split())
    named = _OF_A_MACHINE.fullmatch(text)
    if named and named[2].lower() not in _WATTS:
        count = parse_whole(named[1], f"--budget {text}", "machines")
        return Budget(criterion, count * _each(criterion, named[2], options), text)
    return Budget(criterion, _amount(text, criterion), text)


def _amount(text: str, criterion: Criterion) -> float:
    try:
        if criterion == "machines":
            return parse_whole(text, "--budget", "machines")
        match = (_POWER if criterion == "power" else _COST).fullmatch(text)
        number = match[1].replace(",", "") if match else ""
        unit = _WATTS[(match[2] or "W").lower()] if match and criterion == "power" else 1.0
        return parse_positive(number, "--budget") * unit
    except InputError:
        kind = {"power": "a power", "cost": "a cost in $/h", "machines": "a number of machines"}[criterion]
        raise InputError(
            f"--budget: must be {kind} with --same {criterion}, such as {_EXAMPLE[criterion]} or '40 dgx-h100', got "
            f"{quoted(text)}"
        ) from None


def _each(criterion: Criterion, machine: str, options: PlanOptions) -> float:
    """What one machine of a type uses of a budget."""
    known = catalog.with_own(options.specs)
    name = known.machine(machine).name
    if criterion == "machines":
        return 1.0
    price = known.price(known.price_list(options.prices), name)
    factors = load_factors(options.scale, known)
    if criterion == "cost":
        return factors.of("price", name) * price.cost_usd_per_h
    return factors.of("power", name) * price.provisioned_power_w


@dataclass(frozen=True, slots=True)
class Row:
    """One design at its best, or why it has no plan.

    ``policy`` is the one that was asked for, None for the design's own. ``failed_rps`` is the first rate at which none
    of its clusters within the budget passes, ``passes_again_rps`` the largest rate beyond at which one does all the
    same; both None where no rate was looked for. ``wall_s`` is the time that it took.
    """

    label: str
    design: str
    policy: str | None
    colocated: bool
    plan: Plan | None
    reason: str = ""
    failed_rps: float | None = None
    passes_again_rps: float | None = None
    wall_s: float = 0.0

    @property
    def key(self) -> str:
        """The label as it is typed: ``baseline-h100``, ``baseline-h100-chunked``."""
        return self.label.lower().replace(", ", "-")

    @property
    def split(self) -> str:
        """Pool sizes in words, such as ``25 prompt + 15 token``; empty without a plan."""
        return "" if self.plan is None else " + ".join(f"{pool.machines} {pool.role}" for pool in self.plan.pools)

    def totals(self) -> dict[str, float] | None:
        """Throughput in requests/s, cost in $/h, power in W and machines; None without a plan."""
        plan = self.plan
        if plan is None:
            return None
        values = (plan.rate_rps, plan.cost_usd_per_h, plan.power_w, float(plan.machines))
        return dict(zip(RATIOS, values, strict=True))


@dataclass(frozen=True, slots=True)
class Comparison(StudyResult):
    """Designs side by side, the best first; those without a plan last, with the reason.

    ``same`` is what they have in common: at most a ``budget`` of power, cost or machines, or the throughput
    ``rate_rps``. ``objective`` is what each is best in. Ratios are against the row labelled ``baseline``, "" where no
    row has a plan.
    """

    same: Same
    budget: Budget | None
    rate_rps: float | None
    objective: str
    baseline: str
    rows: tuple[Row, ...]
    model: str
    workload: str
    slo: str
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    question: Mapping[str, Any]
    method: str
    seed: int
    versions: Mapping[str, str]

    def ratios(self, row: Row) -> dict[str, float | None]:
        """Throughput, cost, power and machines of a row over those of the baseline; None where either has no plan."""
        base = next((each.totals() for each in self.rows if each.label == self.baseline), None)
        mine = row.totals()
        if base is None or mine is None:
            return dict.fromkeys(RATIOS)
        return {name: mine[name] / base[name] for name in RATIOS}

    def records(self) -> list[dict[str, Any]]:
        """One flat record per design; None where there is no number."""
        records = []
        for row in self.rows:
            totals = row.totals() or dict.fromkeys(RATIOS)
            pools = () if row.plan is None else row.plan.pools
            records.append(
                {
                    "label": row.label,
                    "design": row.design,
                    "policy": row.policy,
                    "feasible": row.plan is not None,
                    "split": " + ".join(f"{pool.machines} {pool.role} {pool.machine}" for pool in pools),
                    "rate_rps": totals["throughput"],
                    "failed_rps": row.failed_rps,
                    "passes_again_rps": row.passes_again_rps,
                    "cost_usd_per_h": totals["cost"],
                    "power_w": totals["power"],
                    "machines": None if row.plan is None else row.plan.machines,
                    **{f"{name}_ratio": value for name, value in self.ratios(row).items()},
                    "binding": "" if row.plan is None else ", ".join(row.plan.binding),
                    "worst_slack": None if row.plan is None else row.plan.worst_slack,
                    "reason": row.reason,
                }
            )
        return records

    def to_frame(self) -> pd.DataFrame:
        """One row per design, as a pandas DataFrame; numbers are NaN where it has no plan."""
        import pandas as pd

        texts = ("label", "design", "policy", "feasible", "split", "binding", "reason")
        frame = pd.DataFrame(self.records())
        return frame.astype({name: float for name in frame.columns if name not in texts})

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values: what ``--json`` prints; the plan of each design whole."""
        from provisioner.report.as_json import plain_value
        from provisioner.report.compare_document import compare_command

        rows = [
            {**record, "plan": None if row.plan is None else row.plan.to_dict()}
            for record, row in zip(self.records(), self.rows, strict=True)
        ]
        budget = self.budget
        plain: dict[str, Any] = plain_value(
            {
                "same": self.same,
                "budget": None if budget is None else {"value": budget.value, "given": budget.given},
                "rate_rps": self.rate_rps,
                "objective": self.objective,
                "baseline": self.baseline,
                "designs": rows,
                "model": self.model,
                "workload": self.workload,
                "slo": self.slo,
                "warnings": self.warnings,
                "sources": self.sources,
                "question": self.question,
                "command": compare_command(self.question),
                "method": self.method,
                "seed": self.seed,
                "versions": self.versions,
            }
        )
        return plain

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.compare_document import compare_document

        return compare_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The pictures: every design against the baseline."""
        from provisioner.report.compare_document import compare_charts

        return compare_charts(self)


def compare(
    options: PlanOptions,
    *,
    same: Same = "power",
    budget: str | float | None = None,
    baseline: str | None = None,
    chunked: bool = False,
    dask: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Every design at its best under the same power, cost or machines, or at the same throughput.

    ``budget`` is the largest power, cost or number of machines: in W, $/h or machines, as text also with a unit
    (``400kW``) or as machines of a type (``40 dgx-h100``). With the same throughput, each design is the best by the
    options' objective at their rate. ``baseline`` is a design's name; the first colocated one unless given. ``chunked``
    adds every colocated design with chunked prefill. Rows that have no plan say why.
    """
    _check(options, same, budget, chunked)
    bought = None if same == "throughput" or budget is None else budget_of(budget, same, options)
    asked = options if bought is None else _within(options, bought)
    setting = load_setting(asked)
    if bought is None and asked.rate_rps is None and asked.trace is None:
        factors = load_factors(asked.scale, catalog.with_own(asked.specs))
        asked = replace(asked, rate_rps=setting.rate_rps / factors.of("rate"))
        setting = replace(setting, question={**setting.question, "rate_rps": asked.rate_rps})
    wanted = _wanted(setting, chunked)
    _check_baseline(baseline, wanted)
    rows = _rows(asked, setting, wanted, dask, progress)
    objective = asked.objective
    place = {each.label: position for position, each in enumerate(wanted)}
    rows.sort(key=lambda row: (_rank(row, objective), place[row.label]))
    return Comparison(
        same=same,
        budget=bought,
        rate_rps=None if bought is not None else setting.rate_rps,
        objective=objective,
        baseline=_baseline(rows, baseline, wanted),
        rows=tuple(rows),
        model=asked.model,
        workload=setting.workload,
        slo=setting.slo.name,
        sources=setting.sources,
        warnings=(*setting.warnings, *_warnings(rows, setting.warnings)),
        question={
            "same": same,
            "budget": None if bought is None else bought.given,
            "baseline": baseline,
            "chunked": chunked,
            **(asdict(options) if bought is not None else setting.question),
        },
        method=next((row.plan.method for row in rows if row.plan is not None), "nothing was found to pass"),
        seed=options.seed,
        versions=setting.versions,
    )


def _check(options: PlanOptions, same: Same, budget: str | float | None, chunked: bool) -> None:
    """Refuse what contradicts itself."""
    if same not in SAME:
        raise UnknownNameError("thing to hold the same", same, SAME)
    if options.write_lp is not None:
        raise InputError("--write-lp: a comparison solves many programs; write that of provision plan")
    if same == "throughput":
        if budget is not None:
            raise InputError("--budget: --same throughput has a --rate in its place; leave one of them out")
        if options.objective == "throughput":
            raise InputError("--objective: must be cost, power or machines with --same throughput")
    else:
        if budget is None:
            raise InputError(f"--budget: is needed with --same {same}, such as {_EXAMPLE[same]} or '40 dgx-h100'")
        if options.rate_rps is not None:
            raise InputError(f"--rate: is what --same {same} finds; leave it out, or take --same throughput")
        if options.trace is not None:
            raise InputError(f"--trace: has its own rate, which --same {same} looks for; give its file to --workload")
        if options.objective not in ("cost", "throughput"):
            raise InputError(f"--objective: is throughput with --same {same}; leave it out")
        caps = {"cost": options.max_cost_usd_per_h, "power": options.max_power_w, "machines": options.max_machines}
        if caps[same] is not None:
            raise InputError(f"--max-{same}: is what --budget gives with --same {same}; leave one of them out")
    if chunked and options.fast:
        raise InputError("--chunked: is simulated, --fast has formulas of mixed batching only; leave one of them out")
    if chunked and options.policy == "chunked":
        raise InputError("--chunked: adds what --policy chunked has already; leave one of them out")


def _within(options: PlanOptions, budget: Budget) -> PlanOptions:
    """The question with the budget as a limit."""
    asked = replace(options, objective="throughput")
    if budget.criterion == "power":
        return replace(asked, max_power_w=budget.value)
    if budget.criterion == "cost":
        return replace(asked, max_cost_usd_per_h=budget.value)
    return replace(asked, max_machines=int(budget.value))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A row to be filled in."""

    label: str
    design: Design
    policy: PolicyName | None


def _wanted(setting: Setting, chunked: bool) -> list[_Wanted]:
    policy = setting.judging.policy
    found = [_Wanted(design.name, design, policy) for design in setting.designs]
    if chunked:
        more = [_Wanted(f"{d.name}, chunked", d, "chunked") for d in setting.designs if not d.splits]
        if not more:
            raise InputError("--chunked: is for colocated designs, such as baseline-h100; none is compared here")
        found += more
    return found


def _rows(
    options: PlanOptions,
    setting: Setting,
    wanted: Sequence[_Wanted],
    dask: str | None,
    progress: Callable[[str], None],
) -> list[Row]:
    """Every row, one after another (each is found on threads), or side by side on a cluster."""
    rows: list[Row] = []
    began = monotonic()

    def tell(text: str) -> None:
        progress(worded(time_left(len(rows), len(wanted), began), "comparing: ", text))

    try:
        if dask is not None:
            with workers(dask=dask) as pool:
                for _, row in pool.map(_loaded, options, wanted, waiting=lambda: tell("")):
                    rows.append(row)
            return rows
        verdicts = Verdicts()
        for each in wanted:
            rows.append(_row(setting, each, verdicts, partial(_named, tell, each.label)))
    except KeyboardInterrupt:
        raise Interrupted(f"{len(rows)} of {len(wanted)} designs compared") from None
    return rows


def _named(tell: Callable[[str], None], label: str, text: str) -> None:
    tell(f"; {label}: {text}")


def _loaded(options: PlanOptions, wanted: _Wanted) -> Row:
    """A row, where nothing has been loaded yet."""
    return _row(load_setting(options), wanted, Verdicts(), lambda _: None)


def _row(setting: Setting, wanted: _Wanted, verdicts: Verdicts, progress: Callable[[str], None]) -> Row:
    began = monotonic()
    alone = setting.only(wanted.design, wanted.policy)
    row = Row(wanted.label, wanted.design.name, wanted.policy, not wanted.design.splits, None)
    try:
        if alone.objective == "throughput" and not alone.searching.fast:
            found = largest_throughput(alone, progress, verdicts)
            served = alone.load.factor
            row = replace(
                row,
                plan=confirmed(found.plan, alone),
                failed_rps=None if found.failed_rps is None else found.failed_rps / served,
                passes_again_rps=max(found.passes_again_rps) / served if found.passes_again_rps else None,
            )
        else:
            row = replace(row, plan=best_plan(alone, progress, verdicts))
    except InfeasibleError as error:
        row = replace(row, reason=_reason(error, alone.caps))
    return replace(row, wall_s=monotonic() - began)


def _reason(error: InfeasibleError, caps: Caps) -> str:
    """Why a design has no plan, with the nearest change that would give it one."""
    nearest = f"; nearest: {error.relaxations[0]}" if error.relaxations and not caps.any else ""
    return f"{error}{nearest}"


def _rank(row: Row, objective: str) -> tuple[bool, tuple[float, ...]]:
    """The best first: by throughput, or by the objective and then the other criteria."""
    totals = row.totals()
    if totals is None:
        return True, ()
    if objective == "throughput":
        return False, (-totals["throughput"], totals["cost"])
    return False, (totals[objective], *(totals[criterion] for criterion in CRITERIA))


def _check_baseline(baseline: str | None, wanted: Sequence[_Wanted]) -> None:
    if baseline is not None:
        keys = [Row(each.label, each.design.name, None, False, None).key for each in wanted]
        if baseline.lower() not in (*keys, *map(_family, keys)):
            raise UnknownNameError("baseline", baseline, keys)


def _family(key: str) -> str:
    """A row as it is typed, without tensor parallelism: ``baseline-h100-chunked`` of ``baseline-h100:2-chunked``."""
    return re.sub(r":[\d+]+", "", key)


def _baseline(rows: Sequence[Row], given: str | None, wanted: Sequence[_Wanted]) -> str:
    """The label of the row to compare with: the one asked for, else the first colocated one that has a plan."""
    by_label = {row.label: row for row in rows}
    in_order = [by_label[each.label] for each in wanted]
    if given is not None:
        named = [row for row in in_order if row.key == given.lower()]
        best_first = named or [row for row in rows if _family(row.key) == given.lower()]
        return best_first[0].label
    with_plan = [row for row in in_order if row.plan is not None]
    colocated = [row for row in with_plan if row.colocated]
    return next((row.label for row in (*colocated, *with_plan)), "")


def _warnings(rows: Sequence[Row], known: Sequence[str]) -> tuple[str, ...]:
    """What the plans warn of beside what holds for all, each once with the designs that it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for text in () if row.plan is None else row.plan.warnings:
            if text not in known and not text.startswith("throughput: "):
                about.setdefault(text, []).append(row.label)
        if row.plan is not None and row.plan.objective == "throughput" and row.failed_rps is None:
            for text in row.plan.warnings:
                if text.startswith("throughput: "):
                    about.setdefault(text, []).append(row.label)
    return tuple(f"{'; '.join(labels)}: {text}" for text, labels in about.items())
