"""Charts that are hard to draw: many series, one point, nothing, long names, zeros on logarithmic axes, no end."""

from __future__ import annotations

from math import exp, inf, nan

from provisioner.report.chart import Axis, BarChart, Bars, Chart, HeatMap, LineChart, Mark, Rule, Series

LONG = "a name so long that it would never fit into the margin of a picture, however wide that picture is"
EVIL = "</script><script>alert('1')</script> \" & <b>$5 and $6</b> --> \u2028"

_RATES = tuple(float(rate) for rate in range(30, 251, 20))


def _cell(row: int, column: int) -> float | None:
    value = max(28 / (row + 1), 3 / (column + 1)) ** 3
    return None if row + column < 4 else inf if value > 3000 else value


_GRID = tuple(tuple(_cell(row, column) for column in range(40)) for row in range(40))
_PASS = frozenset((r, c) for r, row in enumerate(_GRID) for c, value in enumerate(row) if value and value <= 1)

CHARTS: dict[str, Chart] = {
    "curves": LineChart(
        "Largest percentile over its limit",
        Axis("rate (requests/s)"),
        Axis("percentile over its limit (x)", logarithmic=True),
        tuple(
            Series(
                f"Splitwise-{k}",
                _RATES,
                tuple(0.3 + (rate / (120 + 25 * k)) ** 6 if rate < 180 else inf if k % 2 else None for rate in _RATES),
                notes=tuple(f"binding TTFT P99 at {rate:g}" for rate in _RATES),
            )
            for k in range(4)
        ),
        (Rule(1.0, "limit"), Rule(145.0, "HH misses its limits from here", "x")),
    ),
    "twelve": LineChart(
        f"Twelve: {LONG}",
        Axis("x (1)"),
        Axis("y (ms)", from_zero=True),
        tuple(
            Series(f"series number {k}", tuple(map(float, range(12))), tuple(10.0 * k + i * i * 0.3 for i in range(12)))
            for k in range(12)
        ),
        tuple(Rule(value, f"limit of {value:g} ms") for value in (100.0, 102.0, 104.0, 40.0)),
    ),
    "one point": LineChart(
        "One", Axis("rate (requests/s)"), Axis("latency (s)"), (Series("only", (70.0,), (0.3,), (0.2,), (0.5,)),)
    ),
    "none": LineChart("None", Axis("x (s)"), Axis("y (s)"), (Series("a", (1.0, 2.0), (None, nan)),)),
    "no series": LineChart("No series", Axis("x (s)"), Axis("y (s)"), ()),
    "log with zero": LineChart(
        "Zeros",
        Axis("requests", logarithmic=True),
        Axis("share (%)", logarithmic=True),
        (
            Series("a", (0.0, 1.0, 3.0, 300.0), (0.0, 0.02, 5.0, 100.0)),
            Series("b", (0.0, 2.0), (-3.0, None)),
            Series("zero", (0.0,), (0.0,)),
        ),
        steps=True,
        points=False,
    ),
    "steps": LineChart(
        "Share of time with at most N requests",
        Axis("requests in an iteration", logarithmic=True),
        Axis("share of time (%)", from_zero=True),
        (Series("token", tuple(map(float, range(300))), tuple(100 * (1 - exp(-k / 18)) for k in range(300))),),
        steps=True,
        points=False,
    ),
    "intervals": LineChart(
        "Intervals",
        Axis("rate (requests/s)"),
        Axis("latency (ms)", from_zero=True),
        tuple(
            Series(f"{n} points", tuple(map(float, range(n))), (5.0,) * n, (4.0,) * (n - 1) + (None,), (7.0,) * n)
            for n in (5, 60)
        ),
    ),
    "bars": BarChart(
        "Throughput at the power of 40 DGX-H100",
        ("Splitwise-AA", "Splitwise-HH", "Splitwise-HHcap", "Baseline-A100"),
        Axis("throughput (requests/s)", from_zero=True),
        (Bars("throughput", (110.0, 146.0, 150.5, None), ("", "", "", "no plan: TTFT P99 is out of reach")),),
        (Rule(101.0, "Baseline-H100"),),
    ),
    "groups": BarChart(
        "Over Baseline-A100",
        ("throughput", "cost", "power", "machines"),
        Axis("ratio (x)", from_zero=True),
        tuple(Bars(f"Splitwise-{k}", tuple(1 + 0.3 * k + 0.1 * j for j in range(4))) for k in range(7)),
    ),
    "tornado": BarChart(
        "Cost when an input changes by a fifth",
        ("price", LONG, "rate", "nothing"),
        Axis("cost ($/h)"),
        (Bars("20 % lower", (430.0, 500.0, 523.44, None)), Bars("20 % higher", (600.0, 540.0, 560.0, None))),
        (Rule(523.44, "now: $523.44/h of $600/h"),),
        base=523.44,
    ),
    "many long names": BarChart(
        "Long",
        tuple(f"{k}: {LONG}" for k in range(12)),
        Axis("value (x)", logarithmic=True),
        (
            Bars("a", tuple(0.0 if k == 3 else 10.0**k for k in range(12))),
            Bars("b", tuple(inf if k == 5 else None if k % 4 == 0 else 2.0**k for k in range(12))),
        ),
    ),
    "no bars": BarChart("No bars", (), Axis("cost ($/h)"), ()),
    "nothing but none": BarChart("None", ("a", "b"), Axis("cost ($/h)"), (Bars("c", (None, nan)),)),
    "negative": BarChart("Below", ("a", "b"), Axis("change (%)"), (Bars("c", (-3.0, -7.5)), Bars("d", (-1.0, 2.0)))),
    "grid": HeatMap(
        "Splitwise-HH: largest percentile over its limit",
        Axis("token machines"),
        Axis("prompt machines"),
        Axis("largest percentile over its limit (x)", logarithmic=True),
        tuple(float(k + 1) for k in range(40)),
        tuple(float(k + 1) for k in range(40)),
        _GRID,
        tuple(tuple(f"binding TTFT P99 of {r + 1} + {c + 1}" for c in range(40)) for r in range(40)),
        1.0,
        (Mark(27, 2, "star", "optimum: 28 + 3, $1,178/h"), *(Mark(30, k, "dot", f"number {k}") for k in range(3, 9))),
        _PASS,
        "meets every limit",
    ),
    "names": HeatMap(
        "Should I split at all?",
        Axis("prompt : output"),
        Axis("rate (requests/s)"),
        Axis("cost of splitting (%)"),
        ("1:1", "4:1", LONG),
        (10.0, 30.0, 100.0),
        ((5.0, -2.0, None), (3.0, -12.0, -20.0), (1.0, -15.0, 30.0)),
        (),
        0.0,
        (Mark(1, 2, "star", "most gained"), Mark(0, 2, "cross", "no plan")),
        frozenset({(1, 1), (1, 2)}),
        "splitting pays by a tenth",
    ),
    "many names": HeatMap(
        "Designs",
        Axis("design"),
        Axis("model"),
        Axis("cost ($/h)"),
        tuple(f"Splitwise-{k:02d} of many" for k in range(24)),
        ("llama2-70b", LONG),
        (tuple(map(float, range(24))), tuple(map(float, range(24)))),
    ),
    "one cell": HeatMap(
        "One",
        Axis("token machines"),
        Axis("prompt machines"),
        Axis("ratio (x)"),
        (3.0,),
        (27.0,),
        ((0.97,),),
        middle=1.0,
    ),
    "empty cells": HeatMap(
        "Nothing",
        Axis("x"),
        Axis("y"),
        Axis("ratio (x)", logarithmic=True),
        (1.0, 2.0),
        (1.0,),
        ((None, nan),),
        (),
        1.0,
    ),
    "unbounded cells": HeatMap("No end", Axis("x"), Axis("y"), Axis("ratio (x)"), (1.0, 2.0), (1.0,), ((inf, 2.0),)),
    "equal cells": HeatMap("Equal", Axis("x"), Axis("y"), Axis("ratio (x)"), (1.0, 2.0), (1.0,), ((2.0, 2.0),)),
    "no cells": HeatMap("No cells", Axis("x"), Axis("y"), Axis("ratio (x)"), (), (), ()),
    "evil": BarChart(EVIL, (EVIL, "b"), Axis(EVIL), (Bars(EVIL, (1.0, None), (EVIL, EVIL)),), (Rule(0.5, EVIL),)),
    "evil curves": LineChart(
        EVIL,
        Axis(EVIL),
        Axis(EVIL),
        (Series(EVIL, (1.0, 2.0), (1.0, inf), (), (), (EVIL, EVIL)),),
        (Rule(1.5, EVIL, "x"),),
    ),
    "evil cells": HeatMap(
        EVIL,
        Axis(EVIL),
        Axis(EVIL),
        Axis(EVIL),
        (EVIL, "b"),
        (EVIL,),
        ((1.0, None),),
        ((EVIL, EVIL),),
        2.0,
        (Mark(0, 0, "dot", EVIL),),
        frozenset({(0, 0)}),
        EVIL,
    ),
}
