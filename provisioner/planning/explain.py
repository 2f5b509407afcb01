"""Reasons for a missing plan, of a question or a design: the limit that binds, and the smallest changes that help."""

import math
from collections.abc import Iterator
from dataclasses import replace

from provisioner.errors import InfeasibleError
from provisioner.options import spelled
from provisioner.options.defaults import LIMIT_NAMES
from provisioner.planning.candidates import Candidates
from provisioner.planning.designs import Design
from provisioner.planning.formulation import CAP_OPTIONS, ROUNDING, Caps, Criterion
from provisioner.planning.search import SMALLEST_RATE_RPS, Best, Search, largest_rate
from provisioner.planning.setting import Setting
from provisioner.results.cluster import Cluster
from provisioner.specs.criteria import CRITERIA
from provisioner.specs.metrics import MEASURED, METRICS
from provisioner.specs.money import shown_in
from provisioner.specs.slo import Attainment, LatencyLimit
from provisioner.specs.traces import Trace

_SUGGESTED = 0.02  # a rate that is suggested is found to this relative tolerance, from below


def why_not(search: Search, design: Design) -> str:
    """The reason why a design has no plan, in one line."""
    option = search.candidates[design]
    if option.reason:
        return option.reason
    if option.unattainable:
        return "; ".join(
            f"{each.limit.label} is at best {each.limit.format(each.best)} at any size "
            f"(limit {each.limit.format(each.limit.value)})"
            for each in option.unattainable
        )
    needs = [
        f"needs {_amount(criterion, best.totals[criterion], search)} (limit {_amount(criterion, cap, search)})"
        for criterion, cap, best in _caps_needed(search, (design,))
    ]
    stock = _stock_needed(search, (design,))
    return "; ".join(text for text in (*needs, stock) if text) or "beyond the limits taken together"


def _amount(criterion: Criterion, value: float, search: Search) -> str:
    with shown_in(search.prices.currency):
        return CRITERIA[criterion].amount(value)


def _caps_needed(search: Search, designs: tuple[Design, ...]) -> Iterator[tuple[Criterion, float, Best]]:
    """Caps that alone are in the way: criterion, cap, and the choice that needs the least without it."""
    for criterion, cap in search.caps.given.items():
        if (best := search.best(designs, criterion, search.caps.without(criterion))) is not None:
            yield criterion, cap, best


def _stock_needed(search: Search, designs: tuple[Design, ...]) -> str:
    """The machines of limited stock that would do, all other limits kept."""
    best = search.best(designs, "machines", replace(search.caps, stock={})) if search.caps.stock else None
    return "" if best is None else _stock_short(search, best)


def _stock_short(search: Search, best: Best) -> str:
    """The machines that a choice takes beyond the stock of their type, as text; empty without any."""
    used, stock = best.design.used(best.sizes), search.caps.stock.items()
    short = [f"{used[name]} {name} (stock {available})" for name, available in stock if used[name] > available]
    return f"needs {', '.join(short)}" if short else ""


def infeasible(setting: Setting, search: Search) -> InfeasibleError:
    """The error for a question without an answer: the binding limit, and the nearest relaxations."""
    possible = tuple(design for design, option in search.candidates.items() if option.feasible)
    least = search.best(possible, setting.criterion, Caps())
    if least is None:
        return _latency_binds(tuple(search.candidates.values()))
    caps, binding, relaxations = search.caps.given, "", []
    for criterion, cap, best in _caps_needed(search, possible):
        amount = f"{cap:.0f}" if criterion == "machines" else _amount(criterion, cap, search)
        needed = best.totals[criterion]
        binding = binding or f"{spelled(CAP_OPTIONS[criterion])} {amount}"
        relaxations.append((needed / cap, f"{raised_cap(criterion, needed)} ({best.design.name})"))
    if stock := _stock_needed(search, possible):
        binding = binding or spelled("stock")
        relaxations.append((math.inf, f"more stock: {stock}"))
    texts = [text for _, text in sorted(relaxations)]
    if not texts:  # raising one alone does not help: every limit at once, to what the choice needs
        changes = [raised_cap(criterion, max(least.totals[criterion], cap)) for criterion, cap in caps.items()]
        changes += [f"more stock: {short}"] if (short := _stock_short(search, least)) else []
        texts.append(f"{' '.join(changes)} ({least.design.name})")
    room = [cap / least.totals[criterion] for criterion, cap in caps.items()]
    rate = _rate_that_fits(setting, least.design, possible, min([*room, 0.5]))
    if rate > 0.0:
        trace = isinstance(setting.source, Trace)
        what = "a trace whose peak rate is, in requests/s," if trace else spelled("rate_rps")
        digit = 10.0 ** (math.floor(math.log10(rate)) - 3)
        below = math.floor(rate / digit * (1.0 + ROUNDING)) * digit  # of four digits
        texts.append(f"{what} {below:.4g} (now {setting.rate_rps:.4g})")
    binding = binding or "the limits together"
    cluster = Cluster(least.design.name, setting.pools(least.design, least.sizes))
    amounts = ((name, value) for name, value in least.totals.items() if name != "complexity")
    totals = ", ".join(_amount(criterion, value, search) for criterion, value in amounts)
    would_do = f"{cluster.design} with {cluster.listed} would do ({totals})"
    message = f"no plan within the limits: {binding} binds; without them {would_do}"
    ratio = min((over for over, _ in relaxations), default=math.inf)
    return InfeasibleError(message, binding=binding, relaxations=texts, miss_ratio=ratio)


def raised_cap(criterion: Criterion, value: float) -> str:
    """A cap that is enough, rounded up to a whole number, as the caller writes it."""
    return f"{spelled(CAP_OPTIONS[criterion])} {math.ceil(value * (1.0 - ROUNDING)):d}"


def _latency_binds(options: tuple[Candidates, ...]) -> InfeasibleError:
    """No size of any design meets the latency limits: name the limit of the design that comes nearest."""
    attained = [option for option in options if option.unattainable]
    if not attained:
        reasons = "; ".join(dict.fromkeys(option.reason for option in options if option.reason))
        return InfeasibleError(f"no design can serve this: {reasons}", binding="memory")
    nearest = min(attained, key=lambda option: max(each.best / each.limit.value for each in option.unattainable))
    worst = max(nearest.unattainable, key=lambda each: each.best / each.limit.value)
    floor = METRICS[worst.limit.metric].floor
    message = (
        f"{worst.limit.label} of {worst.limit.format(worst.limit.value)} is below {floor} on every machine: "
        f"{worst.limit.format(worst.best)} at best, on {worst.where}"
    )
    changes = " ".join(raised(each.limit, 1.005 * each.best) for each in nearest.unattainable)
    return InfeasibleError(
        message,
        binding=worst.limit.label,
        relaxations=(f"{changes} ({nearest.design.name})",),
        miss_ratio=worst.best / worst.limit.value,
    )


def raised(limit: LatencyLimit, value: float) -> str:
    """A limit raised to a value, as the caller writes it."""
    if isinstance(limit, Attainment):
        return " ".join(raised(each, value * each.value) for each in limit.limits)
    text = f"{value:.4g}x" if limit.kind == "slowdown" else f"{math.ceil(value * 1e4) / 10.0:.1f}ms"
    if limit.name in (*LIMIT_NAMES, *MEASURED):
        return f"{spelled(limit.name)} {text}"
    return f"{spelled('limits')} {limit.name.replace('_', '-')}={text}"


def _rate_that_fits(setting: Setting, design: Design, possible: tuple[Design, ...], guess: float) -> float:
    """The largest rate of a design, or else of a colocated one; 0 for none. ``guess`` is its part of the rate asked."""
    colocated = tuple(other for other in possible if not (other.splits or other.shares_role or other == design))
    for each in (design, *colocated):

        def feasible_at(rate_rps: float, each: Design = each) -> bool:
            return setting.search(setting.traffic_at(rate_rps), designs=(each,)).best((each,), "cost") is not None

        if feasible_at(SMALLEST_RATE_RPS):
            rate, _ = largest_rate(feasible_at, max(setting.traffic.peak_rps * guess, SMALLEST_RATE_RPS), _SUGGESTED)
            return rate / setting.headroom_factor
    return 0.0
