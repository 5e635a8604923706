"""Bar charts as SVG, readable on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

WIDTH, LABELS, VALUES = 800, 225, 110
ROW, BAR, HEAD, GAP = 26, 16, 34, 12
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
.title { font-weight: 600 } .value { font-variant-numeric: tabular-nums } .unit { fill: #6e7781 }
.ours { fill: #0969da } .kin { fill: #80b4ef } .peer { fill: #a8b1bb } .floor { fill: none; stroke: #a8b1bb }
.spread { stroke: #24292f; stroke-width: 1.5; opacity: .55 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .unit { fill: #8d96a0 } .ours { fill: #4493f8 } .kin { fill: #2a5a97 }
.peer { fill: #5c656e } .floor { stroke: #7d8590 } .spread { stroke: #e6edf3 }
}
"""


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    low: float
    high: float
    text: str
    kind: str  # ours, kin, peer or floor: what it looks like


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    bars: tuple[Bar, ...]

    @property
    def height(self) -> int:
        return HEAD + ROW * len(self.bars) + GAP


def chart(title: str, panels: list[Panel]) -> str:
    """One picture with a panel for each series, the bars of a panel to one scale."""
    height = sum(panel.height for panel in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
    ]
    top = 0
    for panel in panels:
        parts += _panel(panel, top)
        top += panel.height
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: int) -> list[str]:
    scale = (WIDTH - LABELS - VALUES) / max([bar.high for bar in panel.bars] + [1e-9])
    title = f'<tspan class="title">{escape(panel.title)}</tspan> <tspan class="unit">{escape(panel.unit)}</tspan>'
    parts = [f'<text x="0" y="{top + 20}">{title}</text>']
    for number, bar in enumerate(panel.bars):
        parts += _bar(bar, top + HEAD + ROW * number, scale)
    return parts


def _bar(bar: Bar, top: int, scale: float) -> list[str]:
    width, middle = max(bar.value * scale, 1), top + BAR / 2
    low, high = (LABELS + edge * scale for edge in (bar.low, bar.high))
    after = max(LABELS + width, high) + 8
    return [
        f'<text x="{LABELS - 10}" y="{middle + 4.5}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{bar.kind}" x="{LABELS}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>',
        f'<line class="spread" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
        f'<text class="value" x="{after:.1f}" y="{middle + 4.5}">{escape(bar.text)}</text>',
    ]
