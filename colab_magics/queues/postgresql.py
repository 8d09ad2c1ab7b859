"""A queue in PostgreSQL, for workers on any number of machines.

Who claims passes by rows that others have locked at that moment (``SELECT … FOR UPDATE SKIP LOCKED``); the clock is the
server's (``clock_timestamp()``). A connection that breaks is made again, once, and what was on its way is sent again:
everything here may be repeated, most of it by its ticket. When that breaks too, the caller hears of it and repeats it.

An address is one of libpq's: ``postgresql://user@host:5432/database``, with all its parameters (``?sslmode=require``,
``?service=name``), its environment (PGPASSWORD, PGHOST …), ``~/.pgpass`` and service files. ``?table=NAME`` or
``?table=SCHEMA.NAME`` names the table, so that a database can have several queues.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

from ..errors import ColabMagicsError, InvalidInput, NotFound, Unavailable

try:
    import psycopg
    from psycopg import conninfo, errors
except ModuleNotFoundError:
    raise
except ImportError as error:  # the package without the library of PostgreSQL
    raise Unavailable(f"psycopg cannot be used: {error}.", "pip install 'colab-magics[sql]'") from error

from . import without_password
from .sql import SqlQueue
from .tables import Tables

TABLE = "colab_magics_runs"
"""The table's name where the address has none."""

_TABLE = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_]{0,62})\.)?([A-Za-z_][A-Za-z0-9_]{0,47})")
_CONNECT_TIMEOUT = 10
_AGAIN = 5
"""How often what collides with another transaction is tried."""

_SETTINGS = {
    "connect_timeout": _CONNECT_TIMEOUT,
    # A connection whose other end is gone without a word is noticed within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "fallback_application_name": "colab_magics",
}

_left_to_parents: list[psycopg.Connection[Any]] = []
"""Connections that came along with a fork: to close one would end the parent's session."""

T = TypeVar("T")


class PostgresqlQueue(SqlQueue):
    """A queue in a database of PostgreSQL.

    Parameters
    ----------
    address : str
        See the module. The attribute of this name has no password.
    lease : float, optional
        See `Queue`.
    """

    _connection: _Connection | None = None

    def __init__(self, address: str, *, lease: float | None = None) -> None:
        super().__init__(without_password(address), lease=lease)
        self._full_address = address
        self._settings, table = _read(address, self.address)
        self._words = {**_names(table, self.address), **_DIALECT}

    def another(self) -> PostgresqlQueue:
        return PostgresqlQueue(self._full_address, lease=self.lease)

    def in_transaction(self, work: Callable[[Tables], T], *, creates: bool = False, reads: bool = False) -> T:
        with self._lock:
            collided = broken = 0
            while True:
                try:
                    return self._try(work, creates=creates)
                except (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected) as error:
                    collided += 1
                    if collided == _AGAIN:
                        raise self._told(error) from error
                except psycopg.Error as error:
                    had_connected = self._connection is not None
                    self.close()
                    broken += 1
                    if not _is_lost(error) or not had_connected or broken > 1:
                        raise self._told(error) from error
                except BaseException:
                    # Whoever was interrupted knows not how far the talk with the server had got.
                    if self._connection is not None and not self._connection.idle:
                        self.close()
                    raise

    def _try(self, work: Callable[[Tables], T], *, creates: bool) -> T:
        db = self._connected(creates=creates)
        with db.transaction():
            tables = Tables(db, self._words, self.address)
            if creates:
                # Two who create at once: the second finds what the first has made.
                tables.all("SELECT pg_advisory_xact_lock(hashtext(?))", self._words["runs"])
            return work(tables)

    def _connected(self, *, creates: bool) -> _Connection:
        if self._connection is not None and not self._connection.is_usable:
            self.close()
        if self._connection is None:
            made = _Connection(self._settings)
            try:
                if not creates:
                    with made.transaction():
                        self._open(Tables(made, self._words, self.address))
            except BaseException:
                made.close()
                raise
            self._connection = made
        return self._connection

    def _exists(self, tables: Tables) -> bool:
        ((settings, runs),) = tables.all(
            "SELECT to_regclass(?) IS NOT NULL, to_regclass(?) IS NOT NULL",
            self._words["settings"],
            self._words["runs"],
        )
        if runs != settings:
            raise InvalidInput(
                f"{self.address}: there is a table {self._words['runs']} of something else.",
                "Choose another name: postgresql://…/database?table=NAME",
            )
        return bool(runs)

    def _told(self, error: psycopg.Error) -> ColabMagicsError:
        """Say what an error of PostgreSQL means, without the password."""
        first = (str(error).strip() or type(error).__name__).split("\nLINE ")[0]
        said = self._blotted(" ".join(first.split()))
        state = error.sqlstate or ""
        if isinstance(error, errors.InvalidPassword) or "password" in said:
            return Unavailable(
                f"{self.address}: the server does not let us in: {said}",
                "Put the password into PGPASSWORD, or a line host:port:database:user:password into ~/.pgpass",
            )
        if state == "3D000" or ("does not exist" in said and "database" in said):
            return NotFound(f"{self.address}: {said}", "Make the database first: createdb NAME")
        if state == "3F000":
            return NotFound(f"{self.address}: {said}", "Make the schema first: CREATE SCHEMA name")
        if state == "42P01":
            return self._absent()
        if state in ("42501", "25006"):
            return Unavailable(f"{self.address}: the server forbids it: {said}", "Ask whoever keeps the database.")
        if state.startswith("53"):
            return Unavailable(f"{self.address}: the server has no room: {said}", "Try again in a while.")
        return Unavailable(f"{self.address}: {said}", "Is it there, and is there a network? Then try again.")

    def _blotted(self, text: str) -> str:
        for name in ("password", "sslpassword"):
            if secret := str(self._settings.get(name) or ""):
                text = text.replace(secret, "…")
        return text


_DIALECT = {
    "number": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    "random": "md5(random()::text || clock_timestamp()::text)",
    "now": "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)",
    "boot": "''",
    "locked": "FOR UPDATE",
    "free": "FOR UPDATE SKIP LOCKED",
}


def _read(address: str, shown: str) -> tuple[dict[str, Any], str]:
    """Return libpq's settings and the table's name."""
    plain, _, query = address.partition("?")
    table, left = TABLE, []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        if name == "table":
            table = unquote(value)
        else:
            left.append(part)
    try:
        if plain.count("@") > 1 or "@" in plain.partition("://")[2].partition("/")[2]:
            raise psycopg.ProgrammingError("an @ in the password")
        given = conninfo.conninfo_to_dict(plain + ("?" + "&".join(left) if left else ""))
    except psycopg.Error:
        # What libpq says of it may quote half of a password.
        raise InvalidInput(
            f"{shown} cannot be read as an address of PostgreSQL.",
            "Write postgresql://user@host:5432/database; special characters as %40, %2F; the password into PGPASSWORD.",
        ) from None
    usual = {name: value for name, value in _SETTINGS.items() if name != "connect_timeout" or not _has_timeout()}
    return {**usual, **given}, table


def _has_timeout() -> bool:
    return "PGCONNECT_TIMEOUT" in os.environ


def _names(table: str, shown: str) -> dict[str, str]:
    """Return the names of the tables, quoted, and folded as PostgreSQL does."""
    found = _TABLE.fullmatch(table)
    if found is None:
        raise InvalidInput(
            f"{shown}: {table!r} is no name of a table.",
            "Letters, digits and _, 48 at most: ?table=NAME or SCHEMA.NAME",
        )
    schema = f'"{found[1].lower()}".' if found[1] else ""
    name = found[2].lower()
    made = {one: f'{schema}"{name}_{one}"' for one in ("settings", "workers", "tickets")}
    return {
        "runs": f'{schema}"{name}"',
        **made,
        "next_index": f'"{name}_next"',
        "worker_index": f'"{name}_worker"',
    }


def _is_lost(error: psycopg.Error) -> bool:
    """Whether a connection broke, or the server ends it; nobody knows then what it had done."""
    state = error.sqlstate or ""
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (
        not state or state.startswith(("08", "57P"))
    )


class _Connection:
    """A connection to a server, in autocommit mode between transactions.

    Parameters
    ----------
    settings : dict of str to Any
        libpq's.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        # Statements are not prepared there: poolers that change servers between transactions do not know them.
        self._db = psycopg.connect(**settings, autocommit=True, prepare_threshold=None)
        self._db.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        self._pid = os.getpid()

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and this process's."""
        return not self._db.closed and self._pid == os.getpid()

    @property
    def idle(self) -> bool:
        """Whether no transaction and no statement is on its way."""
        return self._db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    def transaction(self) -> Any:
        """Return a block that commits at its end, or rolls back."""
        return self._db.transaction()

    def all(self, words: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `tables.Connection`."""
        return self._db.execute(words.replace("?", "%s").encode(), values).fetchall()

    def run(self, words: str, *values: Sequence[Any]) -> None:
        """See `tables.Connection`."""
        query = words.replace("?", "%s").encode()
        if len(values) == 1:
            self._db.execute(query, values[0])
        else:
            with self._db.cursor() as cursor:
                cursor.executemany(query, values)

    def close(self) -> None:
        """End the session, unless it is a parent's."""
        if self._pid == os.getpid():
            self._db.close()
        else:
            _left_to_parents.append(self._db)
