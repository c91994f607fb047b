"""The service: what it answers, whom it lets in, and that it stays up while models, keys and processes change."""

import asyncio
import concurrent.futures
import dataclasses
import errno
import http.client
import json
import logging
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import urllib.request
import weakref

import numpy as np
import psutil
import pyarrow as pa
import pytest
from serving import client, copy_of, eventually, flipped, lines, of_nonsense, process, publish_again, torn

from catalograph import Recommender
from catalograph.cli import main
from catalograph.durable import replace_text
from catalograph.errors import ConfigError
from catalograph.loaders.feedback import FILE, read_feedback
from catalograph.scoring import bundle
from catalograph.scoring.words import in_words
from catalograph.service import desk, shelf, wire
from catalograph.service.gather import BusyError, Crew, Gatherer
from catalograph.service.keys import VARIABLE, add_key, load_keys
from catalograph.service.shelf import Edition, Shelf
from catalograph.service.telemetry import JsonLines

QUESTIONS = {
    "/recommend": {"users": ["u01"]},
    "/similar": {"item": "i01"},
    "/explain": {"user": "u01", "item": "i01"},
    "/score": {"users": ["u01"], "items": ["i01"]},
    "/score_new": {"users": ["u01"], "items": [{"text": "a mug"}]},
    "/search": {"what": "items", "text": "mug"},
    "/history": {"user": "u01"},
}


@pytest.fixture(scope="module")
def shop(built):
    return Recommender.load(built[1])


@pytest.fixture(scope="module")
def service(built, tmp_path_factory):
    """One that tests only ask."""
    with client(copy_of(built[1], tmp_path_factory.mktemp("service") / "build")) as asking:
        yield asking


@pytest.fixture
def build(built, tmp_path):
    """A build folder of the test's own."""
    return copy_of(built[1], tmp_path / "build")


def test_recommend_answers_as_python_does(service, shop):
    where = "price < 15"
    said = service.post("/recommend", json={"users": ["u03", "u01"], "k": 4, "where": where, "terms": True}).json()
    expected = shop.recommend(["u03", "u01"], 4, where)
    assert [listed["user"] for listed in said["lists"]] == ["u03", "u01"]
    for listed, best in zip(said["lists"], expected, strict=True):
        assert [place["item"] for place in listed["items"]] == [r.item for r in best]
        for place in listed["items"]:
            assert sum(place["terms"].values()) == pytest.approx(place["score"], abs=1e-4)
            assert place["title"] == shop.title(place["item"]) != place["item"]
    for_history = service.post("/recommend", json={"history": ["i04", "i08"], "k": 4}).json()
    assert [p["item"] for p in for_history["lists"][0]["items"]] == [
        r.item for r in shop.recommend_for(["i04", "i08"], 4)
    ]
    assert for_history["lists"][0]["items"][0]["terms"] is None


def test_the_other_questions_answer_as_python_does(service, shop):
    found = service.post("/similar", json={"item": "i01", "k": 3}).json()["items"]
    assert [p["item"] for p in found] == [r.item for r in shop.similar("i01", 3)]
    scores = service.post("/score", json={"users": ["u01", "u02"], "items": ["i01", "i02", "i03"]}).json()["scores"]
    assert scores == pytest.approx(shop.score(["u01", "u02"], ["i01", "i02", "i03"]), abs=1e-5)
    for best in (r.item for r in shop.recommend(["u05"], 10)[0]):
        why = service.post("/explain", json={"user": "u05", "item": best, "most": 20}).json()
        assert sum(why["terms"].values()) == pytest.approx(why["score"], abs=1e-4)
        assert why["words"] == {term: in_words(term) for term in why["terms"]}
        assert why["paths"]
        for path, expected in zip(why["paths"], shop.explain("u05", best, most=20).paths, strict=True):
            ends = path["nodes"][0], path["nodes"][1], path["nodes"][-1]
            assert ends == ("u05", shop.title(path["because"]), shop.title(best))
            drawn = [(path["nodes"][s["source"]], s["relation"], path["nodes"][s["target"]]) for s in path["steps"]]
            titled = {id_: shop.title(id_) for id_ in shop.bundle.items["id"].to_pylist()}
            assert drawn == [(titled.get(a, a), r, titled.get(b, b)) for a, r, b in expected.triples]
            assert (path["cypher"], path["parameters"]) == (expected.cypher, expected.parameters)
    why = service.post("/explain", json={"history": ["i04"], "item": best}).json()
    assert why["item"] == best
    assert all(path["nodes"][0] == shop.title("i04") for path in why["paths"])
    had = [found["id"] for found in service.post("/history", json={"user": "u05"}).json()["found"]]
    assert had == shop.history("u05")
    assert set(had).isdisjoint(r.item for r in shop.recommend(["u05"], 20)[0])


def test_wishes_tastes_and_new_items_answer_as_python_does(service, shop):
    first = shop.recommend(["u02"], 1)[0][0].item
    wish = {"k": 6, "diversify": 0.4, "cap": {"IN_CATEGORY": 2}, "exclude": [first, "an item of tomorrow"]}
    taste = {"IN_CATEGORY": ["Shop > Toys"]}

    def items(path, body):
        said = service.post(path, json=body | wish).json()
        return [place["item"] for place in (said["lists"][0] if "lists" in said else said)["items"]]

    def of(best):
        return [r.item for r in best]

    assert items("/recommend", {"users": ["u02"]}) == of(shop.recommend(["u02"], **wish)[0])
    assert of(shop.recommend(["u02"], **wish)[0]) != of(shop.recommend(["u02"], 6)[0])
    for_taste = shop.recommend_for(["i04"], features=taste, **wish)
    assert items("/recommend", {"history": ["i04"], "features": taste}) == of(for_taste)
    assert items("/recommend", {}) == of(shop.recommend_for(**wish))
    assert items("/similar", {"item": "i01"}) == of(shop.similar("i01", **wish))
    why = service.post("/explain", json={"features": taste, "item": "i02"}).json()
    assert why["score"] == pytest.approx(shop.explain_for([], "i02", features=taste).score, abs=1e-5)
    new = [{"text": "Toys number 99", "attributes": taste}, {"text": "Lamps number 7"}, {"attributes": taste}]
    for who in ({"users": ["u02", "u01"]}, {"history": ["i04"], "features": taste}):
        said = service.post("/score_new", json=who | {"items": new}).json()["scores"]
        np.testing.assert_allclose(said, shop.score_new(new, **who), atol=1e-5)


def test_a_customer_with_the_id_of_an_item_keeps_it_on_a_path(shop):
    users = pa.table({"id": [f"i{n:02}" for n in range(len(shop.bundle.users))]})
    named_alike = Recommender(dataclasses.replace(shop.bundle, users=users), None)
    best = named_alike.recommend(["i05"], 1)[0][0].item
    why = desk.explain(Edition("1", named_alike, None, None), wire.WhyForUser(user="i05", item=best))
    assert why.paths
    for path in why.paths:
        assert path.nodes[:2] == ["i05", shop.title(path.because)]
        assert (path.steps[0].source, path.steps[0].target) == (0, 1)


def test_histories_are_told_oldest_first(service, shop):
    log = shop.bundle.log
    row = shop.bundle.users["id"].to_pylist().index("u07")
    mine = log.where(log.user == row)
    newest = dict(zip(mine.item, mine.at, strict=True))  # the log is sorted by time
    ids = shop.bundle.items["id"].to_pylist()
    assert {ids[item] for item in newest} == set(shop.history("u07"))
    times = [newest[ids.index(item)] for item in shop.history("u07")]
    assert times == sorted(times)


def test_search_finds_every_word_and_whole_ids_first(service):
    def found(what, text, n=50):
        return [f["id"] for f in service.post("/search", json={"what": what, "text": text, "n": n}).json()["found"]]

    assert found("items", "MUGS number") == [f"i{n:02}" for n in range(0, 40, 4)]
    assert found("items", "lamps 21") == ["i21"]
    assert found("items", "i3", 2) == ["i30", "i31"]
    assert found("users", "u07") == ["u07"]
    assert found("users", "nobody") == []
    assert len(found("users", "", 7)) == 7


FAR = {"id": "1", "user": "u", "item": "i", "kind": "click", "at": "9999-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/events", {"events": [FAR]}, 422, "at: a time is at most a day in the future"),
        ("/recommend", {"users": ["nobody"]}, 404, "no user 'nobody'"),
        ("/recommend", {"history": ["nothing"]}, 404, "no item 'nothing'"),
        ("/similar", {"item": "nothing"}, 404, "no item 'nothing'"),
        ("/explain", {"user": "u01", "item": "nothing"}, 404, "no item"),
        ("/history", {"user": "nobody"}, 404, "no user"),
        ("/recommend", {"users": ["u01"], "where": "prise < 3"}, 422, "did you mean 'price'"),
        ("/recommend", {"users": ["u01"], "where": "price <"}, 422, "where:"),
        ("/recommend", {"users": ["u01"], "k": 50}, 422, "20 items this model ranks"),
        ("/recommend", {"users": ["u01"] * 101}, 422, "at most 100"),
        ("/recommend", {"users": []}, 422, "at least 1"),
        ("/recommend", {"users": ["u01"], "history": ["i01"]}, 422, "not permitted"),
        ("/recommend", {"user": ["u01"]}, 422, "not permitted, did you mean 'users'"),
        ("/score", {"users": ["u01"], "items": ["i01"], "Id": 1, "datetime": 2}, 422, "body.Id: Extra inputs"),
        ("/similar", {"item": "i01", "ForUsers": 1}, 422, "body.ForUsers: Extra inputs"),
        ("/recommend", {"users": ["u01"], "cap": {"IN_CATEGORI": 1}}, 422, "did you mean 'IN_CATEGORY'"),
        ("/recommend", {"users": ["u01"], "cap": {"IN_CATEGORY": 0}}, 422, "greater than or equal to 1"),
        ("/recommend", {"users": ["u01"], "diversify": 1.5}, 422, "less than or equal to 1"),
        ("/recommend", {"features": {"IN_CATEGORY": ["Hats"]}}, 404, "no item has 'Hats' as IN_CATEGORY"),
        ("/recommend", {"features": {"WORN_ON": ["head"]}}, 422, "no relation 'WORN_ON'"),
        ("/score_new", {"items": [{"text": "a"}]}, 422, "either users or a history"),
        ("/score_new", {"users": ["u01"], "items": [{"title": "a"}]}, 422, "body.NewForUsers.items.0.title"),
        ("/recommend", {"history": ["i01"], "k": 0}, 422, "body.ForHistory.k"),
        ("/explain", {"item": "i01"}, 422, "a history or features"),
        ("/explain", {"features": {"IN_CATEGORY": []}, "item": "i01"}, 422, "IN_CATEGORY"),
        ("/explain", {"history": [""], "item": "i01"}, 422, "body.WhyForHistory.history.0"),
        ("/similar", {"item": "\ud800"}, 422, "item"),
        ("/similar", {"item": "i01", "\ud800": 1}, 422, "unicode"),
        ("/similar", {"item": "i01", "k": float("nan")}, 422, "k"),
        ("/events", {"events": [{"id": "1", "user": "u", "item": "i", "kind": "stolen"}]}, 422, "kind"),
        (
            "/events",
            {"events": [{"id": "1", "user": " ", "item": "i", "kind": "click"}]},
            422,
            "user: an id is not empty",
        ),
        (
            "/events",
            {"events": [{"id": "1", "user": "u", "item": "i ", "kind": "click"}]},
            422,
            "item: an id is not empty",
        ),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(service, path, body, status, told):
    answer = service.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"k": 1' + b"0" * 5_000 + b"}", b"null"])
def test_bodies_that_are_no_question_are_refused(service, body):
    answer = service.post("/recommend", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)


def test_concurrent_questions_share_calls_and_get_their_own_answers(service, shop, monkeypatch):
    calls = []
    original = Recommender.recommend

    def counted(self, users, k=10, where=None, **wishes):
        calls.append(len(users))
        time.sleep(0.05)  # others come meanwhile
        return original(self, users, k, where, **wishes)

    monkeypatch.setattr(Recommender, "recommend", counted)
    asked = [(f"u{n:02}", 3 + n % 5, ["price < 12", None][n % 2], [["i00"], [], [], []][n % 4]) for n in range(24)]
    bad = {"users": ["u01"], "where": "price <"}
    with concurrent.futures.ThreadPoolExecutor(25) as threads:
        wrong = threads.submit(service.post, "/recommend", json=bad)
        answers = list(
            threads.map(
                lambda a: service.post("/recommend", json={"users": [a[0]], "k": a[1], "where": a[2], "exclude": a[3]}),
                asked,
            )
        )
    assert wrong.result().status_code == 422
    for (user, k, where, gone), answer in zip(asked, answers, strict=True):
        items = [place["item"] for place in answer.json()["lists"][0]["items"]]
        assert items == [r.item for r in original(shop, [user], k, where, exclude=gone)[0]]
    assert len(calls) < 20
    assert max(calls) > 3


def test_a_gatherer_survives_its_work_and_bounds_what_waits():
    async def story():
        def work(asks):
            time.sleep(0.02)
            if 13 in asks:
                raise ValueError("unlucky")
            return [ask * 2 for ask in asks]

        gatherer = Gatherer(work, most=2, waiting=3)
        running = asyncio.create_task(gatherer.run())
        assert await gatherer.ask(4) == 8
        with pytest.raises(ValueError, match="unlucky"):
            await gatherer.ask(13)
        found = await asyncio.gather(*(gatherer.ask(n) for n in range(6)), return_exceptions=True)
        assert [type(answer) for answer in found] == [int] * 3 + [BusyError] * 3
        given_up = asyncio.create_task(gatherer.ask(13))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await gatherer.ask(5) == 10  # the one who left is not worked for
        running.cancel()
        gatherer.close()

    asyncio.run(story())


def test_a_crew_bounds_what_waits_and_leaves_what_was_given_up():
    done, end = [], threading.Event()

    def work(name):
        end.wait(20)
        done.append(name)

    async def story():
        crew = Crew(1, 1)
        running, queued = (asyncio.create_task(crew.do(lambda name=name: work(name))) for name in ("running", "queued"))
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await crew.do(int)
        for task in (running, queued):
            task.cancel()
        await asyncio.sleep(0.01)
        later = asyncio.create_task(crew.do(int))  # in the place of the one that waited
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):  # the thread is still at the other one
            await crew.do(int)
        end.set()
        assert await later == 0
        crew.close()

    asyncio.run(story())
    assert done == ["running"]


def test_a_crew_that_closes_leaves_what_waits():
    done = []

    async def story():
        crew = Crew(1, 9)
        asked = [asyncio.ensure_future(crew.do(lambda n=n: (time.sleep(0.1), done.append(n)))) for n in range(9)]
        await asyncio.sleep(0.01)
        crew.close()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(story())
    assert done == [0]
    assert [type(answer) for answer in answers[1:]] == [asyncio.CancelledError] * 8


def test_events_are_kept_once_and_told_apart(build):
    told = {"id": "e1", "user": "new customer", "item": "i01", "kind": "purchase", "at": "2026-01-01T01:00:00+01:00"}
    more = {**told, "id": "e2", "version": "0001-ab", "place": 3, "quantity": 2}
    with client(build) as asking:
        assert asking.post("/events", json={"events": [told, more, told]}).json() == {"new": 2, "known": 1}
        assert asking.post("/events", json={"events": [told]}).json() == {"new": 0, "known": 1}
    table = read_feedback(build).to_pylist()
    assert [(row["id"], row["place"], row["quantity"]) for row in table] == [("e1", None, 1.0), ("e2", 3, 2.0)]
    assert table[0]["at"] == 1_767_225_600_000


def test_a_disk_that_refuses_is_told(build):
    with client(build) as asking:
        with sqlite3.connect(build / FILE) as other:
            other.execute("DROP TABLE events")
        told = {"id": "e1", "user": "u", "item": "i", "kind": "click"}
        answer = asking.post("/events", json={"events": [told]})
        assert answer.status_code == 503
        assert "not kept" in answer.json()["detail"]
        assert asking.post("/similar", json={"item": "i01"}).status_code == 200


def test_keys_open_what_their_scopes_say_and_nothing_else(build, tmp_path):
    file = tmp_path / "keys"
    reader, sender = add_key(file, "website", ["read"]), add_key(file, "till", ["events"])
    former = add_key(file, "former", [])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(secret in file.read_text("utf-8") for secret in (reader, sender, former))
    event = {"events": [{"id": "e", "user": "u", "item": "i", "kind": "click"}]}
    with client(build, keyed=True, keys=file) as asking:

        def status(path, body, header):
            answer = asking.post(path, json=body, headers={"Authorization": header.encode()} if header else {})
            if answer.status_code in (401, 403):
                assert set(answer.json()) == {"detail"}
            return answer.status_code

        for path, body in QUESTIONS.items():
            for header in ("", "Bearer", "Bearer wrong", f"Basic {reader}", f"Bearer {reader}x", "Bearer \xe9"):
                assert status(path, body, header) == 401
            assert status(path, body, f"Bearer {sender}") == 403
            assert status(path, body, f"Bearer {former}") == 403
            assert status(path, body, f"Bearer {reader}") == 200
        assert status("/events", event, f"Bearer {reader}") == 403
        assert status("/events", event, f"Bearer {sender}") == 200
        assert asking.get("/metrics").status_code == 401
        assert asking.post("/recommend", content=b"{").status_code == 401  # before the body is looked at
        assert [asking.get(path).status_code for path in ("/health", "/ready", "/", "/openapi.json")] == [200] * 4
        file.write_text("".join(line for line in file.open() if not line.startswith("website")), "utf-8")
        eventually(lambda: status("/similar", {"item": "i01"}, f"Bearer {reader}") == 401)


def test_wrong_keys_share_an_allowance_and_take_nothing_from_the_right_ones(build, tmp_path):
    secret = add_key(tmp_path / "keys", "website", ["read"])
    with client(build, keyed=True, keys=tmp_path / "keys", rate_per_s=2) as asking:

        def asked(key):
            header = {"Authorization": f"Bearer {key}"}
            return asking.post("/history", json={"user": "u01"}, headers=header)

        tried = [asked(f"guess {n}") for n in range(12)]
        assert [answer.status_code for answer in tried[:4]] == [401] * 4
        assert 429 in {answer.status_code for answer in tried}
        assert all(answer.headers["www-authenticate"] == "Bearer" for answer in tried)  # the page asks for a key then
        mine = [asked(secret) for n in range(12)]
        assert mine[0].status_code == 200
        assert not any("www-authenticate" in answer.headers for answer in mine)


def test_a_key_that_is_taken_out_opens_nothing_whatever_else_the_file_holds(build, tmp_path):
    file = tmp_path / "keys"
    website, till, last = (add_key(file, name, ["read"]) for name in ("website", "till", "last"))
    lines_before = file.read_text("utf-8").splitlines(keepends=True)
    with client(build, keyed=True, keys=file) as asking:

        def opens(*secrets):
            answers = [
                asking.post("/history", json={"user": "u01"}, headers={"Authorization": f"Bearer {secret}"})
                for secret in secrets
            ]
            return [answer.status_code == 200 for answer in answers]

        replace_text(file, "#" + "".join(lines_before) + "half a li")
        eventually(lambda: opens(website, till, last) == [False, True, True])
        file.write_bytes(lines_before[2].encode() + b"\xff")
        eventually(lambda: opens(website, till, last) == [False, False, True])
        replace_text(file, "# nobody\n")
        eventually(lambda: opens(last) == [False])
        replace_text(file, "".join(lines_before))
        eventually(lambda: opens(website, till, last) == [True] * 3)
        file.unlink()
        eventually(lambda: opens(website, till, last) == [False] * 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no API key"),
        ("# nobody\n", "holds no API key"),
        ("website read", "line 1 is not"),
        ("website read 12", "line 1 is not"),
        (f"\nwebsite reed {'a' * 64}", "line 2 names a scope that is none of read, events, metrics"),
        (f"a read {'a' * 64}\na events {'b' * 64}", "two keys are named 'a'"),
    ],
)
def test_keys_that_cannot_be_read_are_refused(tmp_path, monkeypatch, text, told):
    (tmp_path / "keys").write_text(text, "utf-8")
    monkeypatch.setenv(VARIABLE, text.replace("\n", ";"))
    for source in (tmp_path / "keys", None):
        with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
            load_keys(source)


@pytest.mark.parametrize("before", ["# the website's\n", f"old read {'a' * 64}", f"old read {'a' * 64} # the first"])
def test_a_new_key_leaves_what_stands_there_alone(tmp_path, before):
    file = tmp_path / "keys"
    file.write_text(before, "utf-8")
    secret = add_key(file, "website", ["read"])
    assert load_keys(file).holder(secret).name == "website"
    assert len(load_keys(file).keys) == 1 + before.startswith("old")


def test_a_call_is_bounded_by_what_its_asks_weigh():
    calls = []

    def work(asks):
        calls.append(list(asks))
        return asks

    async def ask_all():
        gatherer = Gatherer(work, most=5, waiting=10, weigh=int)
        asked = [asyncio.ensure_future(gatherer.ask(n)) for n in (9, 2, 3, 1)]
        await asyncio.sleep(0)  # all of them wait before the first is taken
        task = asyncio.create_task(gatherer.run())
        await asyncio.gather(*asked)
        task.cancel()

    asyncio.run(ask_all())
    assert calls == [[9], [2, 3], [1]]


def test_keys_come_from_the_environment(monkeypatch, tmp_path):
    secret = add_key(tmp_path / "keys", "website", ["read", "metrics"])
    monkeypatch.setenv(VARIABLE, (tmp_path / "keys").read_text("utf-8").replace("\n", ";"))
    assert load_keys(None).holder(secret).scopes == {"read", "metrics"}
    assert load_keys(None).holder("x") is None


def test_limits_of_body_rate_and_time(build, monkeypatch):
    with client(build, body_kib=1) as asking:
        long = {"text": "x" * 2_000, "what": "items"}
        declared = asking.post("/search", json=long)
        assert (declared.status_code, set(declared.json())) == (413, {"detail"})
        assert asking.post("/search", json=long, headers={"Content-Length": "9" * 5_000}).status_code == 413
        streamed = asking.post("/search", content=iter([b" " * 600] * 3), headers={"Content-Type": "application/json"})
        assert streamed.status_code == 413
        assert set(streamed.json()) == {"detail"}
    with client(build, rate_per_s=2) as asking:
        statuses = [asking.post("/history", json={"user": "u01"}).status_code for _ in range(12)]
        assert statuses[:4] == [200] * 4
        assert 429 in statuses
        time.sleep(0.6)
        assert asking.post("/history", json={"user": "u01"}).status_code == 200
    with client(build, timeout_s=0.1) as asking:
        monkeypatch.setattr(Recommender, "recommend", lambda *_, **__: time.sleep(0.5))
        answer = asking.post("/recommend", json={"users": ["u01"]})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_an_error_of_ours_is_told_without_its_insides(build, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("secret of u01")

    with client(build) as asking, caplog.at_level(logging.ERROR, "catalograph"):
        monkeypatch.setattr(Recommender, "similar", broken)
        answer = asking.post("/similar", json={"item": "i01"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] in answer.json()["detail"]
    told = [JsonLines().format(record) for record in caplog.records if record.exc_info]
    assert json.loads(told[0])["error"] == "RuntimeError"
    assert "secret" not in told[0]


def test_what_other_libraries_log_is_json_too(capsys):
    program = (
        "import logging, logging.config; from catalograph.service.telemetry import LOGGING; "
        "logging.config.dictConfig(LOGGING); logging.getLogger('somewhere.else').warning('a\\nb')"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert [line["event"] for line in lines(done.stderr)] == ["a\nb"]


def test_a_new_version_keeps_the_encoder_where_it_is_the_same(build):
    shelf = Shelf(build)
    shelf.current.model.encode(["a mug"])
    held = shelf.current.model._encoder
    publish_again(build)
    before = shelf.current
    shelf.refresh()
    assert shelf.current is not before
    assert vars(shelf.current.model)["_encoder"] is held
    other = Recommender.load(build)
    other.bundle.config["encoder"]["max_tokens"] += 1
    other.adopt(before.model)
    assert "_encoder" not in vars(other)


def test_logs_are_json_and_hold_no_customer(build, caplog):
    logging.getLogger("catalograph.service").propagate = True
    with client(build) as asking, caplog.at_level(logging.INFO, "catalograph.service"):
        first = asking.post("/recommend", json={"users": ["u01", "u02"]})
        asking.post("/history", json={"user": "u01"})
        asking.post("/history", json={"user": "u55nobody"})
        asking.get("/u01/u02?u01")
    text = "\n".join(JsonLines().format(record) for record in caplog.records)
    assert not any(id_ in text for id_ in ("u01", "u02", "u55"))
    requests = [line for line in lines(text) if line["event"] == "request"]
    assert [line["endpoint"] for line in requests] == ["/recommend", "/history", "/history", "other"]
    assert requests[0]["request"] == first.headers["x-request-id"]
    assert requests[0]["users"][0] == requests[1]["users"][0] != requests[0]["users"][1]


def test_metrics_count_what_happened(service):
    def value(name):
        found = [line.split()[-1] for line in service.get("/metrics").text.splitlines() if line.startswith(name + " ")]
        return float(found[0]) if found else 0.0

    name = 'catalograph_requests_total{endpoint="/similar",status="200"}'
    before = value(name)
    service.post("/similar", json={"item": "i01"})
    assert value(name) == before + 1
    assert value("catalograph_bundle_number") >= 1


def test_without_keys_only_names_of_this_machine_are_answered(service):
    refused = service.get("/health", headers={"Host": "evil.example"})
    assert (refused.status_code, set(refused.json())) == (400, {"detail"})
    for host in ("127.0.0.1:8000", "localhost", "[::1]:80"):
        assert service.get("/health", headers={"Host": host}).status_code == 200


def test_a_path_that_ends_in_a_slash_is_none_of_ours(service):
    """Not a redirection: it would name this process, not the proxy before it."""
    asked = service.post("/recommend/", json={"users": ["u01"]}, follow_redirects=False)
    assert (asked.status_code, set(asked.json())) == (404, {"detail"})


def test_answers_have_headers_that_keep_browsers_strict(service):
    page = service.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for answer in (page, service.get("/page.js"), service.post("/similar", json={"item": "i01"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    assert "://" not in page.text.replace("http://www.w3.org", "")


def refusals(asking):
    """How many versions were refused so far."""
    found = re.search(r'^catalograph_swaps_total{outcome="refused"} (.*)', asking.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_new_version_is_taken_up_and_a_bad_one_refused_without_a_failed_request(build):
    with client(build) as asking, concurrent.futures.ThreadPoolExecutor(3) as threads:
        first, before = asking.get("/ready").json()["version"], refusals(asking)
        going, answers = True, []

        def ask(user):
            while going:
                answers.append(asking.post("/recommend", json={"users": [user], "k": 2}))

        asked = [threads.submit(ask, f"u{n:02}") for n in range(3)]
        try:
            second = publish_again(build)
            eventually(lambda: asking.get("/ready").json()["version"] == second)
            for n, spoil in enumerate((torn, of_nonsense), 1):
                publish_again(build, spoil, signed=True)
                eventually(lambda n=n: refusals(asking) == before + n)
                replace_text(build / "current", second + "\n")
            replace_text(build / "current", "0099-nowhere\n")
            eventually(lambda: refusals(asking) == before + 3)
            assert asking.get("/ready").json()["version"] == second
            replace_text(build / "current", second + "\n")
            third = publish_again(build)
            eventually(lambda: asking.get("/ready").json()["version"] == third)
            publish_again(build, flipped)
            eventually(lambda: refusals(asking) == before + 4)
        finally:
            going = False
        for one in asked:
            one.result()
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["version"] for answer in answers} == {first, second, third}


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_a_version_refused_for_a_passing_reason_is_tried_again(build, monkeypatch, error):
    def fails(_):
        raise error

    with client(build) as asking:
        before = refusals(asking)
        with monkeypatch.context() as patch:
            patch.setattr(bundle, "digests", fails)
            second = publish_again(build)
            eventually(lambda: refusals(asking) >= before + 2)
            assert asking.get("/ready").json()["version"] != second
        eventually(lambda: asking.get("/ready").json()["version"] == second)


def test_a_manifest_of_another_shape_is_refused_once(build):
    def spoil(file):
        manifest = json.loads((file.parent / bundle.MANIFEST).read_text("utf-8"))
        (file.parent / bundle.MANIFEST).write_text(json.dumps(manifest | {"files": ["model"]}), "utf-8")

    with client(build) as asking:
        before = refusals(asking)
        publish_again(build, spoil)
        eventually(lambda: refusals(asking) == before + 1)
        time.sleep(0.3)
        assert refusals(asking) == before + 1


def test_a_replaced_version_leaves_memory_without_another_request(build, monkeypatch):
    given = []
    monkeypatch.setattr(shelf, "_give_back_memory", lambda: given.append(old()))
    with client(build) as asking:
        assert asking.post("/recommend", json={"users": ["u01"]}).status_code == 200
        pinned = asking.app.state.house.shelf.current  # as a request under way would
        old = weakref.ref(pinned)
        second = publish_again(build)
        eventually(lambda: asking.get("/ready").json()["version"] == second)
        time.sleep(0.3)
        assert given == []  # it would give nothing back
        del pinned
        eventually(lambda: given)
        time.sleep(0.3)
    assert given == [None]


def ask(address, path, body):
    request = urllib.request.Request(
        address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def workers_of(running):
    return [child for child in psutil.Process(running.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def arrays_of(worker):
    """What a process maps of bundles: file -> how."""
    return {part.path: part for part in worker.memory_maps() if part.path.endswith(".safetensors")}


@pytest.mark.slow
def test_the_command_serves_with_workers_and_stops_when_told(built, build):
    with process(built[0], "--out", build, "--without-keys", "--workers", "2") as (running, address, log):
        for n in range(30):
            ask(address, "/recommend", {"users": [f"u{n:02}"], "k": 2})
        told = {"id": "e1", "user": "u", "item": "i", "kind": "click"}
        kept = [ask(address, "/events", {"events": [told]})["new"] for _ in range(6)]
        assert kept == [1, 0, 0, 0, 0, 0]  # whichever worker is asked
        maps = [arrays_of(worker) for worker in workers_of(running)]
        assert len(maps) == 2
        assert maps[0].keys() == maps[1].keys()  # the same files, and nobody has a page of them for itself
        assert {part.private_dirty for worker in maps for part in worker.values()} == {0}
        with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
            figures = answer.read().decode()
        assert 'catalograph_requests_total{endpoint="/recommend",status="200"} 30.0' in figures
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        assert all("event" in line for line in log())


@pytest.mark.slow
def test_figures_forget_a_worker_that_was_killed(built, build):
    with process(built[0], "--out", build, "--without-keys", "--workers", "2") as (running, address, _):

        def served():
            with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
                found = re.search(r"^catalograph_bundle_number (.*)", answer.read().decode(), re.MULTILINE)
            return float(found[1]) if found else 0.0

        eventually(lambda: served() == 1)
        workers_of(running)[0].kill()
        number = float(publish_again(build)[:4])
        eventually(lambda: served() == number, 60)


@pytest.mark.slow
def test_requests_under_way_are_answered_before_it_stops(built, build):
    with process(built[0], "--out", build, "--without-keys") as (running, address, _):
        users = [f"u{n:02}" for n in range(60)]
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            under_way = [
                threads.submit(ask, address, "/score", {"users": users, "items": [f"i{n:02}" for n in range(40)]})
                for _ in range(16)
            ]
            time.sleep(0.1)
            running.send_signal(signal.SIGTERM)
            answers = [one.result() for one in under_way if one.exception() is None]
            dropped = [one.exception() for one in under_way if one.exception() is not None]
        assert running.wait(60) == 0
    assert answers
    for error in dropped:  # came after the door was shut: refused, or reset before anybody had taken it up
        assert isinstance(getattr(error, "reason", error), ConnectionError)
        assert not isinstance(error, http.client.RemoteDisconnected)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "holds no API key"),
        (["--without-keys", "--host", "0.0.0.0"], "can be reached by others"),
        (["--without-keys", "--host", "somewhere"], "can be reached by others"),
        (["--without-keys", "--keys", "keys"], "leave --keys away"),
        (["--keys", "missing"], "cannot be read"),
        (["--without-keys", "--host", "::2"], "can be reached by others"),
    ],
)
def test_the_command_refuses_in_one_line(built, build, capsys, monkeypatch, options, told):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["serve", str(built[0]), "--out", str(build), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize("command", [["serve", "--without-keys"], ["doctor"], ["recommend", "--user", "u01"]])
def test_the_commands_refuse_what_is_not_published_torn_or_changed(built, build, capsys, command):
    for spoil in (torn, flipped):
        publish_again(build, spoil)
        for folder, told in ((build, "model.safetensors is not what was"), (build / "bundles", "nothing is published")):
            assert main([command[0], str(built[0]), "--out", str(folder), *command[1:]]) == 2
            assert told in capsys.readouterr().err


def test_without_the_extra_it_is_named(built, build, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve", str(built[0]), "--out", str(build), "--without-keys"]) == 2
    assert "fastapi: pip install 'catalograph[serve]'" in capsys.readouterr().err


def test_a_log_that_is_none_and_a_port_that_is_taken_are_told(built, build, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["--out", str(build), "--without-keys", "--port", str(taken.getsockname()[1])]
        (build / FILE).write_bytes(b"something else" * 1_000)
        assert main(["serve", str(built[0]), *arguments]) == 2
        assert FILE in capsys.readouterr().err
        (build / FILE).unlink()
        assert main(["serve", str(built[0]), *arguments]) == 2
        assert "choose another" in capsys.readouterr().err


def test_key_prints_the_key_and_keeps_its_digest(tmp_path, capsys):
    file = tmp_path / "keys"
    assert main(["key", str(file), "website", "--scope", "read", "--scope", "events"]) == 0
    secret = capsys.readouterr().out.strip()
    assert load_keys(file).holder(secret).scopes == {"read", "events"}
    for name, scope, told in (("website", "read", "already"), ("x y", "read", "named by"), ("z", "all", "no scope")):
        assert main(["key", str(file), name, "--scope", scope]) == 2
        assert told in capsys.readouterr().err
