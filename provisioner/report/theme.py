"""Colours, dashes and marks of charts and pages: apart for the colour-blind, and without any colour."""

from dataclasses import asdict, dataclass
from typing import Any, Final

Spec = dict[str, Any]  # type: ignore[explicit-any]  # Vega-Lite nests values of every kind
"""A part of a Vega-Lite specification, or a record of its data."""


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a page and of the charts on it. ``series`` are those of curves and bars, in order."""

    paper: str
    ink: str
    soft: str
    line: str
    grid: str
    box: str
    focus: str
    warn: str
    series: tuple[str, ...]

    def variables(self) -> dict[str, str]:
        """The colours by the names that a style sheet has for them."""
        named = {name: colour for name, colour in asdict(self).items() if name != "series"}
        return named | {f"c{k}": colour for k, colour in enumerate(self.series)}


LIGHT: Final = Theme(
    paper="#ffffff",
    ink="#1b1f24",
    soft="#57606a",
    line="#d4d9df",
    grid="#e3e6ea",
    box="#f5f7f9",
    focus="#0b4f9e",
    warn="#8a4b00",
    series=("#0b4f9e", "#dd6b00", "#111111", "#0c8a74", "#c0559e", "#5e560a"),
)
DARK: Final = Theme(
    paper="#15181c",
    ink="#e8eaed",
    soft="#a3abb5",
    line="#3a4048",
    grid="#2b3037",
    box="#1d2126",
    focus="#7db8f5",
    warn="#f0b45a",
    series=("#4f9ff0", "#ff7d26", "#f5f5f5", "#0f9d7c", "#eaa3e4", "#e6d84a"),
)
PAGE: Final = Theme(
    **{name: f"var(--{name})" for name in ("paper", "ink", "soft", "line", "grid", "box", "focus", "warn")},
    series=tuple(f"var(--c{k})" for k in range(len(LIGHT.series))),
)
"""Names of the colours in a page's style sheet, which gives them for light, dark and paper."""

# Lengths of dash, gap, ... in pixels; the first is solid.
DASHES: Final = ([1, 0], [8, 4], [2, 3], [12, 3, 2, 3], [16, 5], [6, 2, 2, 2, 2, 2], [5, 6])
STAR: Final = (
    "M0,-1L0.235,-0.324L0.951,-0.309L0.38,0.124L0.588,0.809L0,0.4L-0.588,0.809L-0.38,0.124L-0.951,-0.309L-0.235,-0.324Z"
)
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", STAR, "triangle-left")

# Cells from small values to large, ever darker, so that black and white keeps the order. At a limit that divides the
# values the colour changes from blue to orange and the lightness jumps.
CELLS: Final = ("#f3f8fd", "#8fbbe0", "#3f7fb8", "#12437a", "#04142b")
CELLS_BELOW: Final = ("#f6fafd", "#bcd9ee", "#7db4dd")
CELLS_ABOVE: Final = ("#d9641c", "#9c2f10", "#5c0f0a")
NO_VALUE: Final = "#9aa2ab"


def config(theme: Theme) -> Spec:
    """The Vega-Lite configuration of every chart in a theme; charts themselves name no colour but those of cells."""
    names = {"labelColor": theme.ink, "labelFontSize": 12, "titleColor": theme.soft, "titleFontSize": 12}
    return {
        "background": None if theme is PAGE else theme.paper,
        "font": 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif',
        "view": {"stroke": None},
        "title": {
            "color": theme.ink,
            "subtitleColor": theme.soft,
            "fontSize": 14,
            "subtitleFontSize": 12,
            "anchor": "start",
            "frame": "group",
            "offset": 12,
        },
        "axis": names
        | {
            "titleFontWeight": "normal",
            "domainColor": theme.ink,
            "gridColor": theme.grid,
            "tickColor": theme.ink,
            "labelLimit": 170,
            "labelOverlap": "greedy",
            "labelSeparation": 4,
        },
        "axisQuantitative": {"tickCount": 6},
        "legend": names
        | {
            "orient": "bottom",
            "direction": "horizontal",
            "titleFontWeight": "normal",
            "labelLimit": 330,
            "titleLimit": 0,
        },
        "range": {"category": list(theme.series)},
        "mark": {"color": theme.series[0]},
        "rule": {"color": theme.ink, "strokeWidth": 1.2},
        "text": {"color": theme.ink, "fontSize": 11},
        "style": {
            "label": {"fill": theme.ink, "fontSize": 11},
            "soft": {"fill": theme.soft, "fontSize": 11, "fontStyle": "italic"},
        },
    }
