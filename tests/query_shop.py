"""A shop to ask questions of, and every named query's answer worked out in plain Python.

Skewed, so that hubs and single values both occur, with what breaks queries planted: ids with quotes and letters beyond
the basic plane, titles and prices that are missing, one title and one value written twice, an item without attributes,
items nobody has, a customer with nothing but held-out events, two labels that share ids.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pyarrow as pa

from catalograph.config import ShopConfig
from catalograph.kg.writeback import Publication
from catalograph.loaders.catalogue import EdgeKey

DAY = 86_400_000
START = 1_700_000_000_000
HIDDEN = {"HELD_OUT"}


@dataclass
class Shop:
    """Labels and rows as a shop has them; `facts` are (item, relation, label, id)."""

    item: str = "Item"
    user: str = "User"
    baskets: str | None = "BOUGHT_TOGETHER"
    title: str | None = "name"
    nodes: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    edges: dict[tuple[str, str, str], list[dict[str, object]]] = field(default_factory=dict)
    kinds: dict[str, pa.DataType] = field(default_factory=dict)

    def config(self):
        baskets = {"baskets": {"relation": self.baskets}} if self.baskets else {}
        items = {"label": self.item, "file": "items.csv", "title": self.title}
        log = {"file": "log.csv", "time": "at"}
        return ShopConfig.model_validate(
            {"shop": {"name": "asked"}, "items": items, "users": {"label": self.user}, "interactions": log, **baskets}
        )

    def tables(self):
        nodes = {label: self._table(rows, ("id",)) for label, rows in self.nodes.items()}
        edges = {EdgeKey(*key): self._table(rows, ("source", "target")) for key, rows in self.edges.items()}
        return nodes, edges

    def lists(self, version):
        """relation -> source -> targets, best first, as a first and a second version of a model might say."""
        items, users = ([row["id"] for row in self.nodes[label]] for label in (self.item, self.user))
        similar = {item: items[15 + n : 18 + n] for n, item in enumerate(items[:15])}
        if version == 2:
            changed = ([0, 1, 2], [1, 0, 2], [1, 5, 2])  # the same; two change places; one is new, one goes up
            similar = {item: [items[15 + n + m] for m in changed[n % 3]] for n, item in enumerate(similar)}
        listed = {user: [items[n], items[n + 20], items[-1 - n]] for n, user in enumerate(users[:5])}
        return {"SIMILAR_TO": similar, "RECOMMENDED": listed}

    def publications(self):
        """Both versions, in order."""
        labels = {"SIMILAR_TO": self.item, "RECOMMENDED": self.user}
        for version in (1, 2):
            lists = {}
            for relation, found in self.lists(version).items():
                rows = [(s, t, 1 / (2 + n), n) for s, targets in found.items() for n, t in enumerate(targets, 1)]
                names = ("source", "target", "score", "rank")
                columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
                lists[EdgeKey(labels[relation], relation, self.item)] = pa.table(columns)
            yield Publication(f"v{version}", lists)

    def _table(self, rows, keys):
        names = list(dict.fromkeys([*keys, *(name for row in rows for name in row)]))
        return pa.table({n: pa.array([row.get(n) for row in rows], self.kinds.get(n, pa.string())) for n in names})


KINDS = {
    "price": pa.float64(),
    "count": pa.int64(),
    "first_at": pa.int64(),
    "last_at": pa.int64(),
}


def skewed(seed=0, users=90, items=60, *, item="Item", user="User", baskets="BOUGHT_TOGETHER"):
    """The large one."""
    random = np.random.default_rng(seed)
    shop = Shop(item=item, user=user, baskets=baskets, kinds=KINDS)
    odd = ["it's", 'a "quoted" one', "back\\slash", "`tick`", "ｚ wide", "😀", "é", " spaced ", "x'}) RETURN 1 //"]
    ids = odd + [f"i{n:03}" for n in range(items - len(odd))]
    people = ["o'neil", "ü", *(f"u{n:03}" for n in range(users - 2))]
    titles = [f"Thing {n % 45}" for n in range(items)]
    titles[10:14] = ["Red-Mug", "RED MUG", "red, mug.", None]
    prices = [round(float(p), 2) for p in random.lognormal(1, 0.5, items)]
    prices[5], prices[20], prices[21] = None, 900.0, 0.01
    shop.nodes[item] = [
        {"id": id_, "name": title, "price": price} for id_, title, price in zip(ids, titles, prices, strict=True)
    ]
    shop.nodes[user] = [{"id": id_, "country": "x"} for id_ in [*people, "only held out"]]
    facts = _facts(random, ids)
    for (relation, label), pairs in facts.items():
        if label != "Item":
            known = {row["id"] for row in shop.nodes.get(label, [])}
            new = sorted({t for _, t in pairs} - known)
            shop.nodes.setdefault(label, []).extend({"id": t, "name": t.title()} for t in new)
        shop.edges[item, relation, item if label == "Item" else label] = [{"source": s, "target": t} for s, t in pairs]
    shop.nodes["Group"] = [{"id": "g", "name": None}]
    shop.edges["Brand", "SUBCATEGORY_OF", "Group"] = [
        {"source": row["id"], "target": "g"} for row in shop.nodes["Brand"]
    ]
    _log(random, shop, ids[:-4], people)
    return shop


def _facts(random, ids):
    weight = 1 / np.arange(1, 9)
    colours = [f"colour {n}" for n in range(8)]
    brands = ["acme", "Ac-me", "ACME.", "bolt", "core", "dune", "elan", "fern"]
    facts = {}
    told = ids[:-1]  # the last item is an orphan
    facts["MADE_BY", "Brand"] = [(i, random.choice(brands, p=weight / weight.sum())) for i in told[:-6]]
    several = [(i, c) for i in told for c in random.choice(colours, random.integers(1, 4), replace=False)]
    facts["HAS_COLOUR", "Colour"] = [*(p for p in several if p[0] != ids[3]), *((ids[3], c) for c in colours)]
    twins = [("i010", "i011"), ("i020", "i021")]
    facts["HAS_PART", "Part"] = [(i, f"{pair[0]} part {n}") for pair in twins for i in pair for n in range(4)]
    facts["HAS_PART", "Part"] += [(i, "acme") for i in ids[:3]]  # an id that is a Brand too
    goes = {(str(a), str(b)) for a, b in random.choice(told, (40, 2)) if a != b}
    facts["GOES_WITH", "Item"] = sorted(goes)
    facts["GOES_WITH", "Part"] = [(i, "acme") for i in ids[4:8]]
    return {key: sorted({(str(s), str(t)) for s, t in pairs}) for key, pairs in facts.items()}


def _log(random, shop, ids, people):
    def pairs(count, items):
        a = random.choice(people, count, p=_zipf(len(people)))
        b = random.choice(items, count, p=_zipf(len(items)))
        return sorted({(str(s), str(t)) for s, t in zip(a, b, strict=True)})

    log = []
    for source, target in pairs(900, ids):
        first = START + int(random.integers(0, 200)) * DAY + int(random.integers(0, DAY))
        count = int(random.integers(1, 6))
        last = first + (int(random.integers(0, 30 * DAY)) if count > 1 else 0)
        log.append({"source": source, "target": target, "count": count, "first_at": first, "last_at": last})
    shop.edges[shop.user, "INTERACTED", shop.item] = log
    held = [{**log[0], "source": "only held out", "target": ids[0]}, {**log[0], "source": people[0], "target": "i015"}]
    shop.edges[shop.user, "HELD_OUT", shop.item] = held
    have = defaultdict(set)
    for row in log:
        have[row["source"]].add(row["target"])
    shared = Counter(pair for bought in have.values() for pair in combinations(sorted(bought), 2))
    if shop.baskets:
        shop.edges[shop.item, shop.baskets, shop.item] = [
            {"source": s, "target": t, "count": n, "last_at": START}
            for (a, b), n in sorted(shared.items())
            if n > 7
            for s, t in ((a, b), (b, a))
        ]


def _zipf(n):
    weight = 1 / np.arange(1, n + 1) ** 0.7
    return weight / weight.sum()


class Answers:
    """What each query must answer, as lists of tuples in order."""

    def __init__(self, shop):
        self.shop = shop
        self.items = {row["id"]: row for row in shop.nodes[shop.item]}
        self.log = [SimpleNamespace(**row) for row in shop.edges.get((shop.user, "INTERACTED", shop.item), [])]
        derived = HIDDEN | {"INTERACTED", shop.baskets}
        self.facts = defaultdict(set)  # item -> (relation, label, id)
        self.holders = defaultdict(set)  # (relation, label, id) -> items
        for (source, relation, target), rows in shop.edges.items():
            for row in rows if source == shop.item and relation not in derived else []:
                fact = (relation, target, row["target"])
                self.facts[row["source"]].add(fact)
                self.holders[fact].add(row["source"])
        self.buyers, self.history = defaultdict(set), defaultdict(set)
        for row in self.log:
            self.buyers[row.target].add(row.source)
            self.history[row.source].add(row.target)
        self.names = {
            (label, row["id"]): row.get("name") or row["id"] for label, rows in shop.nodes.items() for row in rows
        }
        self.now = max((row.last_at for row in self.log), default=0)

    def title(self, item):
        return self.items[item]["name"]

    def name(self, fact):
        return self.names[fact[1], fact[2]]

    def titled(self, item):
        return item, self.title(item)

    def _most_bought(self, items, limit):
        rows = [(*self.titled(i), len(self.buyers[i])) for i in items]
        return sorted(rows, key=lambda r: (-r[2], r[0]))[:limit]

    def orphans(self, limit):
        return self._most_bought([i for i in self.items if not self.facts[i]], limit)

    def missing_relation(self, relation, limit):
        return self._most_bought([i for i in self.items if all(f[0] != relation for f in self.facts[i])], limit)

    def same_title(self, limit):
        groups = defaultdict(list)
        for item in self.items:
            if self.title(item) is not None:
                groups[spelling(self.title(item))].append(item)
        rows = [(key, len(same), *self.titled(i)) for key, same in groups.items() if len(same) > 1 for i in same]
        return sorted(rows, key=lambda r: (r[0], r[2]))[:limit]

    def near_duplicates(self, overlap, common, rare, limit):
        rows = []
        for a, b in combinations(sorted(self.items), 2):
            both, either = self.facts[a] & self.facts[b], self.facts[a] | self.facts[b]
            telling = sum(1 < len(self.holders[f]) <= rare for f in both)
            if telling >= common and both and len(both) / len(either) >= overlap:
                rows.append((*self.titled(a), *self.titled(b), len(both), len(both) / len(either)))
        return sorted(rows, key=lambda r: (-r[5], -r[4], r[0], r[2]))[:limit]

    def degree_outliers(self, deviations, limit):
        degrees = defaultdict(Counter)
        for item, facts in self.facts.items():
            for relation, _, _ in facts:
                degrees[relation][item] += 1
        rows = []
        for relation, counted in degrees.items():
            mean, spread = statistics.fmean(counted.values()), statistics.pstdev(counted.values())
            for item, edges in counted.items():
                if spread and (edges - mean) / spread >= deviations:
                    rows.append((relation, *self.titled(item), edges, mean, (edges - mean) / spread))
        return sorted(rows, key=lambda r: (-round(r[5], 9), r[0], r[1]))[:limit]

    def value_spellings(self, limit):
        groups = defaultdict(Counter)
        for fact, items in self.holders.items():
            groups[fact[0], spelling(self.name(fact))][self.name(fact)] += len(items)
        rows = [(*key, value, n) for key, same in groups.items() if len(same) > 1 for value, n in same.items()]
        return sorted(rows)[:limit]

    def _prices(self, items):
        return {i: self.items[i]["price"] for i in items if self.items[i]["price"] is not None}

    def price_outliers(self, relation, factor, peers, limit):
        rows = []
        for fact, items in self.holders.items():
            prices = self._prices(items)
            if fact[0] == relation and len(prices) >= peers:
                median = statistics.median(prices.values())
                odd = [i for i, p in prices.items() if p > factor * median or factor * p < median]
                rows += [(*self.titled(i), fact[2], self.name(fact), prices[i], median, len(prices)) for i in odd]
        return sorted(rows, key=lambda r: (r[0], r[2]))[:limit]

    def find_items(self, text, limit):
        found = [i for i in self.items if text.lower() in i.lower() or text.lower() in (self.title(i) or "").lower()]
        return self._most_bought(found, limit)

    def product_card(self, item):
        rows = [(f[0], f[2], self.name(f), len(self.holders[f])) for f in self.facts[item]]
        return sorted(rows)

    def _overlaps(self, item):
        """Other item -> attributes in common, and these by all of either."""
        found = {}
        for other in {i for f in self.facts[item] for i in self.holders[f]} - {item}:
            both, either = self.facts[item] & self.facts[other], self.facts[item] | self.facts[other]
            found[other] = len(both), len(both) / len(either)
        return found

    def _together(self, item, other):
        both, either = self.buyers[item] & self.buyers[other], self.buyers[item] | self.buyers[other]
        return len(both), len(both) / len(either) if either else 0.0

    def similar_by_attributes(self, item, limit):
        rows = [(*self.titled(i), *overlap) for i, overlap in self._overlaps(item).items()]
        return sorted(rows, key=lambda r: (-r[2], -r[3], r[0]))[:limit]

    def substitutes(self, item, together, limit):
        rows = []
        for other, (_, overlap) in self._overlaps(item).items():
            both, share = self._together(item, other)
            if share <= together:
                rows.append((*self.titled(other), overlap, len(self.buyers[other]), both, share))
        return sorted(rows, key=lambda r: (-r[2], r[5], -r[3], r[0]))[:limit]

    def complements(self, item, overlap, both, limit):
        rows, overlaps = [], self._overlaps(item)
        for other in {i for u in self.buyers[item] for i in self.history[u]} - {item}:
            shared, share = self._together(item, other)
            alike = overlaps.get(other, (0, 0.0))[1]
            if shared >= both and alike <= overlap:
                rows.append((*self.titled(other), shared, share, alike))
        return sorted(rows, key=lambda r: (-r[3], -r[2], r[0]))[:limit]

    def price_against_peers(self, item):
        price, rows = self.items[item]["price"], []
        for fact in self.facts[item]:
            peers = sorted(self._prices(self.holders[fact] - {item}).values())
            if price is not None and peers:
                summary = len(peers), peers[0], statistics.median(peers), peers[-1], sum(p < price for p in peers)
                rows.append((fact[0], fact[2], self.name(fact), price, *summary))
        return sorted(rows)

    def customer_profile(self, user):
        mine = self.history[user]
        if not mine:
            return []
        sizes = [len(items) for items in self.history.values() if items]
        buyers = [len(self.buyers[i]) for i in mine]
        events = sum(row.count for row in self.log if row.source == user)
        rank = 1 + sum(size > len(mine) for size in sizes)
        return [(len(mine), events, rank, len(sizes), statistics.fmean(buyers), buyers.count(1))]

    def customer_affinity(self, user, relation, limit):
        mine, rows = self.history[user], []
        for fact, items in self.holders.items():
            here, everywhere = len(mine & items), sum(len(self.buyers[i]) for i in items)
            if fact[0] == relation and here:
                lift = here / len(mine) / (everywhere / len(self.log))
                rows.append((fact[2], self.name(fact), here, here / len(mine), lift))
        return sorted(rows, key=lambda r: (-r[2], -round(r[4], 9), r[0], r[1]))[:limit]

    def similar_customers(self, user, limit):
        mine, rows = self.history[user], []
        for other, theirs in self.history.items():
            if other != user and mine & theirs:
                rows.append((other, len(mine & theirs), len(mine & theirs) / len(mine | theirs)))
        return sorted(rows, key=lambda r: (-r[1], -r[2], r[0]))[:limit]

    def lapsed_customers(self, days, items, limit):
        rows = []
        for user, theirs in self.history.items():
            last = max((row.last_at for row in self.log if row.source == user), default=0)
            if theirs and len(theirs) >= items and self.now - last >= days * DAY:
                rows.append((user, len(theirs), last, (self.now - last) // DAY))
        return sorted(rows, key=lambda r: (-r[1], -r[2], r[0]))[:limit]

    def audience(self, relation, value, limit):
        good = Counter()
        for fact, items in self.holders.items():
            if (fact[0], fact[2]) == (relation, value):
                for item in items:
                    good.update(self.buyers[item])
        rows = [(user, n, n / len(self.history[user])) for user, n in good.items()]
        return sorted(rows, key=lambda r: (-r[1], -r[2], r[0]))[:limit]

    def popular(self, limit):
        events = Counter()
        for row in self.log:
            events[row.target] += row.count
        rows = [(*self.titled(i), len(self.buyers[i]), n) for i, n in events.items()]
        return sorted(rows, key=lambda r: (-r[2], r[0]))[:limit]

    def rising(self, days, limit):
        before, recent = Counter(), Counter()
        for row in self.log:
            if row.first_at > self.now - days * DAY:
                recent[row.target] += 1
            elif row.first_at > self.now - 2 * days * DAY:
                before[row.target] += 1
        rows = [(*self.titled(i), before[i], n, n - before[i]) for i, n in recent.items() if n > before[i]]
        return sorted(rows, key=lambda r: (-r[4], -r[3], r[0]))[:limit]

    def bought_together(self, item, limit):
        pairs = self.shop.edges[self.shop.item, self.shop.baskets, self.shop.item]
        rows = [(*self.titled(p["target"]), p["count"]) for p in pairs if p["source"] == item]
        return sorted(rows, key=lambda r: (-r[2], r[0]))[:limit]

    def sales_by_period(self, days):
        start, pairs, users = min(row.first_at for row in self.log), Counter(), defaultdict(set)
        for row in self.log:
            period = start + (row.first_at - start) // (days * DAY) * days * DAY
            pairs[period] += 1
            users[period].add(row.source)
        return sorted((period, len(users[period]), n) for period, n in pairs.items())

    def sales_by_value(self, relation, limit):
        rows = []
        for fact, items in self.holders.items():
            pairs = [row for row in self.log if row.target in items]
            if fact[0] == relation and pairs:
                sold, users = {row.target for row in pairs}, {row.source for row in pairs}
                share = len(pairs) / len(self.log)
                rows.append((fact[2], self.name(fact), len(sold), len(pairs), len(users), share))
        return sorted(rows, key=lambda r: (-r[3], r[0], r[1]))[:limit]

    def _places(self, relation):
        """(source, target, rank, rank before or None) of the second version."""
        before = self.shop.lists(1)[relation]
        for source, targets in self.shop.lists(2)[relation].items():
            for rank, target in enumerate(targets, 1):
                had = before[source]
                yield source, target, rank, had.index(target) + 1 if target in had else None

    def similar_items(self, item, limit):
        rows = [(*self.titled(t), n, m, 1 / (2 + n)) for s, t, n, m in self._places("SIMILAR_TO") if s == item]
        return sorted(rows, key=lambda r: r[2])[:limit]

    def bundle_drift(self, within):
        steps = defaultdict(list)
        for *_, rank, before in self._places("SIMILAR_TO"):
            if rank <= within:
                change = "new" if before is None else "kept" if before == rank else "moved"
                steps[change].append(None if before is None else abs(rank - before))
        total = sum(map(len, steps.values()))
        means = {change: None if change == "new" else statistics.fmean(found) for change, found in steps.items()}
        return sorted(("v2", change, len(found), len(found) / total, means[change]) for change, found in steps.items())

    def recommendation_coverage(self, within):
        bands, held = defaultdict(list), Counter(t for _, t, rank, _ in self._places("RECOMMENDED") if rank <= within)
        for item in self.items:
            customers = len(self.buyers[item])
            bands[10 ** (len(str(customers)) - 1) if customers else 0].append(held[item])
        rows = []
        for customers, places in sorted(bands.items()):
            listed = sum(n > 0 for n in places)
            rows.append((customers, len(places), listed, listed / len(places), sum(places)))
        return rows

    def labels(self):
        return sorted((label, len(rows)) for label, rows in self.shop.nodes.items() if rows)

    def relation_quality(self):
        into, outof = defaultdict(Counter), defaultdict(set)
        for (source, relation, target), rows in self.shop.edges.items():
            for row in rows if relation not in HIDDEN else []:
                into[relation][target, row["target"]] += 1
                outof[relation].add((source, row["source"]))
        rows = []
        for relation, degrees in into.items():
            edges, sources, hub = degrees.total(), len(outof[relation]), max(degrees.values())
            once = sum(n == 1 for n in degrees.values())
            rows.append((relation, edges, sources, len(degrees), edges / sources, once, hub, hub / edges))
        return sorted(rows)

    def _network(self):
        """Undirected, every relation but the hidden ones; nodes are (label, id), the edges' keys relations."""
        graph = nx.MultiGraph()
        for (source, relation, target), rows in self.shop.edges.items():
            for row in rows if relation not in HIDDEN else []:
                graph.add_edge((source, row["source"]), (target, row["target"]), key=relation)
        return graph

    def _around(self, graph, item):
        """Node -> relations, one step from an item."""
        node = (self.shop.item, item)
        return {x: set(graph[node][x]) for x in graph[node]} if node in graph else {}

    def connections(self, item, other):
        graph = self._network()
        one, two = self._around(graph, item), self._around(graph, other)
        ways = defaultdict(list)
        for x in one.keys() & two.keys():
            for r in one[x]:
                for s in two[x]:
                    ways[r, s].append(x[1])
        return sorted(((r, s, len(ids), min(ids)) for (r, s), ids in ways.items()), key=lambda row: (-row[2], *row[:2]))

    def distance(self, item, other):
        graph, ends = self._network(), [(self.shop.item, item), (self.shop.item, other)]
        if any(end not in graph for end in ends) or not nx.has_path(graph, *ends):
            return []
        steps = nx.shortest_path_length(graph, *ends)
        return [(steps,)] if 1 <= steps <= 6 else []

    def why_item(self, user, item, limit):
        graph, mine, rows = self._network(), self.history[user], []
        for x, relations in self._around(graph, item).items():
            for relation in relations:
                if relation == "INTERACTED" and x == (self.shop.user, user):
                    continue
                beyond = {i for label, i in graph[x] if label == self.shop.item and relation in graph[x][label, i]}
                reached, theirs = (beyond & mine) - {item}, x[0] == self.shop.item and x[1] in mine
                if reached or theirs:
                    name = self.names[x]
                    row = relation, x[1], name, theirs, len(reached), min(reached, default=None), len(beyond)
                    rows.append(row)
        return sorted(rows, key=lambda r: (not r[3], -r[4] / r[6], r[0], r[1], r[2]))[:limit]

    def cold_items(self, limit):
        rows = []
        for item in self.items:
            if not self.buyers[item]:
                seen = sum(any(self.buyers[i] for i in self.holders[f]) for f in self.facts[item])
                rows.append((*self.titled(item), len(self.facts[item]), seen))
        return sorted(rows, key=lambda r: (r[3], r[2], r[0]))[:limit]


def spelling(text):
    for sign in " ,.-":
        text = text.replace(sign, "")
    return text.lower()
