"""What customers did with what they were shown, out of the service's log of events: by version, by day, by place.

The unit is the impression: one item in one list (`recommendation`), or without the list's id one item and customer of
one version. It is clicked, put into a cart and bought, or not, however often. What comes without a list's id counts for
the customer's latest impression of the item, up to WINDOW_DAYS before.

A customer's impressions are not independent, so a rate's interval is Wilson's (1927) for as many independent ones as
would vary that much: n over the design effect (Kish 1965, Korn and Graubard 1998) with customers as clusters.
Differences have Newcombe's interval (1998, method 10).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl
import pyarrow as pa

from ..errors import DataError

WINDOW_DAYS = 7
DAY_MS = 86_400_000
FEW_CLICKS = 20  # below, the interval is wider than most improvements
APART = 0.5  # mean places that far apart are told
Z = 1.959964  # of 95 %
OUTCOMES = {"click": "clicks", "cart": "carts", "purchase": "purchases"}
RATES = {"ctr": "clicks", "conversion": "purchases"}
IMPRESSION = ["version", "list", "item"]


def online(events: pa.Table) -> dict[str, Any]:
    """What `evaluate --online --json` prints, but for the shop, out of a table as `read_feedback` gives it.

    Raises:
        DataError: nothing was told to be shown by any version.
    """
    told = pl.DataFrame(pl.from_arrow(events)).sort("at", "number")
    shown = _impressions(told)
    if shown.is_empty():
        raise DataError("no event of kind `shown` names a version; tell /events what was shown (docs/serve.md)")
    done = told.filter(pl.col("kind").is_in(list(OUTCOMES)))
    attributed = _attributed(done, shown)
    seen = _with_outcomes(shown, attributed)
    versions = _table(seen, ["version"])
    return {
        "events": len(told),
        "unattributed": len(done) - len(attributed),
        "versions": versions,
        "days": _table(seen, ["day", "version"]),
        "places": _table(seen.drop_nulls("place"), ["place"]),
        "differences": [_difference(old, new) for old, new in pairwise(versions)],
        "warnings": [*_few(versions), *_not_alike(seen, versions)],
    }


def _impressions(told: pl.DataFrame) -> pl.DataFrame:
    """One row each, the first time it was told."""
    own = pl.concat_str(pl.lit("user "), pl.col("user"))
    return (
        told.filter((pl.col("kind") == "shown") & pl.col("version").is_not_null())
        .with_columns(list=pl.coalesce("recommendation", own), day=pl.from_epoch("at", "ms").dt.strftime("%Y-%m-%d"))
        .unique(IMPRESSION, keep="first", maintain_order=True)
        .select(*IMPRESSION, "recommendation", "user", "place", "at", "day")
    )


def _attributed(done: pl.DataFrame, shown: pl.DataFrame) -> pl.DataFrame:
    """kind and impression of what was done with something shown."""
    of_list = done.filter(pl.col("recommendation").is_not_null()).select("kind", "recommendation", "item")
    by_list = of_list.join(shown.drop_nulls("recommendation"), on=["recommendation", "item"])
    others = done.filter(pl.col("recommendation").is_null()).select("kind", "user", "item", "at", claimed="version")
    by_time = others.join_asof(
        shown.select("user", *IMPRESSION, "at"),
        on="at",
        by=["user", "item"],
        tolerance=WINDOW_DAYS * DAY_MS,
        check_sortedness=False,
    ).filter(pl.col("list").is_not_null() & (pl.col("claimed").is_null() | (pl.col("claimed") == pl.col("version"))))
    return pl.concat([part.select("kind", *IMPRESSION) for part in (by_list, by_time)])


def _with_outcomes(shown: pl.DataFrame, attributed: pl.DataFrame) -> pl.DataFrame:
    """Impressions with a column of 0 or 1 per outcome."""
    for kind, name in OUTCOMES.items():
        happened = (
            attributed.filter(pl.col("kind") == kind).select(IMPRESSION).unique().with_columns(pl.lit(1).alias(name))
        )
        shown = shown.join(happened, on=IMPRESSION, how="left").with_columns(pl.col(name).fill_null(0))
    return shown


def _table(seen: pl.DataFrame, keys: Sequence[str]) -> list[dict[str, Any]]:
    """A row per value of the keys, in their order."""
    groups = sorted(seen.group_by(keys), key=lambda group: group[0])
    return [dict(zip(keys, key, strict=True)) | _row(rows) for key, rows in groups]


def _row(seen: pl.DataFrame) -> dict[str, Any]:
    totals = {name: int(seen[name].sum()) for name in OUTCOMES.values()}
    row: dict[str, Any] = {"impressions": len(seen), "users": seen["user"].n_unique(), **totals}
    for rate, name in RATES.items():
        row[rate] = totals[name] / len(seen)
        row[f"{rate}_ci95"] = list(wilson(row[rate], _independent(seen, name)))
    return row


def _independent(seen: pl.DataFrame, outcome: str) -> float:
    """How many independent impressions would tell as much as these: at least one a customer."""
    users = seen.group_by("user").agg(n=pl.len(), x=pl.col(outcome).sum())
    m, n, share = len(users), len(seen), float(seen[outcome].mean())  # type: ignore[arg-type]
    if m < 2 or share in (0, 1):
        return m
    between = m / (m - 1) * float(((users["x"] - share * users["n"]) ** 2).sum()) / n**2
    return max(n / max(between / (share * (1 - share) / n), 1), 1)


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share among n."""
    middle, width = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max((middle - width) / (1 + Z**2 / n), 0.0), min((middle + width) / (1 + Z**2 / n), 1.0)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What the rates of a version are above those of the one before."""
    row: dict[str, Any] = {"version": new["version"], "before": old["version"]}
    for rate in RATES:
        (low, high), (old_low, old_high) = new[f"{rate}_ci95"], old[f"{rate}_ci95"]
        p, q = new[rate], old[rate]
        row[rate] = p - q
        row[f"{rate}_ci95"] = [p - q - math.hypot(p - low, old_high - q), p - q + math.hypot(high - p, q - old_low)]
    return row


def _few(versions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{row['version']}: {row['clicks']} clicks; with fewer than {FEW_CLICKS} no difference is worth believing"
        for row in versions
        if row["clicks"] < FEW_CLICKS
    ]


def _not_alike(seen: pl.DataFrame, versions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why a difference between two versions may not be theirs."""
    by_version = seen.group_by("version").agg(
        pl.col("place").mean(), first=pl.col("day").min(), last=pl.col("day").max()
    )
    facts = {row["version"]: row for row in by_version.to_dicts()}
    found = []
    for old, new in pairwise(facts[row["version"]] for row in versions):
        names = f"{old['version']} and {new['version']}"
        if old["last"] < new["first"] or new["last"] < old["first"]:
            found.append(f"{names} were shown on other days: a difference may be that of the days")
        if None not in (old["place"], new["place"]) and abs(old["place"] - new["place"]) > APART:
            places = f"{old['place']:.1f} and {new['place']:.1f}"
            found.append(f"{names} were shown at other places (mean {places}): what stands first is looked at first")
    return found
