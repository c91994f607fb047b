"""Documents of an evaluation as text for a terminal."""

from __future__ import annotations

from typing import Any


def table_of_events(document: dict[str, Any]) -> str:
    """What `evaluate --online` found, by version, day and place."""
    lines = [f"{document['shop']}: events: {document['events']:,}, of nothing shown: {document['unattributed']:,}"]
    heading = f"{'impressions':>12}{'clicks':>9}{'carts':>8}{'bought':>8}{'clicked':>10}{'95 % interval':>20}"
    heading += f"{'bought':>10}{'95 % interval':>20}"
    for title, keys, rows in (
        ("version", ("version",), document["versions"]),
        ("day, version", ("day", "version"), document["days"]),
        ("place", ("place",), document["places"]),
    ):
        lines.append(f"{title:<26}" + heading)
        lines += [f"{' '.join(str(row[key]) for key in keys):<26}" + _counts(row) + _rates(row) for row in rows]
    lines += [f"{row['version']} - {row['before']}".ljust(63) + _rates(row, "+") for row in document["differences"]]
    return "\n".join([*lines, *(f"caution: {warning}" for warning in document["warnings"])])


def _counts(row: dict[str, Any]) -> str:
    return f"{row['impressions']:>12,}{row['clicks']:>9,}{row['carts']:>8,}{row['purchases']:>8,}"


def _rates(row: dict[str, Any], sign: str = "") -> str:
    parts = []
    for rate in ("ctr", "conversion"):
        low, high = (f"{bound:{sign}.4f}" for bound in row[f"{rate}_ci95"])
        parts.append(f"{row[rate]:>{sign}10.4f}{f'[{low}, {high}]':>20}")
    return "".join(parts)


def table_of_rows(document: dict[str, Any]) -> str:
    """The methods of an evaluation, the worst first, and what the ablation lost."""
    columns = [key for key in document["rows"][0] if key not in ("name", "setting", "std")]
    recall = "" if document["pool_recall"] is None else f", pool recall {document['pool_recall']:.3f}"
    lines = [f"{document['shop']}: {document['users']:,} users, {document['items']:,} items{recall}"]
    lines.append(f"{'':<18}" + "".join(f"{name:>15}" for name in columns))
    for row in sorted(document["rows"], key=lambda row: row[columns[0]]):
        lines.append(f"{row['name']:<18}" + "".join(f"{row[name]:>15.4f}" for name in columns))
    lines += [f"{name}: left out, {why}" for name, why in document["left_out"].items()]
    lines += _lines_of_ablation(document["ablation"], columns[0]) if "ablation" in document else []
    lines += [document["gnn"]] if document.get("gnn") else []
    lines += [f"caution: {warning}" for warning in document["warnings"]]
    return "\n".join(lines)


def _lines_of_ablation(rows: list[dict[str, Any]], metric: str) -> list[str]:
    widest = max(len(row["graph"]) for row in rows) + 6
    lines = [f"{'':<{widest}}{metric:>15}{'real - this':>15}{'95 % interval':>20}"]
    for row in rows:
        low, high = row["ci95"]
        told = "" if row["graph"] == "real" else f"{row['difference']:>15.4f}{f'[{low:.4f}, {high:.4f}]':>20}"
        name = f"graph {row['graph']}"
        lines.append(f"{name:<{widest}}{row[metric]:>15.4f}{told}")
    return lines
