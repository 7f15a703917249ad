"""Charts as SVG, written by hand: horizontal bars with a spread, and lines on linear or logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP = 760, 230, 90, 54
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#97266d", "#4a5568")
OURS, OTHERS = "#2b6cb0", "#a0aec0"
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#4a5568}.t{font-size:15px;font-weight:600;fill:#2d3748}"
    ".n{font-size:11px}</style>"
)


@dataclass(frozen=True)
class Bar:
    """One bar: what, how much, from and to in the runs, and whether it is ours."""

    label: str
    value: float
    low: float
    high: float
    ours: bool = False


@dataclass(frozen=True)
class Line:
    """One line: name and points."""

    name: str
    points: Sequence[tuple[float, float]]


def number(value: float) -> str:
    """A figure for a label: three digits that count."""
    if value == 0 or not math.isfinite(value):
        return "0"
    if abs(value) >= 1_000_000:
        return f"{value / 1_000_000:.3g} M"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bars(title: str, under: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars; the thin line shows the least and the greatest run."""
    height, top = TOP + 28 * len(rows) + 14, max((row.high for row in rows), default=1.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top
    parts = _head(title, under, height)
    for at, row in enumerate(rows):
        y = TOP + 28 * at
        width = row.value * scale
        fill = OURS if row.ours else OTHERS
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(row.label)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="19" fill="{fill}"/>')
        if row.high > row.low:
            line = f'x1="{LEFT + row.low * scale:.1f}" x2="{LEFT + row.high * scale:.1f}"'
            parts.append(f'<line {line} y1="{y + 9.5}" y2="{y + 9.5}" stroke="#1a202c" stroke-width="1.5"/>')
        beyond = LEFT + max(row.high, row.value) * scale + 6
        parts.append(f'<text class="n" x="{beyond:.1f}" y="{y + 14}">{number(row.value)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def lines(title: str, under: str, series: Sequence[Line], *, log: bool = False, height: int = 320) -> str:
    """Lines over a common axis; with ``log`` both axes are logarithmic."""

    def along(value: float) -> float:
        return math.log10(max(value, 1e-9)) if log else value

    points = [point for line in series for point in line.points]
    xs, ys = [along(x) for x, _ in points], [along(y) for _, y in points]
    x0, x1 = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    y0, y1 = (min(ys) if log else 0.0), max(ys) if max(ys) > (min(ys) if log else 0.0) else max(ys) + 1
    left, right, bottom = 70, 180, height - 34

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (along(x) - x0) / (x1 - x0) * (WIDTH - left - right)
        return across, bottom - (along(y) - y0) / (y1 - y0) * (bottom - TOP)

    parts = _head(title, under, height)
    for step in range(5):
        share = step / 4
        y_value, x_value = y0 + share * (y1 - y0), x0 + share * (x1 - x0)
        y, x = bottom - share * (bottom - TOP), left + share * (WIDTH - left - right)
        shown_y, shown_x = (10**y_value, 10**x_value) if log else (y_value, x_value)
        parts.append(f'<line x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e8f0"/>')
        parts.append(f'<text class="n" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{number(shown_y)}</text>')
        parts.append(f'<text class="n" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{number(shown_x)}</text>')
    for at, line in enumerate(series):
        colour = COLOURS[at % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(line.points) < 12:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                for x, y in (place(*point) for point in line.points)
            ]
        y = TOP + 18 * at + 8
        parts.append(f'<rect x="{WIDTH - right + 14}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text class="n" x="{WIDTH - right + 30}" y="{y}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _head(title: str, under: str, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>{STYLE}',
        f'<text class="t" x="14" y="22">{escape(title)}</text>',
        f'<text class="n" x="14" y="40">{escape(under)}</text>',
    ]
