"""Servers that die, hang or deadlock, clients that are killed: one clear line, and the next run gives all."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pyarrow as pa
import pytest
import server
from conftest import NEO4J_VERSION

from catalograph.errors import StoreError
from catalograph.kg import bolt, bulk, neo4j_rebuild, neo4j_write
from catalograph.kg.bolt import Bolt
from catalograph.kg.export import export_snapshot
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

SAW = EdgeKey("User", "SAW", "Item")
HANGS_AFTER_S = 3  # without a sign of life; the server tells it to the driver


def graph(count, age="old"):
    ids = [f"{n:05}" for n in range(count)]
    nodes = {"Item": pa.table({"id": ids, "age": [age] * count}), "User": pa.table({"id": ids[::10]})}
    return nodes, {SAW: pa.table({"source": [ids[n - n % 10] for n in range(count)], "target": ids})}


def digest_of(tables):
    store = open_store("memory:")
    store.rebuild(*tables)
    return export_snapshot(store).digest


OLD, NEW = graph(400), graph(600, "new")


@pytest.fixture(scope="module")
def own(tmp_path_factory, neo4j_server):
    """A server that may be killed."""
    settings = {
        "server.bolt.connection_keep_alive": "1s",
        "server.bolt.connection_keep_alive_probes": f"{HANGS_AFTER_S}",
    }
    home = tmp_path_factory.mktemp("own")
    running = server.Server(home, neo4j_server.password, version=NEO4J_VERSION, heap="512m", settings=settings)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def store(own, monkeypatch):
    """The own server's store, holding OLD; small batches, short patience."""
    for module in (neo4j_rebuild, neo4j_write):
        monkeypatch.setattr(module, "ROWS", 50)
    monkeypatch.setattr(bulk, "CHUNK", 50)
    monkeypatch.setattr(bolt, "RETRY_S", 1.0)
    monkeypatch.setattr(bolt, "CONNECT_S", 2.0)
    if not own.answers():
        own.kill()
        own.start()
    opened = open_store(own.url)
    opened.rebuild(*OLD)
    yield opened
    opened.close()


def at_call(monkeypatch, module, name, number, act):
    """Do something before the given call of a function."""
    calls, real = iter(range(1, 1_000_000)), getattr(module, name)

    def counted(*arguments, **named):
        if next(calls) == number:
            act()
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, counted)


@pytest.mark.parametrize("batch", [2, 15])
def test_a_server_killed_during_a_rebuild(own, store, monkeypatch, batch):
    at_call(monkeypatch, neo4j_rebuild, "rows_of", batch, own.kill)
    with pytest.raises(StoreError, match=r"no answer .*; is the server up") as caught:
        store.rebuild(*NEW)
    assert "\n" not in str(caught.value)
    own.start()
    found = store.counts()
    assert 400 <= found.nodes["Item"] <= 600
    assert 400 <= found.edges[SAW] <= 600
    store.rebuild(*NEW)
    assert export_snapshot(store).digest == digest_of(NEW)


def test_a_server_that_comes_back_in_time_is_only_a_pause(own, store, monkeypatch):
    monkeypatch.setattr(bolt, "RETRY_S", 120.0)
    store.close()  # the patience of the connection is set when it is made

    def restart():
        own.kill()
        threading.Thread(target=own.start).start()

    at_call(monkeypatch, neo4j_rebuild, "rows_of", 8, restart)
    store.rebuild(*NEW)
    assert export_snapshot(store).digest == digest_of(NEW)


def test_a_server_killed_during_an_export(own, store, monkeypatch):
    monkeypatch.setattr(bulk, "BLOCK", 10)
    at_call(monkeypatch, Bolt, "read", 8, own.kill)
    with pytest.raises(StoreError, match="is the server up"):
        export_snapshot(store)
    own.start()
    assert export_snapshot(store).digest == digest_of(OLD)


def test_a_server_that_hangs_is_given_up(own, store):
    store.counts()  # over a connection that stands
    own.pause()
    try:
        for attempt in (store.counts, open_store(own.url).counts, lambda: store.rebuild(*NEW)):
            start = time.monotonic()
            with pytest.raises(StoreError) as caught:
                attempt()
            assert time.monotonic() - start < HANGS_AFTER_S + 30
            assert "no answer" in str(caught.value)
            assert "\n" not in str(caught.value)
    finally:
        own.resume()
    store.rebuild(*NEW)
    assert export_snapshot(store).digest == digest_of(NEW)


COMMIT = bytes.fromhex("0002b0120000")  # of Bolt: one chunk of two bytes, a structure without fields, 0x12


class Cut:
    """A way to a server that ends at the given COMMIT, before it arrives or before its answer does."""

    def __init__(self, port, number, arrives):
        self._port, self._left, self._arrives = port, number, arrives
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"bolt://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def was_made(self):
        return self._left <= 0

    def close(self):
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, server = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                for ends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source, target, asks):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._left -= asks * data.count(COMMIT)
                if asks and COMMIT in data and self._left == 0:
                    if self._arrives:
                        source.shutdown(socket.SHUT_RDWR)  # first: nobody is left to hear the answer
                        target.sendall(data)
                        target.recv(1 << 16)  # it is committed
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("number", [6, 10, 15])
def test_a_connection_that_ends_at_a_commit_is_only_a_pause(neo4j_server, neo4j_url, monkeypatch, number, arrives):
    for module in (neo4j_rebuild, neo4j_write):
        monkeypatch.setattr(module, "ROWS", 50)
    way = Cut(neo4j_server.port, number, arrives)
    store = open_store(way.url)
    store.rebuild(*NEW)
    assert way.was_made
    assert export_snapshot(store).digest == digest_of(NEW)
    store.close()
    way.close()


@pytest.mark.parametrize("scheme", ["bolt", "neo4j", "bolt+s", "neo4j+ssc"])
def test_a_port_that_accepts_and_says_nothing_is_given_up(scheme, monkeypatch):
    monkeypatch.setenv("NEO4J_PASSWORD", "anything")
    monkeypatch.setattr(bolt, "CONNECT_S", 0.5)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(StoreError, match=r"no answer .*; is the server up") as caught:
            open_store(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}").counts()
    assert len(str(caught.value)) < 250


def test_a_deadlock_is_tried_again_by_whoever_loses(neo4j_url, monkeypatch, caplog):
    """Somebody holds our meta node and waits for a node we hold, when we ask for the meta node."""
    store, real, others = open_store(neo4j_url), neo4j_rebuild.hold, Bolt(neo4j_url)
    store.rebuild(*OLD)
    meta_is_held, item_is_held, attempts = threading.Event(), threading.Event(), []

    def somebody():
        def work(transaction):
            transaction.run("MATCH (m:CatalographMeta {id: 'graph'}) SET m.seen = 1").consume()
            meta_is_held.set()
            item_is_held.wait()
            transaction.run("MATCH (n:Item {id: '00007'}) SET n.stock = 3").consume()

        others.write(work)

    def hold(transaction, *arguments):
        attempts.append(transaction)
        if len(attempts) == 2:  # the first batch of items is written and not committed
            thread.start()
            meta_is_held.wait()
            item_is_held.set()
            while not others.read("SHOW TRANSACTIONS YIELD status WHERE status STARTS WITH 'Blocked' RETURN status"):
                time.sleep(0.05)
        real(transaction, *arguments)

    thread = threading.Thread(target=somebody)
    monkeypatch.setattr(neo4j_rebuild, "hold", hold)
    store.rebuild(*NEW)
    thread.join()
    assert "DeadlockDetected" in caplog.text
    assert export_snapshot(store).digest == digest_of(NEW)
    assert others.read("MATCH (n:Item {id: '00007'}) RETURN n.stock")[0][0] == 3
    store.close()
    others.close()


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from catalograph.kg import neo4j_rebuild, neo4j_write
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
from test_neo4j_faults import NEW
neo4j_rebuild.ROWS = neo4j_write.ROWS = 10
store = open_store({url!r})
store.schema()
print("go", flush=True)
{act}
print("done", flush=True)
"""


def killed(url, act, pause):
    """Run in a process that is killed; whether it was killed in time."""
    code = KILLED.format(url=url, act=act, tests=os.path.dirname(__file__))
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        return process.stdout.read() == b""


def test_a_client_killed_during_a_rebuild_of_neo4j(neo4j_url):
    store, kills = open_store(neo4j_url), 0
    store.rebuild(*OLD)
    for pause in (0.1, 0.5, 1.0):
        kills += killed(neo4j_url, "store.rebuild(*NEW)", pause)
        found = store.counts()
        assert 400 <= found.nodes["Item"] <= 600
        assert 400 <= found.edges[SAW] <= 600
    assert kills
    store.rebuild(*NEW)
    assert export_snapshot(store).digest == digest_of(NEW)
    store.close()


def test_a_client_killed_during_a_batch_on_neo4j(neo4j_url):
    store = open_store(neo4j_url)
    store.rebuild(*OLD)
    act = "store.apply(Batch('b', nodes={'Item': NEW[0]['Item']}))"
    for pause in (0.05, 0.2):
        killed(neo4j_url, act, pause)
        assert store.counts().nodes["Item"] in (400, 600)
    store.apply(Batch("b", nodes={"Item": NEW[0]["Item"]}))
    assert store.counts().nodes["Item"] == 600
    assert set(store.nodes("Item", ["age"])["age"].to_pylist()) == {"new"}
    store.close()
