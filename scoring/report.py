"""The report page: metrics.json drawn as one HTML file without scripts and without anything from elsewhere.

The template escapes every value, and a content security policy in the page forbids what would slip through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

WIDTH, HEIGHT = 520, 240  # of a chart, in its own units; the page scales it
MARGIN = 46
LINE, ROW = 14, 30  # height of a line of text, and of a row of whiskers
NAME = 26  # characters of a name beside a whisker


def render(document: Mapping[str, Any]) -> str:
    """The page of an evaluation document; sections whose data it lacks are left out."""
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    metric = next(key for key in document["rows"][0] if key.startswith("ndcg@"))
    k = metric.partition("@")[2]
    rows = sorted(document["rows"], key=lambda row: -row[metric])
    return template.render(
        document=document,
        metric=metric,
        k=k,
        rows=rows,
        scatter=scatter([(row["name"], row[f"coverage@{k}"], row[metric]) for row in rows]),
        curves=curves([found for found in document.get("model", {}).get("gnn", []) if found]),
        terms=heaviest(document.get("model", {}).get("weights", {})),
        whiskers=whiskers([row for row in document.get("ablation", []) if row["graph"] != "real"]),
    )


def _scale(low: float, high: float, start: float, end: float) -> Any:
    """A function from [low, high] to [start, end]; a range without extent lies in the middle."""
    if high <= low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _axis(low: float, high: float) -> list[float]:
    """Round marks around [low, high], 0 among them when it lies there: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low, low + 1]
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * power for factor in (10, 5, 2, 1) if (high - low) / (factor * power) >= 4)
    return [step * n for n in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _short(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1] + "…"


def heaviest(weights: Mapping[str, float], most: int = 15) -> list[tuple[str, float]]:
    """The terms that weigh most, and what the GNN's weigh wherever they stand."""
    ranked = sorted(weights.items(), key=lambda term: -term[1])
    return [term for place, term in enumerate(ranked) if place < most or term[0].startswith("gnn.")]


def scatter(points: Sequence[tuple[str, float, float]]) -> dict[str, Any]:
    """Coordinates of (name, x, y) points, both axes from 0; a name stands on the side that has room, free of others."""
    across, up = _axis(0, max(a for _, a, _ in points)), _axis(0, max(b for _, _, b in points))
    x, y = _scale(0, across[-1], MARGIN, WIDTH - 20), _scale(0, up[-1], HEIGHT - 30, 10)
    placed: list[tuple[str, float, float, bool, float]] = []
    for name, a, b in sorted(points, key=lambda point: -point[2]):
        left = x(a) > WIDTH * 0.66
        taken = [there + moved for _, _, there, other, moved in placed if other == left]
        label = max([y(b), *(there + LINE for there in taken if y(b) - there < LINE)])
        placed.append((name, x(a), y(b), left, label - y(b)))
    return {
        "x": [(x(tick), tick) for tick in across],
        "y": [(y(tick), tick) for tick in up],
        "points": placed,
    }


def curves(series: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Coordinates of one line per fold over epochs 1, 2, …; None without a fold."""
    if not series:
        return None
    longest, up = max(map(len, series)), _axis(0, max(map(max, series)))
    x, y = _scale(1, longest, MARGIN + 10, WIDTH - 20), _scale(0, up[-1], HEIGHT - 30, 10)
    return {
        "x": [(x(epoch), epoch) for epoch in range(1, longest + 1)],
        "y": [(y(tick), tick) for tick in up],
        "lines": [[(x(n + 1), y(value)) for n, value in enumerate(found)] for found in series],
    }


def whiskers(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Coordinates of differences with intervals, one below the other, 0 marked."""
    if not rows:
        return None
    low = min(0.0, *(row["ci95"][0] for row in rows))
    high = max(0.0, *(row["ci95"][1] for row in rows))
    marks = _axis(low, high)
    x = _scale(marks[0], marks[-1], 190, WIDTH - 20)
    return {
        "height": ROW * len(rows) + 30,
        "marks": [(x(mark), mark) for mark in marks],
        "rows": [
            (_short(row["graph"]), ROW * (n + 0.5), x(row["ci95"][0]), x(row["difference"]), x(row["ci95"][1]))
            for n, row in enumerate(rows)
        ],
    }
