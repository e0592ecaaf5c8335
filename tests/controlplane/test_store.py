"""What lasts: one writer at a time, nothing half-written, and nothing of a newer version touched."""

import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from modelport.controlplane import store as stores
from modelport.controlplane.store import Operation, Resource, Store
from modelport.errors import LocalServerError


def _opened(path):
    return Store(path, lambda: uuid.uuid4().hex)


@pytest.fixture
def store(tmp_path):
    opened = _opened(tmp_path / "state.db")
    yield opened
    opened.close()


def _put(store, place, **body):
    with store.writing() as transaction:
        return transaction.put(Resource(place, {"id": place, **body}))


def test_what_was_put_is_there_after_a_restart(tmp_path, store):
    _put(store, "onlineEndpoints/tides", tags={"größe": "1"})
    store.close()
    again = _opened(tmp_path / "state.db")
    assert again.get("ONLINEENDPOINTS/TIDES").body == {"id": "onlineEndpoints/tides", "tags": {"größe": "1"}}
    again.close()


def test_every_put_has_another_etag_and_keeps_the_order_of_creation(store):
    first, second = _put(store, "models/a/versions/1"), _put(store, "models/a/versions/2")
    again = _put(store, "models/A/versions/1")
    assert len({first.etag, second.etag, again.etag}) == 3
    assert (again.number, again.place) == (first.number, first.place)
    with store.reading() as transaction:
        assert [each.place for each in transaction.resources("models/a/versions")] == [first.place, second.place]


def test_a_transaction_that_raises_leaves_nothing(store):
    def half():
        with store.writing() as transaction:
            transaction.put(Resource("onlineEndpoints/tides", {}))
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        half()
    assert store.get("onlineEndpoints/tides") is None


def test_deleting_takes_what_is_below_and_nothing_beside(store):
    for place in ("onlineEndpoints/a_b", "onlineEndpoints/a_b/deployments/x", "onlineEndpoints/axb/deployments/x"):
        _put(store, place)
    with store.writing() as transaction:
        transaction.delete("onlineEndpoints/A_B")
    with store.reading() as transaction:
        assert [each.place for each in transaction.resources("onlineEndpoints", below=True)] == [
            "onlineEndpoints/axb/deployments/x"
        ]


def test_eight_threads_that_read_and_write_lose_nothing(store):
    _put(store, "onlineEndpoints/tides", count=0)

    def count(_):
        for _ in range(50):
            with store.writing() as transaction:
                there = transaction.get("onlineEndpoints/tides")
                transaction.put(attrs.evolve(there, body={"count": there.body["count"] + 1}))
            store.get("onlineEndpoints/tides")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))
    assert store.get("onlineEndpoints/tides").body == {"count": 400}


def test_two_servers_at_once_lose_nothing_either(tmp_path, store):
    other = _opened(tmp_path / "state.db")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: _put((store, other)[number % 2], f"models/m/versions/{number}"), range(20)))
    with store.reading() as transaction:
        found = transaction.resources("models/m/versions")
    assert len({each.number for each in found}) == 20
    other.close()


def test_readers_go_on_while_somebody_writes(tmp_path, store):
    _put(store, "onlineEndpoints/tides")
    with store.writing() as transaction:
        transaction.delete("onlineEndpoints/tides")
        assert store.get("onlineEndpoints/tides") is not None
    assert store.get("onlineEndpoints/tides") is None


def test_the_file_has_a_write_ahead_log(tmp_path, store):
    connection = sqlite3.connect(tmp_path / "state.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_state_of_a_newer_version_is_refused_and_left_alone(tmp_path, store):
    with store.writing() as transaction:
        transaction.remember("schema", stores.SCHEMA + 1)
    store.close()
    with pytest.raises(LocalServerError, match=r"has schema 3, and this version of Modelport knows 2.*MODELPORT_HOME"):
        _opened(tmp_path / "state.db")
    connection = sqlite3.connect(tmp_path / "state.db")
    assert connection.execute("SELECT value FROM facts WHERE name = 'schema'").fetchone() == (3,)
    connection.close()


def test_the_state_of_an_older_version_is_taken_over_and_said_so(tmp_path, store, caplog):
    _put(store, "onlineEndpoints/tides")
    with store.writing() as transaction:
        transaction.remember("schema", 1)
    store.close()
    caplog.set_level("INFO")
    again = _opened(tmp_path / "state.db")
    assert again.get("onlineEndpoints/tides")
    again.close()
    assert "earlier versions of Modelport cannot read it" in caplog.text
    caplog.clear()
    _opened(tmp_path / "state.db").close()
    assert caplog.text == ""


def test_a_secret_is_made_once(tmp_path, store):
    first = stores.kept_secret(store, "storage", lambda: "first")
    store.close()
    again = _opened(tmp_path / "state.db")
    assert stores.kept_secret(again, "storage", lambda: "second") == first == "first"
    again.close()


def test_a_file_that_is_no_database_is_told_in_a_sentence(tmp_path):
    (tmp_path / "state.db").write_text("not a database, but long enough to be looked at as one " * 100)
    with pytest.raises(LocalServerError, match="cannot be read: file is not a database"):
        _opened(tmp_path / "state.db")


def _begin(store, number, **values):
    with store.writing() as transaction:
        transaction.begin(Operation(f"{number:x}", "onlineEndpoints/tides", "put", **values))


def test_operations_are_told_and_ended(store):
    _begin(store, 1)
    with store.writing() as transaction:
        for message in ("One.", "Two.", "One."):
            transaction.tell("1", message)
    with store.reading() as transaction:
        assert [each.id for each in transaction.running("ONLINEENDPOINTS/tides")] == ["1"]
    with store.writing() as transaction:
        transaction.end("1", "Failed", {"code": "X", "message": "Why."})
    with store.reading() as transaction:
        ended = transaction.operation("1")
        assert transaction.running() == []
        assert transaction.latest("onlineEndpoints/tides") == ended
    assert (ended.status, ended.messages, ended.fault["message"]) == ("Failed", ("One.", "Two."), "Why.")


def test_operations_of_long_ago_are_forgotten_unless_they_go_on(store, monkeypatch):
    monkeypatch.setattr(stores, "_MOST_OPERATIONS", 3)
    _begin(store, 1)
    for number in range(2, 9):
        _begin(store, number, status="Succeeded")
    with store.reading() as transaction:
        there = [number for number in range(1, 9) if transaction.operation(f"{number:x}")]
    assert there == [1, 6, 7, 8]
