"""
What lasts: resources, operations and a few facts, in SQLite or PostgreSQL.

A resource is one row whose body is its RECORD document, so that a new field needs
no migration. Every write is one transaction that takes the write lock at once
(`BEGIN IMMEDIATE`): SQLite's deferred transactions fail as "locked" when two
readers both decide to write.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from attrs import evolve, field, frozen

from modelport.errors import LocalServerError

logger = logging.getLogger(__name__)

SCHEMA = 2
"""
Version of the state: the tables, and the folders that records name. A higher one was written by a newer Modelport.

Since 2, uploads are in containers; those that were made before are read where they are.
"""

_MOST_OPERATIONS = 1000
"""How many operations are remembered; those that have not ended always are."""

_tables = sql.MetaData()
_facts = sql.Table(
    "facts", _tables, sql.Column("name", sql.String, primary_key=True), sql.Column("value", sql.JSON, nullable=False)
)
_resources = sql.Table(
    "resources",
    _tables,
    sql.Column("place", sql.String, primary_key=True),
    sql.Column("collection", sql.String, nullable=False, index=True),
    sql.Column("number", sql.Integer, nullable=False),
    sql.Column("etag", sql.String, nullable=False),
    sql.Column("body", sql.JSON, nullable=False),
    sql.Column("private", sql.JSON, nullable=False),
)
_operations = sql.Table(
    "operations",
    _tables,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("place", sql.String, nullable=False, index=True),
    sql.Column("number", sql.Integer, nullable=False),
    sql.Column("verb", sql.String, nullable=False),
    sql.Column("request_id", sql.String, nullable=False),
    sql.Column("status", sql.String, nullable=False, index=True),
    sql.Column("messages", sql.JSON, nullable=False),
    sql.Column("fault", sql.JSON, nullable=True),
)


_OPERATION = ("id", "place", "verb", "request_id", "status", "fault")


@frozen
class Resource:
    """One resource as it is stored."""

    place: str
    """`onlineEndpoints/tides`: below the workspace, as in URLs."""

    body: dict[str, Any]
    """Its RECORD document."""

    private: dict[str, Any] = field(factory=dict)
    """What no answer shows: keys, the revision that serves."""

    etag: str = ""
    number: int = 0
    """Order of creation."""

    @property
    def leaving(self) -> bool:
        """Whether it is being deleted."""
        return bool(self.body["properties"].get("provisioningState") == "Deleting")

    @property
    def collection(self) -> str:
        """`onlineEndpoints`, or `onlineEndpoints/tides/deployments`."""
        return self.place.rpartition("/")[0]


@frozen
class Operation:
    """One long-running operation."""

    id: str
    place: str
    verb: str
    request_id: str = ""
    """What the client called its request: the same when it is sent again because no answer came."""
    status: str = "InProgress"
    messages: tuple[str, ...] = ()
    fault: dict[str, Any] | None = None


class Store:
    """The one table of resources and the one of operations. Threads may share it."""

    def __init__(self, url: str | Path, new_id: Callable[[], str]) -> None:
        """
        Open the store, and make it when it is not there.

        Args:
            url: A SQLAlchemy URL, or the path of a SQLite file.
            new_id: Makes ETags.

        Raises:
            errors.LocalServerError: A newer Modelport wrote it.
        """
        self._new_id = new_id
        address = f"sqlite:///{url}" if isinstance(url, Path) else url
        self._engine = sql.create_engine(address)
        if self._engine.dialect.name == "sqlite":
            sql.event.listen(self._engine, "connect", _prepare)
            sql.event.listen(self._engine, "begin", _begin)
        try:
            with self.writing() as transaction:
                _open(transaction, url)
        except sql.exc.DatabaseError as error:
            self.close()
            message = f"The state in '{url}' cannot be read: {error.orig}. Put a copy back, or remove it to start anew."
            raise LocalServerError(message) from error
        except LocalServerError:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A transaction that may write; it is undone when an exception leaves it."""
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield Transaction(connection, self._new_id)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction that sees one moment."""
        with self._engine.connect() as connection, connection.begin():
            yield Transaction(connection, self._new_id)

    def get(self, place: str) -> Resource | None:
        """The resource at a place."""
        with self.reading() as transaction:
            return transaction.get(place)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


class Transaction:
    """What can be done within one transaction."""

    def __init__(self, connection: sql.Connection, new_id: Callable[[], str]) -> None:
        self.connection = connection
        self._new_id = new_id

    def get(self, place: str) -> Resource | None:
        """The resource at a place, in any case of letters."""
        query = sql.select(_resources).where(sql.func.lower(_resources.c.place) == place.lower())
        row = self.connection.execute(query).mappings().first()
        return _resource(row) if row else None

    def resources(self, collection: str, *, below: bool = False) -> list[Resource]:
        """The resources of a collection, oldest first; with `below` also those further down."""
        column = sql.func.lower(_resources.c.collection)
        match = column == collection.lower()
        if below:
            match |= column.startswith(f"{collection.lower()}/", autoescape=True)
        query = sql.select(_resources).where(match).order_by(_resources.c.number)
        return [_resource(row) for row in self.connection.execute(query).mappings()]

    def text(self) -> str:
        """All that is stored of all resources, as one text to look for names in."""
        rows = self.connection.execute(sql.select(_resources.c.body, _resources.c.private))
        return "\n".join(json.dumps(tuple(row)) for row in rows)

    def put(self, resource: Resource) -> Resource:
        """Store what a client said, with a new ETag; the number of one that was there stays."""
        return self.amend(evolve(resource, etag=self._new_id()))

    def amend(self, resource: Resource) -> Resource:
        """Store what happened to a resource since: its ETag stays, for nobody's change would be lost."""
        there = self.get(resource.place)
        number = there.number if there else self._next(_resources)
        stored = evolve(resource, number=number, place=there.place if there else resource.place)
        values = {
            "collection": stored.collection,
            "number": number,
            "etag": stored.etag,
            "body": stored.body,
            "private": stored.private,
        }
        if there:
            self.connection.execute(sql.update(_resources).where(_resources.c.place == stored.place).values(values))
        else:
            self.connection.execute(sql.insert(_resources).values(place=stored.place, **values))
        return stored

    def delete(self, place: str) -> None:
        """Forget a resource and everything below it."""
        column = sql.func.lower(_resources.c.place)
        match = (column == place.lower()) | column.startswith(f"{place.lower()}/", autoescape=True)
        self.connection.execute(sql.delete(_resources).where(match))

    def begin(self, operation: Operation) -> None:
        """Record an operation, and forget those that ended long ago."""
        number = self._next(_operations)
        old = (_operations.c.number <= number - _MOST_OPERATIONS) & (_operations.c.status != "InProgress")
        self.connection.execute(sql.delete(_operations).where(old))
        values = {
            "id": operation.id,
            "place": operation.place,
            "number": number,
            "verb": operation.verb,
            "request_id": operation.request_id,
            "status": operation.status,
            "messages": list(operation.messages),
            "fault": operation.fault,
        }
        self.connection.execute(sql.insert(_operations).values(values))

    def operation(self, identifier: str) -> Operation | None:
        """An operation by its id."""
        query = sql.select(_operations).where(_operations.c.id == identifier)
        row = self.connection.execute(query).mappings().first()
        return _operation(row) if row else None

    def running(self, place: str | None = None, *, below: bool = False) -> list[Operation]:
        """Operations that have not ended, oldest first: all, those of a place, or also those below it."""
        query = sql.select(_operations).where(_operations.c.status == "InProgress").order_by(_operations.c.number)
        if place is not None:
            column = sql.func.lower(_operations.c.place)
            match = column == place.lower()
            if below:
                match |= column.startswith(f"{place.lower()}/", autoescape=True)
            query = query.where(match)
        return [_operation(row) for row in self.connection.execute(query).mappings()]

    def latest(self, place: str) -> Operation | None:
        """The newest operation of a place."""
        query = (
            sql.select(_operations)
            .where(sql.func.lower(_operations.c.place) == place.lower())
            .order_by(_operations.c.number.desc())
        )
        row = self.connection.execute(query).mappings().first()
        return _operation(row) if row else None

    def tell(self, identifier: str, message: str) -> None:
        """Add a message to an operation."""
        operation = self.operation(identifier)
        if operation and message not in operation.messages:
            self._update(identifier, messages=[*operation.messages, message])

    def end(self, identifier: str, status: str, fault: dict[str, Any] | None = None) -> None:
        """Record how an operation ended."""
        self._update(identifier, status=status, fault=fault)

    def fact(self, name: str) -> Any:
        """A fact about the workspace; None when it is not known."""
        query = sql.select(_facts.c.value).where(_facts.c.name == name)
        return self.connection.execute(query).scalar()

    def remember(self, name: str, value: Any) -> None:
        """Set a fact."""
        self.connection.execute(sql.delete(_facts).where(_facts.c.name == name))
        self.connection.execute(sql.insert(_facts).values(name=name, value=value))

    def _update(self, identifier: str, **values: Any) -> None:
        self.connection.execute(sql.update(_operations).where(_operations.c.id == identifier).values(**values))

    def _next(self, table: sql.Table) -> int:
        return (self.connection.execute(sql.select(sql.func.max(table.c.number))).scalar() or 0) + 1


def _open(transaction: Transaction, url: str | Path) -> None:
    """Make the tables that are missing, and refuse those of a newer version."""
    _tables.create_all(transaction.connection)
    found = transaction.fact("schema")
    if found is not None and found > SCHEMA:
        message = (
            f"The state in '{url}' has schema {found}, and this version of Modelport knows {SCHEMA}: a newer version "
            "wrote it. Install that version again, or choose another MODELPORT_HOME."
        )
        raise LocalServerError(message)
    if found != SCHEMA:
        transaction.remember("schema", SCHEMA)
    if found is not None and found != SCHEMA:
        logger.info("The state in '%s' has now schema %s; earlier versions of Modelport cannot read it", url, SCHEMA)


def kept_secret(store: Store, name: str, new: Callable[[], str]) -> str:
    """A secret of the workspace, made on first use."""
    with store.writing() as transaction:
        secret = transaction.fact(name)
        if secret is None:
            secret = new()
            transaction.remember(name, secret)
        return str(secret)


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # sqlite3's own transactions begin too late; `_begin` begins ours
    for pragma in ("busy_timeout=15000", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: sql.Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _resource(row: Any) -> Resource:
    return Resource(row["place"], row["body"], row["private"], row["etag"], row["number"])


def _operation(row: Any) -> Operation:
    return Operation(**{**{name: row[name] for name in _OPERATION}, "messages": tuple(row["messages"])})
