"""Draw deploy/grafana/portico.json from what a Prometheus has, as one picture: for docs, and where there is no Grafana.

python examples/dashboard.py http://127.0.0.1:9090 [MINUTES] > docs/dashboard.svg
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import httpx

DASHBOARD = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "portico.json"
WIDTH, HEIGHT, GAP, TOP = 384, 232, 12, 34  # of a panel, in pixels; how much of it is its title
COLOURS = ("#3274d9", "#e0752d", "#3f9142", "#b1409a", "#b8860b", "#c4162a", "#5195ce", "#6d6d6d")
POINTS = 120

Series = list[tuple[str, list[tuple[float, float]]]]


def main() -> None:
    """Ask, draw, print."""
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 15.0
    with httpx.Client(base_url=sys.argv[1], timeout=60) as client:
        print(drawn(json.loads(DASHBOARD.read_text()), lambda expr: asked(client, expr, minutes * 60)))


def asked(client: httpx.Client, expr: str, seconds: float) -> list[dict[str, Any]]:
    """What Prometheus has of an expression, as its API gives it. Raises ``ValueError`` for a wrong one."""
    end = time.time()
    step = max(1.0, seconds / POINTS)
    query = expr.replace("$__rate_interval", f"{max(10, int(4 * step))}s").replace("$job", ".*")
    answer = client.get(
        "/api/v1/query_range", params={"query": query, "start": end - seconds, "end": end, "step": step}
    )
    body = answer.json()
    if body["status"] != "success":
        raise ValueError(f"{expr}: {body['error']}")
    result: list[dict[str, Any]] = body["data"]["result"]
    return result


def drawn(dashboard: dict[str, Any], ask: Callable[[str], list[dict[str, Any]]]) -> str:
    """The picture, as SVG."""
    panels = dashboard["panels"]
    rows = math.ceil(len(panels) / 3)
    width, height = 3 * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"',
        ' font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#f4f5f5"/>',
    ]
    for number, panel in enumerate(panels):
        x, y = GAP + number % 3 * (WIDTH + GAP), GAP + number // 3 * (HEIGHT + GAP)
        series = [one for target in panel["targets"] for one in _series(target["legendFormat"], ask(target["expr"]))]
        lines += [f'<g transform="translate({x} {y})">', *_panel(panel, series), "</g>"]
    return "\n".join([*lines, "</svg>"])


def _series(legend: str, found: list[dict[str, Any]]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    for one in found:
        points = [(float(at), float(value)) for at, value in one["values"] if math.isfinite(float(value))]
        name = legend
        for label in re.findall(r"{{(\w+)}}", legend):
            name = name.replace("{{" + label + "}}", str(one["metric"].get(label, "")))
        if points:
            yield name, points


def _panel(panel: dict[str, Any], series: Series) -> Iterator[str]:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" rx="3" fill="#fff" stroke="#dde"/>'
    yield f'<text x="12" y="20" font-weight="bold" fill="#222">{escape(panel["title"])}</text>'
    values = [value for _, points in series for _, value in points]
    if not values:
        yield f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle" fill="#999">nothing happened</text>'
        return
    most = max(values) * 1.1 or 1.0
    first, last = (f(at for _, points in series for at, _ in points) for f in (min, max))
    left, right, low = 48, WIDTH - 12, HEIGHT - 46
    for share in (0.0, 0.5, 1.0):
        y = low - share * (low - TOP)
        yield f'<path d="M{left} {y:.0f}H{right}" stroke="#e8e8ec"/>'
        yield f'<text x="{left - 5}" y="{y + 4:.0f}" text-anchor="end" fill="#666">{_shown(share * most, unit)}</text>'
    for number, (_, points) in enumerate(series[: len(COLOURS)]):
        path = "L".join(
            f"{left + (at - first) / (last - first or 1) * (right - left):.1f} {low - value / most * (low - TOP):.1f}"
            for at, value in points
        )
        yield f'<path d="M{path}" fill="none" stroke="{COLOURS[number]}" stroke-width="1.5"/>'
    x, y = left, HEIGHT - 24
    for number, (name, _) in enumerate(series[: len(COLOURS)]):
        wide = 20 + 6.2 * len(name)
        if x + wide > right:
            x, y = left, y + 15
        yield f'<path d="M{x} {y - 4}h10" stroke="{COLOURS[number]}" stroke-width="3"/>'
        yield f'<text x="{x + 14}" y="{y}" fill="#444">{escape(name)}</text>'
        x += round(wide)


def _shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} us"
    return f"{value:.3g}{' s' if unit == 's' and value else ''}"


if __name__ == "__main__":
    main()
