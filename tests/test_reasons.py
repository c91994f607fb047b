"""Paths from a history to an item: found as a slow search finds them, true to the stored graph, worth their score."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shops import SHOP, make_shop

from catalograph import Recommender
from catalograph.errors import GraphError, UnknownIdError
from catalograph.kg.log import InteractionLog
from catalograph.kg.paths import Node, Triple, path_query
from catalograph.kg.stores import open_store
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring.explain import ways_of
from catalograph.scoring.fidelity import TakenApart
from catalograph.scoring.head import Head
from catalograph.scoring.paths import ItemGraph
from catalograph.scoring.words import in_both, in_words

ITEMS, USERS = [Node("Item", f"i{n}") for n in range(5)], [Node("User", f"u{n}") for n in range(3)]


def edge_table(rows):
    """rows: (item row, relation, label, id)."""
    columns = list(zip(*rows, strict=True)) or [[]] * 4
    types = (pa.int64(), pa.string(), pa.string(), pa.string())
    found = {
        n: pa.array(c, t) for n, c, t in zip(("source", "relation", "label", "target"), columns, types, strict=True)
    }
    return pa.table(found | {"name": pa.array([f"the {row[3]}" for row in rows], pa.string())})


def log_of(pairs):
    user, item = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    return InteractionLog(len(USERS), len(ITEMS), user, item)


LINKS = st.tuples(
    st.integers(0, 4), st.sampled_from(["LIKE", "GOES WITH"]), st.just("Item"), st.sampled_from(["i0", "i1", "i4"])
)
FACTS = st.tuples(
    st.integers(0, 4), st.sampled_from(["LIKE", "IS"]), st.sampled_from(["Kind", "Hue"]), st.sampled_from("ab")
)
EVENTS = st.sets(st.tuples(st.integers(0, 2), st.integers(0, 4)))


def slow_paths(rows, events, history, item, user):
    """(history item, relation, shape) of every path of one or two edges of one relation, by trying all."""
    edges = {(ITEMS[row], relation, Node(label, id_)) for row, relation, label, id_ in rows}
    edges |= {(USERS[u], "INTERACTED", ITEMS[i]) for u, i in events}
    edges = {edge for edge in edges if edge[0] != edge[2]}
    nodes, goal = {end for edge in edges for end in (edge[0], edge[2])}, ITEMS[item]
    found = set()
    for row in history:
        start = ITEMS[row]
        for relation in {edge[1] for edge in edges}:
            ways = {">": lambda a, b, r=relation: (a, r, b) in edges, "<": lambda a, b, r=relation: (b, r, a) in edges}
            found |= {(row, relation, one) for one, way in ways.items() if way(start, goal)}
            for x in nodes - {goal, start, *([] if user is None else [USERS[user]])}:
                found |= {
                    (row, relation, one + two)
                    for one, way in ways.items()
                    for two, on in ways.items()
                    if way(start, x) and on(x, goal)
                }
    return found


@given(st.lists(st.one_of(LINKS, FACTS), unique=True, max_size=12), EVENTS, st.sampled_from([None, 0, 1]))
def test_steps_are_those_a_slow_search_finds(rows, events, user):
    graph, history = ItemGraph(edge_table(rows), log_of(events), ITEMS, USERS), np.array([0, 2, 3])
    steps = graph.steps(history, 4, user)
    assert {(s.history, s.relation, s.shape) for s in steps} == slow_paths(rows, events, [0, 2, 3], 4, user)
    assert len(steps) == len({(s.history, s.relation, s.shape) for s in steps})
    stored = {(ITEMS[row], relation, Node(label, id_)) for row, relation, label, id_ in rows}
    stored |= {(USERS[u], "INTERACTED", ITEMS[i]) for u, i in events}
    for step in steps:
        triples = graph.triples(step, 4)
        assert set(triples) <= {Triple(*edge) for edge in stored}
        assert {ITEMS[step.history], ITEMS[4]} <= {end for t in triples for end in (t.source, t.target)}


def test_of_several_nodes_between_the_one_with_the_fewest_edges_is_taken():
    rows = [(n, "IS", "Kind", "wide") for n in range(5)] + [(0, "IS", "Kind", "narrow"), (4, "IS", "Kind", "narrow")]
    graph = ItemGraph(edge_table(rows), log_of([]), ITEMS, USERS)
    (step,) = graph.steps(np.array([0]), 4)
    assert (graph.name(step.via), step.shape, step.shared) == ("the narrow", "><", 2)
    assert step.rarity == pytest.approx(1 / 2)


def test_a_name_that_would_end_the_quotes_is_refused():
    with pytest.raises(GraphError, match="cannot stand in a query"):
        path_query([Triple(Node("Item", "a"), "IS`]-() DETACH DELETE (n) //", Node("Kind", "b"))])


@pytest.mark.parametrize(
    ("term", "ways", "words"),
    [
        ("share:HAS_COLOUR.last", [("HAS_COLOUR", "><")], "the same colour, newest items"),
        ("to:ALSO_BOUGHT.uniform", [("ALSO_BOUGHT", ">")], "linked by also bought"),
        ("fresh_walk_45d.uniform", [("INTERACTED", "<>")], "bought by the same customers, being discovered now"),
        ("basket.last", [("TOGETHER", ">"), ("TOGETHER", "<")], "bought together, newest items"),
        ("text_near.uniform", [], "described alike"),
        ("popularity_28d.prior", [], "popular"),
        ("links.prior", [], "links.prior"),
    ],
)
def test_a_term_says_where_it_walks_and_what_it_means(term, ways, words):
    assert ways_of(term, "TOGETHER") == ways
    assert in_words(term) == words
    assert in_both(term) == (term if words == term else f"{words} ({term})")


@pytest.fixture(scope="module")
def shop(built):
    return Recommender.load(built[1])


def explanations(shop, users=12, k=3):
    for n in range(users):
        for place in shop.recommend([f"u{n:02}"], k=k)[0]:
            yield f"u{n:02}", place.item, shop.explain(f"u{n:02}", place.item, most=30)


@pytest.mark.parametrize("kind", ["ladybug", "neo4j"])
def test_the_cypher_of_a_path_answers_its_triples_and_nothing_else(built, store_url, kind, tmp_path):
    toml, out = built
    url = store_url(kind) if kind == "neo4j" else f"ladybug:{out / 'graph.lbug'}"
    if kind == "neo4j":  # the same graph on a server
        rebuild(open_workshop(toml, out=tmp_path / "build", store=url, device="cpu"))
        out = tmp_path / "build"
    made, store, asked = Recommender.load(out), open_store(url), set()
    for user, item, why in explanations(made, users=6, k=2):
        assert why.paths
        for path in why.paths:
            if (key := tuple(triple[1] for triple in path.triples)) in asked:
                continue  # one of each kind: a question is a process of its own
            asked.add(key)
            answer = store.analyst(path.cypher, path.parameters)
            assert sorted(tuple(row.values()) for row in answer.to_pylist()) == sorted(path.triples)
            assert answer.column_names == ["source", "relation", "target"]
            assert path.triples[0] == (user, "INTERACTED", path.because)
            assert item in path.triples[-1]
    store.close()
    kinds = {key[1] for key in asked}
    assert kinds == {"IN_CATEGORY", "IN_PRICE_BAND", "BOUGHT_TOGETHER", "INTERACTED"}


def test_every_path_is_in_the_graph_and_at_most_three_edges_long(built, shop):
    store = open_store(f"ladybug:{built[1] / 'graph.lbug'}")
    stored = set()
    for key in store.counts().edges:
        if key.relation != "HELD_OUT":
            ids = [store.nodes(label)["id"].to_pylist() for label in (key.source, key.target)]
            edges = store.edges(key)
            stored |= {(ids[0][a], key.relation, ids[1][b]) for a, b in zip(edges.source, edges.target, strict=True)}
    store.close()
    for user, _, why in explanations(shop):
        for path in why.paths:
            assert set(path.triples) <= stored
            assert len(path.triples) <= 3
            assert len(set(path.triples)) == len(path.triples)
            others = {end for a, r, b in path.triples if r == "INTERACTED" for end in (a,)} - {user}
            assert not any(other in path.sentence for other in others)


def test_paths_come_in_the_order_of_what_the_score_owes_them(shop):
    _, _, why = next(explanations(shop, users=1))
    scores = [path.score for path in why.paths]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0
    short = shop.explain("u00", why.item, most=2)
    assert short.paths == why.paths[:2]


def test_an_item_somebody_has_is_not_explained_by_their_having_it(shop):
    owned = shop.bundle.items["id"][int(shop.bundle.log.item[shop.bundle.log.user == 7][0])].as_py()
    for path in shop.explain("u07", owned, most=50).paths:
        assert path.because != owned
        assert sum("u07" in triple for triple in path.triples) == 1


def test_a_customer_whom_items_lead_to_is_not_named(shop):
    """A marketplace: customers sell, too."""
    sold = [{"source": n, "relation": "SOLD_BY", "label": "User", "target": "u41", "name": "Ann Lee"} for n in (2, 10)]
    edges = pa.concat_tables([shop.bundle.edges, pa.Table.from_pylist(sold, shop.bundle.edges.schema)])
    why = Recommender(dataclasses.replace(shop.bundle, edges=edges), None).explain_for(["i02"], "i10", most=50)
    (path,) = [path for path in why.paths if path.triples[0][1] == "SOLD_BY"]
    assert path.triples == (("i02", "SOLD_BY", "u41"), ("i10", "SOLD_BY", "u41"))
    assert path.sentence == "Toys number 2 and Toys number 10: sold by the same customer"


def test_somebody_never_seen_has_paths_from_what_they_gave(shop):
    why = shop.explain_for(["i02", "i06"], "i10")
    assert {path.because for path in why.paths} <= {"i02", "i06"}
    assert all("u" not in triple[0][:1] or triple[1] == "INTERACTED" for path in why.paths for triple in path.triples)
    assert all(len(path.triples) <= 2 for path in why.paths)
    assert shop.explain_for([], "i10", features={"IN_CATEGORY": ["Shop > Toys"]}).paths == ()


def test_a_relation_the_model_may_not_use_explains_nothing(tmp_path):
    toml = make_shop(tmp_path / "shop", toml=SHOP + "[relations.IN_CATEGORY]\nuse = false\n")
    rebuild(open_workshop(toml, out=tmp_path / "build", device="cpu"))
    made = Recommender.load(tmp_path / "build")
    assert not any("IN_CATEGORY" in path.cypher for _, _, why in explanations(made, 4, 2) for path in why.paths)


def test_computed_again_from_its_bundle_a_score_is_the_score(shop):
    again = TakenApart(shop.bundle)
    for user, item in (("u07", "i03"), ("u20", "i11")):
        assert again.score(user, item) == pytest.approx(float(shop.score([user], [item])[0, 0]), rel=1e-3, abs=1e-3)


def test_a_score_falls_further_without_its_path_than_without_random_edges(shop):
    """Taste is a category here: without the edges that say so, little is left."""
    terms = [term.name for term in shop.model.terms if term.name.startswith("share:IN_CATEGORY")]
    weight = np.array([float(name in terms) for name in (term.name for term in shop.model.terms)], np.float32)
    bundle = dataclasses.replace(shop.bundle, model=with_weights(shop.model, weight))
    made = Recommender(bundle, None)
    falls, random = [], []
    for user in ("u02", "u06", "u10"):
        item = made.recommend([user], k=1)[0][0].item
        found = made.fidelity(user, item, made.explain(user, item).paths[0].triples, draws=2)
        assert found.score > 0
        falls.append(found.score - found.without_path)
        random.append(abs(found.score - found.without_random))
    assert min(falls) > 0
    assert np.mean(falls) > 5 * np.mean(random)


def test_fidelity_refuses_an_edge_that_is_not_there(shop):
    with pytest.raises(UnknownIdError, match=r"no edge \('i03', 'IN_CATEGORY', 'Shop > Nothing'\); take the triples"):
        shop.fidelity("u07", "i03", [("i03", "IN_CATEGORY", "Shop > Nothing")], draws=1)


def with_weights(model, weight):
    """The model with a linear head of these weights [term]."""
    arrays = {"constant": weight, "spread": np.ones(len(weight), np.float32)}
    return dataclasses.replace(model, head=Head.of_arrays("linear", arrays))
