"""How times are spread, as a picture: for each share of the answers, the time that so many stayed below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from portico.commands.bench.figures import percentile

__all__ = ["picture"]

WIDTH, HEIGHT, LEFT, TOP, BELOW = 640, 240, 60, 40, 40
COLOURS: Final = ("#2563eb", "#d97706")
SHARES: Final = tuple(step / 200 for step in range(201))


def picture(title: str, series: Mapping[str, Sequence[float]]) -> str:
    """An SVG with a plot for each series (name -> sorted seconds) under the title."""
    plots = [
        _plot(name, values, COLOURS[number % len(COLOURS)], TOP + number * (HEIGHT + BELOW))
        for number, (name, values) in enumerate(series.items())
    ]
    height = TOP + len(plots) * (HEIGHT + BELOW)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{LEFT}" y="20" font-weight="bold">{escape(title)}</text>{"".join(plots)}</svg>\n'
    )


def _plot(name: str, values: Sequence[float], colour: str, top: int) -> str:
    most = max(percentile(values, 1.0), 1e-6)
    bottom = top + HEIGHT - 30

    def place(share: float, value: float) -> tuple[float, float]:
        return LEFT + share * WIDTH, bottom - value / most * (HEIGHT - 60)

    points = " ".join("{:.1f},{:.1f}".format(*place(share, percentile(values, share))) for share in SHARES)
    marks = []
    for share in (0.5, 0.9, 0.99):
        x, y = place(share, percentile(values, share))
        marks.append(
            f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{y:.1f}" stroke="#ccc"/>'
            f'<text x="{x:.1f}" y="{y - 4:.1f}" text-anchor="end">p{share * 100:g} '
            f"{percentile(values, share) * 1e3:.3g} ms</text>"
        )
    return (
        f'<text x="{LEFT}" y="{top + 14}">{escape(name)} ({len(values)})</text>'
        f'<line x1="{LEFT}" y1="{bottom}" x2="{LEFT + WIDTH}" y2="{bottom}" stroke="#333"/>'
        f'<text x="{LEFT - 6}" y="{bottom - HEIGHT + 64}" text-anchor="end">{most * 1e3:.3g} ms</text>'
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>'
        f'{"".join(marks)}<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
    )
