"""Line charts as SVG, enough for two curves and their axes; matplotlib is no dependency of ours."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 440, 320, 64, 48, 36, 24  # pixels of one chart and its margins
COLOURS = {"native": "#c0392b", "ours": "#1f77b4", "each token once": "#888888"}
_STYLE = "text{font:12px sans-serif;fill:#222}.t{font-weight:bold;font-size:13px}.g{stroke:#ddd}"


@dataclass(frozen=True)
class Line:
    name: str
    points: list[tuple[float, float]]
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    title: str
    x: str
    y: str
    lines: list[Line]


def page(charts: list[Chart]) -> str:
    """The charts beside each other."""
    parts = [f'<g transform="translate({n * WIDTH},0)">{_chart(chart)}</g>' for n, chart in enumerate(charts)]
    size = f'width="{WIDTH * len(charts)}" height="{HEIGHT}"'
    white = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{white}{"".join(parts)}</svg>\n'


def _chart(chart: Chart) -> str:
    points = [point for line in chart.lines for point in line.points]
    x_ticks, y_ticks = _ticks(max(x for x, _ in points)), _ticks(max(y for _, y in points))
    right, low = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at_x(value: float) -> float:
        return LEFT + (right - LEFT) * value / x_ticks[-1]

    def at_y(value: float) -> float:
        return low - (low - TOP) * value / y_ticks[-1]

    drawn = [f'<text class="t" x="{LEFT}" y="20">{escape(chart.title)}</text>']
    for tick in x_ticks:
        x = f"{at_x(tick):.1f}"
        drawn.append(f'<line class="g" x1="{x}" x2="{x}" y1="{TOP}" y2="{low}"/>')
        drawn.append(f'<text x="{x}" y="{low + 16}" text-anchor="middle">{tick:,.0f}</text>')
    for tick in y_ticks:
        y = at_y(tick)
        drawn.append(f'<line class="g" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    drawn.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(chart.x)}</text>')
    middle = (TOP + low) / 2
    drawn.append(f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">{escape(chart.y)}</text>')
    for number, line in enumerate(chart.lines):
        colour = COLOURS.get(line.name, "#222")
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line.points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if line.dots:
            drawn += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in line.points]
        top = TOP + 14 + 16 * number
        drawn.append(f'<line x1="{LEFT + 8}" x2="{LEFT + 30}" y1="{top - 4}" y2="{top - 4}" stroke="{colour}"{dash}/>')
        drawn.append(f'<text x="{LEFT + 36}" y="{top}">{escape(line.name)}</text>')
    return "".join(drawn)


def _ticks(most: float) -> list[float]:
    """From 0 to at least `most`, in four to ten round steps."""
    size = 10.0 ** len(str(int(most)))
    step = next(size * part for part in (0.01, 0.02, 0.025, 0.05, 0.1, 0.2, 0.25) if most / (size * part) <= 6)
    count = int(-(-most // step))
    return [step * n for n in range(count + 1)]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
