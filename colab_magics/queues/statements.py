"""The text of SQL that SQLite and PostgreSQL both understand; `$words` are what differs, ``?`` what is filled in.

The tables of a queue whose table is `runs`:

``runs``           one row a run, for people too: they may insert rows, and write `status`, `config`, `priority`, `stop`
``runs_settings``  one row: whose it is, the version of this schema, the queue's defaults, how many got a default name
``runs_workers``   who has claimed: a word in `stop` keeps that worker from claiming more
``runs_tickets``   the answers of each worker's last exchanges, for whom the reply got lost
"""

from __future__ import annotations

from .base import FAILED, READY, RUNNING
from .records import COLUMNS

VERSION = 1
"""Of the schema."""

OURS = "colab_magics"

TICKETS_KEPT = 16
"""Answers kept for each worker: it repeats its last exchange, and has as many threads at most."""

MAKE = (
    """CREATE TABLE $runs (
        number $number,
        uid TEXT NOT NULL UNIQUE DEFAULT ($random),
        name TEXT NOT NULL UNIQUE DEFAULT ('run_' || $random),
        status TEXT NOT NULL DEFAULT 'draft',
        priority DOUBLE PRECISION NOT NULL DEFAULT 0 CHECK (priority + 0 = priority),
        config TEXT NOT NULL DEFAULT '{}',
        stop TEXT NOT NULL DEFAULT '',
        worker TEXT NOT NULL DEFAULT '',
        epoch INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT '',
        progress TEXT NOT NULL DEFAULT '',
        output TEXT NOT NULL DEFAULT '',
        git_commit TEXT NOT NULL DEFAULT '',
        metrics TEXT NOT NULL DEFAULT '{}',
        own TEXT NOT NULL DEFAULT '{}',
        ended TEXT NOT NULL DEFAULT '',
        lease_until DOUBLE PRECISION,
        boot TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX $next_index ON $runs (status, stop, priority DESC, number)",
    """CREATE TABLE $settings (
        made_by TEXT NOT NULL,
        version INTEGER NOT NULL,
        defaults TEXT NOT NULL,
        named INTEGER NOT NULL
    )""",
    "CREATE TABLE $workers (name TEXT PRIMARY KEY, stop TEXT NOT NULL DEFAULT '')",
    """CREATE TABLE $tickets (
        number $number,
        ticket TEXT NOT NULL UNIQUE,
        worker TEXT NOT NULL,
        answer TEXT NOT NULL
    )""",
    "CREATE INDEX $worker_index ON $tickets (worker, number)",
)

SET_UP = "INSERT INTO $settings (made_by, version, defaults, named) VALUES (?, ?, ?, 0)"
SETTINGS = "SELECT made_by, version FROM $settings"
DEFAULTS = "SELECT defaults FROM $settings"
# Who adds runs holds this row, so that two do not choose the same names.
NAME_SOME = "UPDATE $settings SET named = named + ?"
NAMED = "SELECT named FROM $settings"

ADD = "INSERT INTO $runs (uid, name, status, priority, config) VALUES (?, ?, ?, ?, ?)"
REMOVE = "DELETE FROM $runs WHERE uid = ?"

_LEFT = "CASE WHEN boot = $boot THEN lease_until - $now ELSE 0 END"
RECORDS = f"SELECT {COLUMNS}, {_LEFT} AS lease_left FROM $runs "
ALL = f"{RECORDS} ORDER BY number"
# Rows are locked in one order everywhere, so that two exchanges do not wait for each other.
LOCKED = " ORDER BY number $locked"
BY_STATUS = f"{RECORDS} WHERE status IN ('{FAILED}', '{RUNNING}') {LOCKED}"

_BEST = "ORDER BY priority DESC, number LIMIT ?"
FREE = " $free"
"""Passes by rows that others have locked, and locks those that it returns."""
NEXT = f"{RECORDS} WHERE status = '{READY}' AND stop = ? {_BEST}"
NEXT_STALE = (
    f"{RECORDS} WHERE status = '{RUNNING}' AND stop = ? AND attempts < ? "
    f"AND (lease_until IS NULL OR boot <> $boot OR lease_until <= $now) {_BEST}"
)

CLAIM = (
    f"UPDATE $runs SET status = '{RUNNING}', worker = ?, epoch = ?, attempts = ?, own = ?, error = '', progress = '', "
    "metrics = '{}', lease_until = $now + ?, boot = $boot WHERE uid = ?"
)
BEAT = (
    "UPDATE $runs SET progress = ?, output = ?, git_commit = ?, metrics = ?, lease_until = $now + ?, boot = $boot "
    "WHERE uid = ?"
)
FINISH = (
    "UPDATE $runs SET status = ?, worker = ?, attempts = ?, error = ?, ended = ?, progress = ?, output = ?, "
    "git_commit = ?, metrics = ?, lease_until = NULL WHERE uid = ?"
)
PUT_BACK = (
    f"UPDATE $runs SET status = '{READY}', worker = '', attempts = 0, stop = '', lease_until = NULL WHERE uid = ?"
)
SPOILT = f"UPDATE $runs SET status = '{FAILED}', error = ? WHERE uid = ?"
STOP = "UPDATE $runs SET stop = ? WHERE uid = ?"

WORKER = "SELECT stop FROM $workers WHERE name = ?"
ADD_WORKER = "INSERT INTO $workers (name) VALUES (?) ON CONFLICT DO NOTHING"
STOP_WORKER = "UPDATE $workers SET stop = ? WHERE name = ?"

TICKET = "SELECT answer FROM $tickets WHERE ticket = ?"
KEEP_TICKET = "INSERT INTO $tickets (ticket, worker, answer) VALUES (?, ?, ?)"
DROP_TICKETS = (
    "DELETE FROM $tickets WHERE worker = ? AND number <= "
    f"(SELECT number FROM $tickets WHERE worker = ? ORDER BY number DESC LIMIT 1 OFFSET {TICKETS_KEPT})"
)


def records_where(column: str, count: int) -> str:
    """Return the text that reads, and locks, rows by so many values of a column."""
    return f"{RECORDS} WHERE {column} IN ({', '.join('?' * count)}) {LOCKED}"
