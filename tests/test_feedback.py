"""The log of events: each id once, all of a batch or nothing, and what was acknowledged is there after a kill."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from catalograph.errors import DataError
from catalograph.loaders.feedback import FILE, Event, FeedbackLog, read_feedback


def event(id_, **more):
    return Event(id=id_, user="u", item="i", kind="click", at=1_700_000_000_000, **more)


def ids(folder, **more):
    return read_feedback(folder, **more)["id"].to_pylist()


def test_an_id_counts_once_and_the_first_stays(tmp_path):
    log = FeedbackLog(tmp_path)
    assert log.append([[event("a"), event("b"), event("a", quantity=9)], [event("b")]]) == [2, 0]
    assert log.append([[event("c"), event("b")]]) == [1]
    log.close()
    table = read_feedback(tmp_path)
    assert table["id"].to_pylist() == ["a", "b", "c"]
    assert table["quantity"].to_pylist() == [1.0, 1.0, 1.0]
    assert ids(tmp_path, after=table["number"][1].as_py()) == ["c"]


def test_a_file_of_before_there_were_ids_of_lists_is_read_and_goes_on(tmp_path):
    FeedbackLog(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as older:
        older.execute("ALTER TABLE events DROP COLUMN recommendation")
        older.execute("INSERT INTO events (received, id, user, item, kind, at) VALUES (1, 'a', 'u', 'i', 'click', 1)")
    assert read_feedback(tmp_path)["recommendation"].to_pylist() == [None]
    log = FeedbackLog(tmp_path)
    assert log.append([[event("b", recommendation="l1")]]) == [1]
    log.close()
    assert read_feedback(tmp_path)["recommendation"].to_pylist() == [None, "l1"]


def test_nothing_of_a_refused_batch_is_kept(tmp_path):
    log = FeedbackLog(tmp_path)
    with pytest.raises(DataError, match="not kept"):
        log.append([[event("a"), event("b", quantity="many")]])
    assert log.append([[event("c")]]) == [1]
    assert ids(tmp_path) == ["c"]


def test_no_file_holds_no_events_and_another_file_is_told(tmp_path):
    empty = read_feedback(tmp_path)
    assert empty.num_rows == 0
    assert str(empty.schema.field("at").type) == "int64"
    (tmp_path / FILE).write_bytes(b"something else altogether, and longer than a header of sqlite would be" * 20)
    for opening in (FeedbackLog, read_feedback):
        with pytest.raises(DataError, match=FILE):
            opening(tmp_path)


def test_two_writers_share_the_file(tmp_path):
    def write(mine):
        log = FeedbackLog(tmp_path)
        for n in range(50):
            log.append([[event(f"{mine}{n}"), event(f"both{n}")]])
        log.close()

    threads = [threading.Thread(target=write, args=(mine,)) for mine in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ids(tmp_path)
    assert len(found) == len(set(found)) == 150


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    program = (
        "import sys; from pathlib import Path; from catalograph.loaders.feedback import Event, FeedbackLog\n"
        "log = FeedbackLog(Path(sys.argv[1])); n = 0\n"
        "while True:\n"
        "    log.append([[Event(id=str(n), user='u', item='i', kind='cart', at=0)]]); print(n, flush=True); n += 1\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    acknowledged = [int(child.stdout.readline()) for _ in range(40)]
    os.kill(child.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
    child.wait()
    child.stdout.close()
    assert set(map(str, acknowledged)) <= set(ids(tmp_path))
    assert FeedbackLog(tmp_path).append([[event("0"), event("new")]]) == [1]


def test_values_are_parameters(tmp_path):
    log = FeedbackLog(tmp_path)
    hostile = "'); DROP TABLE events; --\x00\n☃"
    assert log.append([[event(hostile)]]) == [1]
    assert ids(tmp_path) == [hostile]
    assert sqlite3.connect(tmp_path / FILE).execute("SELECT count(*) FROM events").fetchone() == (1,)
