"""A plan as a report: the answer first, then pools, latency, the other designs, warnings and evidence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from provisioner.options import PlanOptions, spelled
from provisioner.report.chart import Axis, BarChart, Bars, Chart
from provisioner.report.document import Boxes, Column, Document, Facts, KeyNumber, KeyNumbers, Notes, Table, listing
from provisioner.report.numbers import dollars, milliseconds, per_cent, significant
from provisioner.report.tables import Row, flat
from provisioner.report.views import view
from provisioner.report.views.view import (
    POOL,
    Tables,
    View,
    amount,
    bounds,
    criteria_columns,
    report,
    scaled,
    scheduler,
)
from provisioner.results.plan import (
    CAPACITY,
    ONLY_ONE,
    Alternative,
    Evidence,
    LatencyFigure,
    Neighbour,
    Plan,
    Promise,
    SmallerMachine,
    Splitting,
)
from provisioner.results.robustness import MOST_FACTOR, Failure, Loss, Robustness
from provisioner.specs.criteria import CRITERIA, OF_CLUSTERS, ObjectiveName
from provisioner.specs.money import in_currency
from provisioner.specs.units import format_cost, format_power, format_rate, format_seconds, format_share

_SHOWN_DESIGNS: Final = 16  # other designs that a report shows, in tables and pictures; CSV and JSON have all
_REMARKS: Final = {"binding": "one fewer misses", "extrapolated": "extrapolated", "absent": "no request has it"}
_SHOWN_NEIGHBOURS: Final = 6  # the answer's own, and the next misses of other designs


_BUDGET: Final = (
    Column("token budget", True),
    lambda pool: "" if pool.batch_tokens is None else f"{pool.batch_tokens:,}",
)


def document(plan: Plan, inputs: bool = False) -> Document:
    """The report of a plan. ``inputs`` adds every option."""
    refused = [f"{other.design}: {other.reason}" for other in plan.alternatives if not other.feasible]
    if len(refused) > _SHOWN_DESIGNS:
        refused[_SHOWN_DESIGNS:] = [f"and {len(refused) - _SHOWN_DESIGNS} others"]
    feasible = [other for other in plan.alternatives if other.feasible]
    more = f": {_SHOWN_DESIGNS} of {len(feasible)}" if len(feasible) > _SHOWN_DESIGNS else ""
    pools = listing(
        "Pools",
        plan.pools,
        *POOL[:2],
        (Column("serves", words=True), lambda pool: "" if pool.serves_all else pool.requests),
        *POOL[2:],
        (Column("busy, %" if plan.evidence else "load, %", True), lambda pool: per_cent(pool.utilization)),
        (Column("batch", True), lambda pool: significant(pool.mean_batch)),
        *([_BUDGET] if any(pool.batch_tokens for pool in plan.pools) else []),
        *criteria_columns(("cost", "power")),
        (Column("one machine fewer", words=True), lambda pool: _breaks(pool.binding)),
    )
    blocks = (
        key_numbers(plan),
        engine_flags(plan),
        Boxes(pools, plan.pools),
        latency_table(plan),
        listing(
            f"Other designs, each at its own best{more}",
            feasible[:_SHOWN_DESIGNS],
            (Column("design"), lambda other: other.design),
            (Column("machines", words=True), lambda other: other.cluster.by_role),
            view.degrees(),
            *criteria_columns((*OF_CLUSTERS, "throughput")),
            (Column("against this plan", words=True), lambda other: other.reason),
        ),
        Notes("Designs without a plan", tuple(refused)),
        *(proof_blocks(plan, plan.evidence) if plan.evidence else ()),
        *_failures(plan),
    )
    choice = f"integer program, solver {plan.solver}, optimality gap {plan.gap:g}"
    method = (("latency", plan.method), ("choice", choice), ("seed", str(plan.seed)))
    return report(plan, plan.cluster.headline, subtitle(plan), blocks, method, PlanOptions, inputs)


def charts(plan: Plan) -> Mapping[str, Chart]:
    """Latencies beside their limits, and every design at its own best: by the objective, and by cost."""
    criteria: tuple[ObjectiveName, ...] = (plan.objective, "cost")
    how = "Simulated" if plan.evidence else "Predicted"
    case = f"{plan.cluster}, {plan.workload} on {plan.model} at {format_rate(plan.planned_rate_rps)}"
    latency = view.latency_chart(how, case, plan.latency, lambda figure: figure.slowdown, _note)
    return {"latency": latency, **{name: designs_chart(plan, name) for name in criteria}}


def _note(figure: LatencyFigure) -> str:
    """A percentile with its interval and its limit, and whether one machine fewer misses it; without a limit in ms."""
    limit = figure.limit
    if figure.absent:
        return _REMARKS["absent"]
    if limit is None:
        return f"{milliseconds(figure.seconds)} ms"
    between = figure.seconds_range if limit.kind == "seconds" else figure.slowdown_range
    interval = "" if between is None else f", interval {' to '.join(map(limit.format, between))}"
    remark = f", {_REMARKS['binding']}" if figure.binding else ""
    return f"{limit.format(figure.judged)} of {limit.format(limit.value)}{interval}{remark}"


def designs_chart(plan: Plan, name: ObjectiveName) -> BarChart:
    """The plan's design and the best others by one criterion; those without a plan stay, without a bar."""
    criterion = CRITERIA[name]
    at = "" if name == "throughput" else f" at {format_rate(plan.planned_rate_rps)}"
    others = plan.alternatives[:_SHOWN_DESIGNS]
    texts = (f"{other.cluster.by_role if other.feasible else 'no plan'}: {other.reason}" for other in others)
    which = f", {len(others) + 1} of {len(plan.alternatives) + 1}" if len(plan.alternatives) > len(others) else ""
    return BarChart(
        f"{name.capitalize()} of each design at its own best{which}: {plan.workload} on {plan.model}{at}",
        (f"{plan.design} (this plan)", *(other.design for other in others)),
        Axis(criterion.axis, from_zero=True),
        (Bars("", scaled(name, (plan, *others)), (f"this plan: {plan.cluster.by_role}", *texts)),),
        strong=frozenset({0}),
    )


def subtitle(plan: Plan) -> str:
    """The question that the plan answers, in a sentence."""
    best = CRITERIA[plan.objective].superlative
    if plan.objective == "throughput" and plan.evidence and not plan.evidence.optimal:
        best = "A plan whose throughput is not proven the largest,"
    if (job := plan.batch) is not None:
        return f"{best} for {job.requests:,} requests of {plan.workload} on {plan.model} within {_time(job.within_s)}."
    load, headroom = format_rate(plan.rate_rps), plan.planned_rate_rps / plan.rate_rps - 1.0
    if abs(headroom) >= 1e-9:
        load += f" + {100 * headroom:.3g} % headroom = {format_rate(plan.planned_rate_rps)}"
    within = f"within SLO {plan.slo}" if _limited(plan) else "without latency limits"
    return f"{best} for {plan.workload} on {plan.model} at {load}, {within}."


def _time(seconds: float) -> str:
    """A long time as people say it: 7 h 45 min, 12 min 30 s, 45 s."""
    hours, rest_s = divmod(round(seconds), 3600)
    parts = {"h": hours, "min": rest_s // 60, "s": 0 if hours else rest_s % 60}
    return " ".join(f"{count} {unit}" for unit, count in parts.items() if count) or "0 s"


def _nominal(plan: Plan, nominal: Promise) -> str:
    """The plan without the curves' errors, and what allowing for them costs."""
    if nominal.cost_usd_per_h is None or nominal.rate_rps is None:
        return nominal.reason
    cluster = f"{nominal.design} {nominal.cluster.by_role}"
    if plan.objective == "throughput":
        return f"{cluster} holds {format_rate(nominal.rate_rps)}, without their errors"
    more = format_share(plan.cost_usd_per_h / nominal.cost_usd_per_h - 1.0)
    return f"{cluster} for {format_cost(nominal.cost_usd_per_h)}; allowing for their errors costs {more} more"


def _promise(plan: Plan, promise: Promise) -> str:
    """The price of another SLO: its cost for the same load, or its throughput within the same caps."""
    if promise.cost_usd_per_h is None or promise.power_w is None or promise.rate_rps is None:
        return promise.reason
    cluster = f"{promise.design} {promise.cluster.by_role}"
    if plan.objective == "throughput":
        less = 1.0 - promise.rate_rps / plan.rate_rps
        held = f"{cluster} holds {format_rate(promise.rate_rps)}"
        return f"its promise costs {format_share(less)} of the throughput: {held}"
    ratios = (promise.cost_usd_per_h / plan.cost_usd_per_h, promise.power_w / plan.power_w)
    money, power = (f"{format_share(abs(ratio - 1.0))} {'more' if ratio >= 1.0 else 'less'}" for ratio in ratios)
    usd_per_h, watts = format_cost(promise.cost_usd_per_h), format_power(promise.power_w)
    return f"the same load within it takes {money} money ({usd_per_h}) and {power} power ({watts}): {cluster}"


def _limited(plan: Plan) -> bool:
    return any(figure.limit is not None for figure in plan.latency)


def key_numbers(plan: Plan) -> KeyNumbers:
    """Cost, power and machines, what batch work costs, the limits that bind, and the data behind the latencies."""
    tokens, output = map(dollars, (plan.cost_usd_per_million_tokens, plan.cost_usd_per_million_output_tokens))
    per_million = f"{tokens} per million tokens ({output} of output)"
    machines = f"{plan.machines:,} machine{'s' if plan.machines > 1 else ''}"
    numbers = [amount("cost", plan, per_million), amount("power", plan, machines)]
    if plan.batch or plan.promise or not _limited(plan):
        usd, kwh = (f"{value / 1e6:,.2f} million tokens" for value in (plan.tokens_per_usd, plan.tokens_per_kwh))
        numbers.append(
            KeyNumber("throughput", f"{usd} for {in_currency('$1').replace('$1', 'a dollar')}", f"{kwh} for a kWh")
        )
    if job := plan.batch:
        done = "not simulated" if job.done_s is None else f"the last ends after {_time(job.done_s)}"
        numbers.append(KeyNumber("batch job", f"fed at {format_rate(job.rate_rps)} for {_time(job.feed_s)}; {done}"))
    if plan.promise:
        numbers.append(KeyNumber(f"SLO {plan.promise.slo}", _promise(plan, plan.promise)))
    if plan.nominal:
        numbers.append(KeyNumber("curves as is", _nominal(plan, plan.nominal)))
    hint = "" if plan.question.get("machines") else f"({spelled('instances')})"
    numbers += [KeyNumber("smaller", _smaller(plan, each), hint) for each in plan.smaller]
    binds = f"binding: {', '.join(name for name in plan.binding if name != ONLY_ONE) or 'nothing'}"
    numbers += slack_numbers(plan, binds) or [KeyNumber("binding", binds.partition(": ")[2])]
    numbers += view.attainment_numbers(plan.attainment)
    if plan.splitting:
        numbers.append(KeyNumber("splitting", splitting_text(plan.splitting)))
    if plan.robustness:
        numbers += _robustness_numbers(plan.robustness)
    curves = dict.fromkeys((pool.curves, pool.machine) for pool in plan.pools if pool.curves != "measured")
    kinds = dict.fromkeys(kind for kind, _ in curves)
    data = [f"{kind} for {' and '.join(machine for of, machine in curves if of == kind)}" for kind in kinds]
    if beyond := [pool.role for pool in plan.pools if pool.extrapolated]:
        data.append(f"extrapolated for the {' and the '.join(beyond)} pool{'s' if len(beyond) > 1 else ''}")
    if data:
        numbers.append(KeyNumber("curves", f"{', '.join(data)} (see Warnings)"))
    return KeyNumbers(tuple(numbers))


def splitting_text(found: Splitting) -> str:
    """The gain of splitting: both kinds at their best, with the policies that they were simulated under."""
    split, colocated = found.split, found.colocated
    if split is None or colocated is None or found.gain is None:
        return f"no {'colocated' if split else 'split'} cluster is within the limits"
    shown = CRITERIA[found.criterion]
    sides = [
        f"{each.design} {each.cluster.by_role}{_budgets(each.batch_tokens)}, {shown.amount(getattr(each, shown.field))}"
        for each in (split, colocated)
    ]
    how = f"policies {split.policy} and {colocated.policy}" if split.policy else "by the queueing formulas"
    if not found.budgets_chosen and any(colocated.batch_tokens):
        how += f"; not the best token budgets, for these {spelled('batch_tokens')} all"
    return f"brings {found.gain:.2f}x: {' against '.join(sides)} ({how})"


def _budgets(tokens: Iterable[int | None]) -> str:
    known = [f"{each:,}" for each in tokens if each is not None]
    return f" at {' and '.join(known)} tokens" if known else ""


def _robustness_numbers(found: Robustness) -> list[KeyNumber]:
    """The slowdown and the load up to which the cluster is within its limits, and what the loss of a machine does."""
    prompt, decode, both = found.prompt_time_factor, found.decode_time_factor, found.both_times_factor
    errors = (found.prompt_error, found.decode_error)
    stated = ["not known"] if errors == (None, None) else [_stated(error) for error in errors]
    slower = f"prompt times {_factor(prompt)}, decode {_factor(decode)}, both {_factor(both)}"
    rate = "" if found.rate_factor is None else f", rate {_factor(found.rate_factor)}"
    numbers = [KeyNumber("holds up to", f"{slower}{rate}; stated errors {', '.join(stated)}")]
    return [*numbers, *(KeyNumber(f"lost {loss.role}", _loss(loss)) for loss in found.losses)]


def _stated(error: float | None) -> str:
    return "not known" if error is None else f"{1.0 + error:.2f}x"


def _factor(factor: float) -> str:
    return f"{factor:.2f}x" + (" or more" if factor >= MOST_FACTOR else "")


def _loss(loss: Loss) -> str:
    factor = loss.holds_rate_factor
    parts = [", ".join(loss.breaks) or "still enough"]
    if loss.breaks and factor is not None:
        parts.append(f"holds {factor:.2f}x the rate" if factor else "no load is held")
    if (failure := loss.failure) is not None:
        parts.append(f"restarts: {_mean_count(failure.restarted_requests)}")
        if failure.unserved_requests:
            parts.append(f"never served: {_mean_count(failure.unserved_requests)}")
        elif not loss.breaks and failure.missed is not None:
            parts.append(f"the limits hold again {_recovery(loss, failure)}")
    return "; ".join(parts)


def _mean_count(number: float) -> str:
    """A mean number of requests: 0, 0.6, 4.2, 208."""
    return f"{number:,.{0 if number.is_integer() or number >= 10.0 else 1}f}"


def _recovery(loss: Loss, failure: Failure) -> str:
    """The time from which on the limits hold after a failure; empty without limits."""
    if failure.recovery_s is not None:
        return f"after {format_seconds(failure.recovery_s)}" if failure.recovery_s else "at once"
    if loss.breaks:
        return "no"
    return "" if failure.missed is None else f"not within {format_seconds(failure.within_s)}"


def _failures(plan: Plan) -> Iterator[Table]:
    """One machine of a pool that fails during the run, a row for each pool; nothing without any."""
    found = [(loss, loss.failure) for loss in (plan.robustness.losses if plan.robustness else ()) if loss.failure]
    if found:
        yield listing(
            f"One machine fails at {format_seconds(found[0][1].at_s)} for good",
            found,
            (Column("pool"), lambda each: each[0].role),
            (Column("restarts", True), lambda each: _mean_count(each[1].restarted_requests)),
            (Column("never served", True), lambda each: _mean_count(each[1].unserved_requests)),
            (Column("limit missed most"), lambda each: str(each[1].missed or "")),
            (Column("beyond it, % of later", True), lambda each: per_cent(each[1].beyond_share)),
            (Column("limits hold again"), lambda each: _recovery(*each)),
        )


def _smaller(plan: Plan, machine: SmallerMachine) -> str:
    """A smaller machine that would do, with its price."""
    pool = f"{machine.role}: " if len(plan.pools) > 1 else ""
    cost = "" if machine.cost_usd_per_h is None else f", {format_cost(machine.cost_usd_per_h)}"
    return f"{pool}{machine.gpus} of {machine.of_gpus} GPUs would do: {machine.machine}{cost}"


def engine_flags(plan: Plan) -> Facts:
    """The engine, with the arguments of its command: those of all pools, and those of each."""
    of_pools = [_arguments(pool.engine_arguments) for pool in plan.pools]
    shared = {flag: value for flag, value in of_pools[0].items() if all(each.get(flag) == value for each in of_pools)}
    own = ({flag: value for flag, value in each.items() if flag not in shared} for each in of_pools)
    rows = [("engine", " ".join((plan.engine.partition(" (")[0], *_typed(shared))))]
    rows += [(pool.role, " ".join(_typed(each))) for pool, each in zip(plan.pools, own, strict=True) if each]
    return Facts("", tuple(rows))


def _arguments(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _typed(arguments: Mapping[str, str]) -> Iterable[str]:
    return (f"{flag} {value}" for flag, value in arguments.items())


def slack_numbers(plan: Plan, note: str = "") -> list[KeyNumber]:
    """The least slack of a limit, with a note; none without limits."""
    if plan.tightest is None or plan.tightest.slack is None:
        return []
    which = "; ".join(filter(None, (plan.tightest.label, note)))
    return [KeyNumber("least slack", format_share(plan.tightest.slack), f"({which})")]


def _breaks(binding: Sequence[str]) -> str:
    if not binding:
        return "still enough"
    phrases = {CAPACITY: "overloaded", ONLY_ONE: "none left"}
    limits = ", ".join(name for name in binding if name not in phrases)
    return ", ".join([phrases[name] for name in binding if name in phrases] + [f"misses {limits}"] * bool(limits))


def latency_table(plan: Plan) -> Table:
    """One row per percentile, beside its limit; those that one machine fewer misses stand out."""
    headroom = "" if plan.rate_rps == plan.planned_rate_rps else " with the headroom"
    return listing(
        f"{'Simulated' if plan.evidence else 'Predicted'} latency{headroom}{view.over(plan)}",
        plan.latency,
        (Column("latency"), lambda figure: figure.label),
        (Column("ms", True), lambda figure: milliseconds(figure.seconds)),
        (Column("slowdown, x", True), lambda figure: significant(figure.slowdown)),
        (Column("interval, x", True), lambda figure: " to ".join(map(significant, figure.slowdown_range or ()))),
        (Column("limit", True), lambda figure: figure.limit.format(figure.limit.value) if figure.limit else ""),
        (Column("slack, %", True), lambda figure: per_cent(figure.slack)),
        (Column(""), lambda figure: ", ".join(word for name, word in _REMARKS.items() if getattr(figure, name))),
        strong=lambda figure: figure.binding,
    )


def proof_blocks(plan: Plan, evidence: Evidence) -> tuple[Facts, Table]:
    """The simulations that prove the plan with the rule by which a cluster passes, and the nearest that do not."""
    proven = f"stopped before the end: at most {format_share(evidence.gap)} from the best"
    if plan.objective == "throughput":
        proven = "the cheapest cluster at this rate that passes"
    elif evidence.optimal:
        proven = f"nothing with less {plan.objective} passes, nor a tie that is simpler or has more slack"
    excluded = "more than could be counted" if evidence.cut is None else f"{evidence.cut:,}"
    larger = f"by larger ones that miss a limit by more than {evidence.cut_margin:g}x"
    simulated = f"{evidence.simulated:,} clusters in {evidence.runs:,} runs (policy {evidence.policy})"
    stopped = f"{evidence.rejected_early:,} of them stopped early, {evidence.undecided:,} undecided"
    facts = [
        ("passes when", evidence.rule),
        ("proven", proven),
        ("simulated", f"{simulated}, {stopped}"),
        *scheduler(evidence.policy),
        ("excluded", f"{excluded} clusters {'each alone' if evidence.exhaustive else larger}"),
    ]
    if evidence.violations:
        more = f" and {len(evidence.violations) - 1} more" if len(evidence.violations) > 1 else ""
        facts.append(("not monotone", f"{evidence.violations[0]}{more}"))
    neighbours = listing(
        "Better clusters that do not pass",
        evidence.neighbours[:_SHOWN_NEIGHBOURS],
        (Column("design"), lambda near: near.design),
        (Column("machines", words=True), lambda near: near.cluster.by_role),
        view.degrees(),
        *criteria_columns(("cost", "power")),
        (Column("breaks", words=True), lambda near: ", ".join(near.breaks)),
    )
    return Facts("Proof", tuple(facts)), neighbours


def pool_rows(plan: Plan) -> list[Row]:
    """One row per pool; the columns ``plan_...`` repeat what holds for all of them together."""
    names = ("machines", "cost_usd_per_h", "power_w", "rate_rps")
    totals: Row = {f"plan_{name}": getattr(plan, name) for name in names}
    return [{"design": plan.design, **flat(pool), **totals} for pool in plan.pools]


def latency_rows(plan: Plan) -> list[Row]:
    """One row per metric and percentile; the limit is in ``limit_kind``, intervals are of a simulated plan."""
    return [
        {
            **flat(figure, leave_out=("seconds_range", "slowdown_range")),
            **bounds("seconds", figure.seconds_range),
            **bounds("slowdown", figure.slowdown_range),
            **view.limit_cells(figure.limit),
        }
        for figure in plan.latency
    ]


def _other_rows(others: Iterable[Alternative | Neighbour]) -> list[Row]:
    return [{"split": other.cluster.by_machine, **view.degree_cells(other.cluster), **flat(other)} for other in others]


_TABLES: Final[Tables[Plan]] = {
    "pools": pool_rows,
    "latency": latency_rows,
    "alternatives": lambda plan: _other_rows(plan.alternatives),
    "neighbours": lambda plan: _other_rows(plan.evidence.neighbours if plan.evidence else ()),
}
VIEW: Final = View(Plan, document, charts, _TABLES)
