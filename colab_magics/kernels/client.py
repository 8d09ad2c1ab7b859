"""Drive a notebook through its kernel: cell by cell, with every output that arrives, and no waiting for nothing.

nbclient and papermill know what a message does to a notebook, and what a failed cell is; that is theirs. When to send,
how long to wait and what to do about death is decided here: outputs are read all the time and not only while their
cell runs, the end of the kernel's process is seen in the same moment, and nothing polls.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import nbformat
from nbclient.exceptions import CellExecutionComplete, CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.util import ensure_async, run_hook, run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager

from . import death
from .streams import Stream

_SILENT = 60.0
"""Seconds after a cell's reply in which a kernel may be silent without having said that it is idle."""
_BURST = 64
"""Messages after which others get their turn."""
_LAST_WORDS = 0.05
"""Seconds of silence after which a dead kernel has nothing more to say."""


class Watcher(Protocol):
    """Who is told what happens."""

    def cell_begins(self, index: int, cell: Any) -> None:
        """Called when a cell was sent, before anything that it says."""

    def cell_ended(self, index: int, cell: Any) -> None:
        """Called when a cell was executed, failed or was interrupted."""

    def message(self, index: int, message: Mapping[str, Any]) -> None:
        """Called for everything that the kernel says of a cell."""

    def changed(self) -> None:
        """Called when the notebook has changed."""


@dataclass
class _Sent:
    """A cell that was sent to the kernel."""

    cell: Any
    index: int
    reply: asyncio.Future[dict[str, Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    idle: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RunClient(PapermillNotebookClient):  # type: ignore[misc]
    """Executes a notebook."""

    km: Any
    kc: Any
    watcher: Watcher | None = None
    limit: float | None = None
    """Seconds that a cell may take; nbclient's own limit knows whole seconds only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._streams: dict[int, Stream] = {}
        self._sent: dict[str, _Sent] = {}
        self._heard = 0.0
        self._kills = death.kills_for_memory()
        self.reset_execution_trackers()

    # ------------------------------------------------------------------ from the first cell to the last
    def execute(self, **kwargs: Any) -> Any:
        """Execute the notebook; see papermill's client."""
        return run_sync(self._drive)(**kwargs)

    async def _drive(self, **kwargs: Any) -> Any:
        self.reset_execution_trackers()
        self.km = self.km or self.create_kernel_manager()
        try:
            if not self.km.has_kernel:
                await self.async_start_new_kernel(**kwargs)
            provisioner = getattr(self.km, "provisioner", None)
            if self.kc is None:
                await self._connect()
            await self._execute_all(provisioner)
            info = getattr(self.kc, "info", None) or {}
            if "language_info" in info:
                self.nb.metadata["language_info"] = info["language_info"]
            self.set_widgets_metadata()
        finally:
            self.settle()
            if self.owns_km:
                await self._end()
        return self.nb

    async def _connect(self) -> None:
        self.kc = self.km.client()
        self.kc.start_channels()
        try:
            await ensure_async(self.kc.wait_for_ready(timeout=self.startup_timeout))
        except RuntimeError as error:
            if await ensure_async(self.km.is_alive()):
                raise
            raise DeadKernelError(f"{self._how_it_died()} before it was ready") from error
        self.kc.allow_stdin = False

    async def _end(self) -> None:
        """End the kernel and close what was opened."""
        km, kc, self.km, self.kc = self.km, self.kc, None, None
        try:
            if km.has_kernel:
                if any(not sent.reply.done() for sent in self._sent.values()):
                    await ensure_async(km.interrupt_kernel())
                await ensure_async(km.shutdown_kernel())
        finally:
            await ensure_async(km.cleanup_resources())
            if kc is not None:
                kc.stop_channels()

    async def _execute_all(self, provisioner: Any) -> None:
        ended = getattr(provisioner, "ended", None)
        self._dead = asyncio.ensure_future(ended() if ended else _for_ever())
        self._readers = [asyncio.ensure_future(self._read_iopub()), asyncio.ensure_future(self._read_shell())]
        try:
            for index, cell in enumerate(self.nb.cells):
                try:
                    self.nb_man.cell_start(cell, index)
                    await self.async_execute_cell(cell, index)
                except CellExecutionError as error:
                    self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                    break
                except (DeadKernelError, CellTimeoutError) as error:
                    self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                    raise
                finally:
                    self.nb_man.cell_complete(cell, cell_index=index)
                    if self.watcher is not None:
                        self.watcher.cell_ended(index, cell)
        finally:
            tasks = [self._dead, *self._readers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------ one cell
    async def async_execute_cell(
        self, cell: Any, cell_index: int, execution_count: int | None = None, store_history: bool = True
    ) -> Any:
        """Execute one cell; see nbclient."""
        await run_hook(self.on_cell_start, cell=cell, cell_index=cell_index)
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or not cell.source.strip() or self.skip_cells_with_tag in tags:
            return cell
        allowed = not self.force_raise_errors and (self.allow_errors or "raises-exception" in tags)
        if self.record_timing:
            cell["metadata"]["execution"] = {}
        cell.outputs = []
        self.clear_before_next_output = False
        sent = _Sent(cell, cell_index)
        number = self.kc.execute(cell.source, store_history=store_history, stop_on_error=not allowed)
        self._sent[number] = sent
        self.code_cells_executed += 1
        # While the kernel is at it; what it says is read when we wait, so that the journal keeps its order.
        if self.watcher is not None:
            self.watcher.cell_begins(cell_index, cell)
        content = (await self._outcome(sent))["content"]
        self.settle()
        if execution_count:
            cell["execution_count"] = execution_count
        if content["status"] == "error" and not allowed and content.get("ename") not in self.allow_error_names:
            raise CellExecutionError.from_cell_and_msg(cell, content)
        return cell

    async def _outcome(self, sent: _Sent) -> dict[str, Any]:
        """Wait until a cell has ended and all that it printed is here."""
        end = None if not self.limit else time.monotonic() + self.limit
        while not (sent.reply.done() and sent.idle.done()):
            waited = {one for one in (sent.reply, sent.idle) if not one.done()}
            left = _SILENT if sent.reply.done() else None if end is None else max(0.0, end - time.monotonic())
            await asyncio.wait({*waited, self._dead, *self._readers}, timeout=left, return_when="FIRST_COMPLETED")
            for reader in self._readers:
                if reader.done():
                    reader.result()
            if self._dead.done():
                await self._last_words()
                if sent.reply.done():
                    break  # the kernel left in order, such as by exit()
                raise DeadKernelError(self._how_it_died())
            if sent.reply.done():
                if not sent.idle.done() and time.monotonic() - self._heard > _SILENT:
                    break
            elif end is not None and time.monotonic() >= end:
                raise CellTimeoutError.error_from_timeout_and_cell("Cell execution timed out", self.limit, sent.cell)
        return sent.reply.result()

    async def _last_words(self) -> None:
        """Read on until nothing more comes from a kernel that has ended."""
        self._heard = time.monotonic()
        while (left := self._heard + _LAST_WORDS - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _how_it_died(self) -> str:
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        status = None if process is None else process.poll()
        if getattr(process, "unknown", False):
            status = None
        return death.describe(status, kills=death.kills_for_memory() - self._kills)

    # ------------------------------------------------------------------ what the kernel says
    async def _read_shell(self) -> None:
        while True:
            message = await _next_message(self.kc.shell_channel)
            sent = self._sent.get(message["parent_header"].get("msg_id"))
            if sent is not None and not sent.reply.done():
                if self.record_timing:
                    sent.cell["metadata"]["execution"]["shell.execute_reply"] = _stamp(message)
                sent.reply.set_result(message)

    async def _read_iopub(self) -> None:
        for count in itertools.count(1):
            message = await _next_message(self.kc.iopub_channel)
            if count % _BURST == 0:
                # Receiving what is here already does not give way to others by itself.
                await asyncio.sleep(0)
            self._heard = time.monotonic()
            # Threads print when their cell has long ended: it is that cell's output all the same.
            sent = self._sent.get(message["parent_header"].get("msg_id"))
            if sent is None:
                continue
            try:
                self.process_message(message, sent.cell, sent.index)
            except CellExecutionComplete:
                if not sent.idle.done():
                    sent.idle.set_result(None)
            if self.watcher is not None and message["msg_type"] != "status":
                self.watcher.changed()

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Do to the notebook what a message says; see nbclient."""
        if self.watcher is not None and msg["msg_type"] not in ("status", "execute_input"):
            self.watcher.message(cell_index, msg)
        return super().process_message(msg, cell, cell_index)

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        """Add an output; what a stream goes on with joins what it said before."""
        stream = self._streams.get(cell_index)
        content = msg["content"]
        hooked = self.output_hook_stack[msg["parent_header"].get("msg_id")]
        if msg["msg_type"] == "stream" and not self.clear_before_next_output and not hooked:
            # Not by new_output, which validates: that takes longer than all the rest.
            said = nbformat.NotebookNode(output_type="stream", name=content["name"], text=content["text"])
            if stream is not None and outs and outs[-1] is stream.output and said["name"] == stream.output["name"]:
                stream.add(content["text"])
            else:
                if stream is not None:
                    stream.settle()
                outs.append(said)
                self._streams[cell_index] = Stream(said)
            return said
        before = len(outs)
        out = super().output(outs, msg, display_id, cell_index)
        if out is not None and out["output_type"] == "stream" and outs and outs[-1] is out:
            if stream is not None:
                stream.settle()
            self._streams[cell_index] = Stream(out)
        elif stream is not None and before != len(outs):
            stream.settle()
        return out

    def settle(self) -> None:
        """Bring the texts of streams up to date, for whoever reads the notebook."""
        for stream in self._streams.values():
            stream.settle()


async def _next_message(channel: Any) -> dict[str, Any]:
    """Return the next message; half the cost of the channel's own way, which asks first whether there is one."""
    _, parts = channel.session.feed_identities(await channel.socket.recv_multipart())
    message: dict[str, Any] = channel.session.deserialize(parts)
    return message


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def _stamp(message: Mapping[str, Any]) -> str:
    date = (message.get("header") or {}).get("date")
    return date.isoformat() if isinstance(date, datetime.datetime) else str(date or "")


def as_text(notebook: Any) -> str:
    """Return a notebook as a file's text."""
    # Half a surrogate pair, which a kernel may send, is no UTF-8; its escape is JSON.
    return str(nbformat.v4.writes_json(notebook)).encode("utf-8", "backslashreplace").decode()


class Replay:
    """A notebook that a journal is played into.

    Parameters
    ----------
    content : mapping
        The notebook before its first cell.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.notebook = nbformat.from_dict(content)
        self._client = RunClient(NotebookExecutionManager(self.notebook, progress_bar=False, autosave_cell_every=0))

    def play(self, entry: dict[str, Any]) -> None:
        """Do what a line says."""
        if "begins" in entry:
            cell = self.notebook.cells[entry["begins"]]
            cell["metadata"] = nbformat.from_dict(entry["metadata"])
            cell["outputs"] = []
            self._client.clear_before_next_output = False
        elif "ended" in entry:
            cell = self.notebook.cells[entry["ended"]]
            cell["metadata"] = nbformat.from_dict(entry["metadata"])
            if cell["cell_type"] == "code":
                cell["execution_count"] = entry["count"]
        elif "msg_type" in entry:
            entry["buffers"] = [base64.b64decode(raw) for raw in entry.get("buffers", ())]
            with contextlib.suppress(CellExecutionComplete):
                self._client.process_message(entry, self.notebook.cells[entry["cell"]], entry["cell"])

    def text(self) -> str:
        """Return the notebook as a file's text."""
        self._client.settle()
        self._client.set_widgets_metadata()
        return as_text(self.notebook)
