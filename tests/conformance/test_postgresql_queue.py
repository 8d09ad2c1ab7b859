"""A queue in a real PostgreSQL keeps to what queues keep to, and to what servers do."""

from __future__ import annotations

import random
import threading
import traceback
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import Any

import psycopg
import pytest
from conftest import poll
from lossy_proxy import lossy_proxy
from postgres_server import LOCAL, PASSWORD, USER, PostgresServer

from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from colab_magics.queues import open_queue, without_password
from colab_magics.queues.base import RUNNING, End, New, Queue, new_ticket
from colab_magics.queues.postgresql import TABLE, PostgresqlQueue

from .queue_load import load
from .queue_suite import Lose, Open, insist
from .sql_suite import SqlQueueSuite


class TestPostgresqlQueue(SqlQueueSuite):
    """``postgresql://…``."""

    @pytest.fixture
    def table(self) -> str:
        return f"t_{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def open(self, postgres: PostgresServer, table: str) -> Iterator[Open]:
        opened: list[Queue] = []

        def one(lease: float = 60.0, address: str = "") -> Queue:
            opened.append(PostgresqlQueue(address or postgres.address(table), lease=lease))
            return opened[-1]

        yield one
        for queue in opened:
            queue.close()

    @pytest.fixture
    def lose(self, postgres: PostgresServer, table: str, open: Open) -> Iterator[Lose]:
        with lossy_proxy(postgres.port) as proxy:

            def one(queue: Queue, count: int) -> Queue:
                through = open(address=postgres.address(table, port=proxy.port))
                through.rows()
                proxy.lose(count)
                return through

            yield one
            assert proxy.lost

    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer) -> None:
        self.server = postgres

    def by_hand(self, queue: Queue, words: str, *values: Any) -> None:
        table = queue.address.rpartition("=")[2]
        self.write(Template(words).substitute(runs=table, settings=f"{table}_settings").replace("?", "%s"), *values)

    def write(self, words: str, *values: Any) -> None:
        with psycopg.connect(self.server.address()) as db:
            db.execute(words.encode(), values)

    # Connections that break

    def test_one_lost_reply_is_not_even_noticed(self, queue: Queue, lose: Lose) -> None:
        queue.add([New({}, name="a"), New({}, name="b")])
        claim = lose(queue, 1).claim("w")
        assert claim is not None
        assert (claim.name, claim.attempts) == ("a", 1)
        assert lose(queue, 1).finish(End(claim))
        assert lose(queue, 1).add([New({})]) == ["run_001"]
        assert len(queue.rows()) == 3

    def test_a_connection_lost_in_mid_transaction_leaves_nothing_behind(
        self, queue: Queue, open: Open, table: str
    ) -> None:
        queue.add([New({}, name="a"), New({}, name="b")])
        ticket = new_ticket()
        with lossy_proxy(self.server.port) as proxy:
            through = open(address=self.server.address(table, port=proxy.port))
            through.rows()
            for word in (b"UPDATE", b"INSERT", b"COMMIT"):
                proxy.lose(2, word, "request")
                with pytest.raises(Unavailable, match=f"{LOCAL}:{proxy.port}"):
                    through.exchange("w", ticket=ticket, number=1)
                assert [row.attempts for row in queue.rows()] == [0, 0]
            assert [one.name for one in insist(lambda: through.exchange("w", ticket=ticket, number=1)).claims] == ["a"]

    def test_a_server_that_starts_anew_is_found_again(self, open: Open) -> None:
        queue, other = open(), open()
        queue.create()
        queue.add([New({}, name="a")])
        other.rows()
        others = "pid <> pg_backend_pid() AND datname = 'postgres'"
        self.write(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        claim = other.claim("w")
        assert claim is not None
        assert claim.name == "a"

    def test_a_row_that_somebody_only_looks_at_is_waited_for(self, queue: Queue, table: str) -> None:
        queue.add([New({}, name="a")])
        with psycopg.connect(self.server.address()) as db:
            db.execute(f"SELECT * FROM {table} FOR UPDATE".encode())
            freed = threading.Timer(0.1, db.rollback)
            freed.start()
            claim = queue.claim("w")
            freed.join()
        assert claim is not None, "it was locked, and is ready all the same"

    def test_an_end_that_comes_while_somebody_else_takes_the_run_waits_and_is_refused(
        self, queue: Queue, table: str
    ) -> None:
        queue.add([New({}, name="a")])
        claim = queue.claim("zombie")
        assert claim is not None
        with psycopg.connect(self.server.address()) as db, ThreadPoolExecutor(1) as pool:
            db.execute(f"UPDATE {table} SET worker = 'w', epoch = epoch + 1".encode())
            told = pool.submit(queue.finish, End(claim))
            waiting = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            poll(lambda: db.execute(waiting).fetchone() != (0,))
            db.commit()
            assert told.result(30) is False
        assert (self.row(queue, "a").status, self.row(queue, "a").worker) == (RUNNING, "w")

    # Addresses

    def test_several_queues_are_in_one_database(self, open: Open, table: str) -> None:
        self.write(f"CREATE SCHEMA s_{table}")
        addresses = [
            self.server.address(one) for one in (table, f"{table}_b", f"s_{table}.{table}", f"s_{table}.order")
        ]
        for number, address in enumerate(addresses):
            queue = open(address=address)
            queue.create({"number": number})
            queue.add([New({})])
        assert [open(address=one).rows()[0].config for one in addresses] == [{"number": n} for n in range(4)]
        assert open(address=self.server.address())._words["runs"] == f'"{TABLE}"'  # type: ignore[attr-defined]
        for wrong in ("a-b", "a;b", "a.b.c", "x" * 49, ""):
            with pytest.raises(InvalidInput, match="table"):
                open_queue(self.server.address() + f"?table={wrong}")

    def test_a_table_of_something_else_is_left_alone(self, open: Open, table: str) -> None:
        self.write(f"CREATE TABLE {table} (photo TEXT)")
        for ask in (lambda: open().create(), lambda: open().rows()):
            with pytest.raises(InvalidInput, match=r"\?table=NAME"):
                ask()

    def test_a_queue_of_a_newer_version_is_left_alone(self, queue: Queue, open: Open, table: str) -> None:
        self.write(f"UPDATE {table}_settings SET version = 2")
        for ask in (lambda: open().rows(), lambda: open().create()):
            with pytest.raises(InvalidInput, match="newer version"):
                ask()

    @pytest.mark.parametrize("way", ["environment", "pgpass", "service", "query"])
    def test_a_password_comes_from_where_psycopg_finds_it(
        self, open: Open, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        port = self.server.port
        address = self.server.address(table, password=None)
        if way == "environment":
            monkeypatch.setenv("PGPASSWORD", PASSWORD)
        elif way == "pgpass":
            (tmp_path / "pgpass").write_text(f"{LOCAL}:{port}:*:{USER}:{PASSWORD}\n")
            (tmp_path / "pgpass").chmod(0o600)
            monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
        elif way == "service":
            settings = {"host": LOCAL, "port": port, "user": USER, "dbname": "postgres", "password": PASSWORD}
            lines = [f"{name}={value}" for name, value in settings.items()]
            (tmp_path / "service").write_text("\n".join(["[lab]", *lines, ""]))
            monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "service"))
            address = f"postgresql://?service=lab&table={table}"
        else:
            address += "&password=it's%20%24(a)%20p%40ss%2Fw%C3%B6rd"
        queue = open(address=address)
        queue.create()
        assert queue.rows() == []
        assert PASSWORD not in repr(queue)
        assert "ss%2F" not in repr(queue) + queue.address

    @pytest.mark.parametrize(
        "secret", ["geheim", "gehe@im", "ge/heim", "gehe#im", "gehe?im", "gehe:im", "%zzgeheim", "geheim "]
    )
    def test_a_password_is_shown_nowhere(self, secret: str, caplog: pytest.LogCaptureFixture) -> None:
        told = []
        for host in (f"{LOCAL}:1", f"{LOCAL}:{self.server.port}", "nowhere.invalid"):
            address = f"postgresql://{USER}:{secret}@{host}/lab?connect_timeout=2&table=x"
            told.append(without_password(address))
            try:
                queue = open_queue(address)
                told += [repr(queue), queue.address, str(vars(queue.another())["address"])]  # type: ignore[attr-defined]
                queue.rows()
            except ColabMagicsError as error:
                told += [repr(error), str(error), "".join(traceback.format_exception(error)), *error.args]
            else:
                raise AssertionError("nobody is there")
        for part in ("geheim", "ge/", "heim", "gehe"):
            assert part not in "\n".join(told) + caplog.text

    def test_what_is_wrong_is_said(self, open: Open, table: str) -> None:
        for address, kind, words in [
            (self.server.address(table, password=None), Unavailable, "PGPASSWORD"),
            (self.server.address(table, password="no"), Unavailable, "PGPASSWORD"),
            (self.server.address(table, database="nothing"), NotFound, "createdb"),
            (self.server.address(f"nowhere.{table}"), NotFound, "CREATE SCHEMA"),
            (f"postgresql://{USER}@{LOCAL}:1/postgres", Unavailable, "network"),
            (f"postgresql://{USER}@{LOCAL}:1/postgres?nonsense=1", InvalidInput, "postgresql://user@host"),
        ]:
            with pytest.raises(kind, match=words):
                open(address=address).create()

    def test_who_may_only_read_is_told(self, queue: Queue, open: Open, table: str) -> None:
        self.write(f"CREATE ROLE r_{table} LOGIN PASSWORD 'x'")
        self.write(f"GRANT SELECT ON {table}, {table}_settings, {table}_workers, {table}_tickets TO r_{table}")
        queue.add([New({}, name="a")])
        reader = open(address=f"postgresql://r_{table}:x@{LOCAL}:{self.server.port}/postgres?table={table}")
        assert [row.name for row in reader.rows()] == ["a"]
        with pytest.raises(Unavailable, match="forbids"):
            reader.claim("w")

    @pytest.mark.long
    def test_every_run_once_whatever_happens_to_workers(self, open: Open, table: str, tmp_path: Path) -> None:
        queue = open(lease=3.0)
        queue.create()
        with lossy_proxy(self.server.port) as proxy:
            # Of the replies that a commit gets, and on top of what workers lose themselves.
            proxy.rule = lambda data: "reply" if b"COMMIT" in data and random.random() < 0.05 else None
            address = self.server.address(table, port=proxy.port)
            print(load(queue, address, tmp_path).check(500), f"{proxy.lost} connections broken")
            assert proxy.lost
