"""Charts as inline SVG: no script, no file beside, colours from the page's style."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ilm_lightning.reporting.text import html

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 42
COLOURS, DASHES = 8, 3
MOST_DOTS = 12
"""A line with more points has no dots."""
Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: in the legend; empty for a second line of the same thing.
        place: of the colour.
        xs: rising.
        ys: one per x.
        spread: half height of the bar at each point, None for none.
        faint: drawn thin, without points.
    """

    label: str
    place: int
    xs: Sequence[float]
    ys: Sequence[float]
    spread: Sequence[float | None] = ()
    faint: bool = False


def style_of(place: int) -> str:
    """CSS classes of a colour and, past the eighth, a dash."""
    dash = place // COLOURS % DASHES
    return f"c{place % COLOURS}" + (f" dash{dash}" if dash else "")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span a range.

    >>> ticks(0.2, 9.1)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * min((f for f in (1, 2, 2.5, 5, 10) if f * unit >= raw), default=10)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * place, 10) for place in range(first, last + 1)]


def numbers(values: Sequence[float]) -> list[str]:
    """Evenly spaced numbers as labels: no two alike, none wider than the axis.

    >>> numbers([0.0, 2.5, 5.0]), numbers([0.0, 2e-5, 4e-5]), numbers([0.0, 2e6])
    (['0.0', '2.5', '5.0'], ['0', '2e-5', '4e-5'], ['0', '2e6'])
    """
    step = abs(values[1] - values[0])
    digits = next((d for d in range(4) if math.isclose(round(step, d), step, rel_tol=1e-6)), None)
    if digits is not None and max(map(abs, values)) < 1e5:
        return [f"{value:.{digits}f}" for value in values]
    return [re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), f"{value:.3g}") for value in values]


def line_chart(
    title: str,
    note: str,
    lines: Sequence[Line],
    x_label: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    with_legend: bool = True,
) -> str:
    """Draw lines.

    Args:
        title: above the chart.
        note: below the title.
        lines: at least one with a point; values that are no numbers are left out.
        x_label: under the axis.
        x_ticks: place and text; None takes round numbers.
        with_legend: name the lines below.

    Returns:
        A ``figure`` element.
    """
    points = [(x, y, s or 0.0) for line in lines for x, y, s in _known(line)]
    if not points:
        return ""
    rows = ticks(min(y - s for _, y, s in points), max(y + s for _, y, s in points))
    x_low, x_high = _ends([p[0] for p in points] + [x for x, _ in x_ticks or ()])
    marks = x_ticks or [(x, f"{x:g}") for x in ticks(x_low, x_high, 4) if x_low <= x <= x_high]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - rows[0]) / (rows[-1] - rows[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html(title)}">']
    for y, text in zip(rows, numbers(rows), strict=True):
        _, v = at(x_low, y)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{v + 4:.1f}" text-anchor="end">{text}</text>')
    for x, text in marks:
        u, _ = at(x, rows[0])
        parts.append(f'<text x="{u:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{html(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{html(x_label)}</text>')
    parts += [_line(line, at) for line in lines]
    parts.append("</svg>")
    named = [(line.label, line.place) for line in lines if line.label]
    small = f"<small>{html(note)}</small>" if note else ""
    below = legend(named) if with_legend else ""
    return f"<figure><figcaption>{html(title)}{small}</figcaption>{''.join(parts)}{below}</figure>"


def legend(named: Sequence[tuple[str, int]]) -> str:
    """Names of lines with their colours."""
    items = "".join(f'<li class="{style_of(place)}">{html(label)}</li>' for label, place in named)
    return f'<ul class="legend">{items}</ul>'


def _line(line: Line, at: Place) -> str:
    known = _known(line)
    path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y, _ in known)
    parts = [f'<g class="{style_of(line.place)}">']
    dash = " ".join(part for part in style_of(line.place).split() if part.startswith("dash"))
    parts.append(f'<polyline class="line {"faint" if line.faint else ""} {dash}" points="{path}"/>')
    for x, y, spread in known if not line.faint and len(known) <= MOST_DOTS else []:
        u, v = at(x, y)
        said = f"{line.label}: {x:g}, {y:.4g}" + (f" ± {spread:.2g}" if spread else "")
        if spread:
            _, top = at(x, y + spread)
            _, bottom = at(x, y - spread)
            parts.append(f'<line class="bar" x1="{u:.1f}" x2="{u:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<circle class="dot" cx="{u:.1f}" cy="{v:.1f}" r="4"><title>{html(said)}</title></circle>')
    return "".join([*parts, "</g>"])


def _known(line: Line) -> list[tuple[float, float, float | None]]:
    spread = line.spread or [None] * len(line.xs)
    return [(x, y, s) for x, y, s in zip(line.xs, line.ys, spread, strict=True) if math.isfinite(y)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def bars(rows: Sequence[tuple[str, float, float | None, float | None]], place: int, top: float) -> str:
    """Horizontal bars with a tick each for the blind control and for kNN copy.

    Args:
        rows: name, value, blind, kNN copy.
        place: of the colour.
        top: value of a full bar.
    """

    def share(value: float) -> str:
        return f"{100 * min(max(value / top, 0.0), 1.0):.1f}%"

    cells = []
    for name, value, blind, copy in rows:
        marks = "" if blind is None else f'<i style="left:{share(blind)}" title="blind {blind:.1f}"></i>'
        marks += "" if copy is None else f'<i class="copy" style="left:{share(copy)}" title="kNN copy {copy:.1f}"></i>'
        cells.append(f'<span>{html(name)}</span><span class="track"><b style="width:{share(value)}"></b>{marks}</span>')
        cells.append(f"<span>{value:.1f}</span>")
    return f'<div class="bars {style_of(place)}">{"".join(cells)}</div>'


def forest(mean: float, low: float, high: float, reach: float) -> str:
    """An interval around zero.

    Args:
        mean: the point.
        low: lower end.
        high: upper end.
        reach: value at either edge.
    """

    def at(value: float) -> float:
        return 50 + 50 * max(min(value / reach, 1.0), -1.0)

    width = at(high) - at(low)
    return (
        f'<span class="forest"><b style="left:{at(low):.1f}%;width:{width:.1f}%"></b>'
        f'<i style="left:{at(mean):.1f}%"></i></span>'
    )
