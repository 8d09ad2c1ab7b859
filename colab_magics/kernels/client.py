"""Drive a notebook through its kernel: cell by cell, with every output that arrives, and no waiting for nothing.

nbclient and papermill know what a message does to a notebook, and what a failed cell is; that is theirs. When to send,
how long to wait and what to do about death is decided here: outputs are read all the time and not only while their
cell runs, the end of the kernel's process is seen in the same moment, and nothing polls.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import nbformat
from nbclient.client import timestamp
from nbclient.exceptions import CellExecutionComplete, CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.util import ensure_async, run_hook, run_sync
from papermill.clientwrap import PapermillNotebookClient

from ..colab import asked
from ..records.injected import is_injected
from . import death, memory
from .manager import end_of
from .streams import Stream, coalesced

_SILENT = 60.0
"""Seconds after a cell's reply in which a kernel may be silent without having said that it is idle."""
_BURST = 64
"""Messages after which others get their turn."""
_LAST_WORDS = 0.05
"""Seconds of silence after which a dead kernel has nothing more to say."""


class Watcher(Protocol):
    """Who is told what happens."""

    @property
    def why_ended(self) -> Callable[[], str]:
        """Says why the kernel is being ended on purpose; empty when it is not."""

    def cell_begins(self, index: int, cell: Any, began: float) -> None:
        """Called when a cell was sent, before anything that it says; `began` in seconds since the epoch."""

    def cell_numbered(self, index: int, number: int | None) -> None:
        """Called when the kernel has said which number a cell has; None when it has none."""

    def cell_ended(self, index: int, cell: Any) -> None:
        """Called when a cell was executed, failed or was interrupted."""

    def kernel_ends(self) -> None:
        """Called before the kernel is ended."""

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
    """Executes a notebook in a kernel of `RunManager`; a cell by itself is executed as nbclient does."""

    km: Any
    kc: Any
    watcher: Watcher | None = None
    limit: float | None = None
    """Seconds that a cell may take; nbclient's own limit knows whole seconds only."""
    numbers_parameters = True
    """Whether the cell with the injected parameters takes a number, as it does with papermill."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._streams: dict[int, Stream] = {}
        self._sent: dict[str, _Sent] = {}
        self._readers: list[asyncio.Future[None]] = []
        self._driving: asyncio.Task[Any] | None = None
        self._heard = 0.0
        self._silent = float(kwargs.get("iopub_timeout", _SILENT))
        self._kills = death.kills_for_memory()
        self.reset_execution_trackers()

    # ------------------------------------------------------------------ from the first cell to the last
    def execute(self, **kwargs: Any) -> Any:
        """Execute the notebook; see papermill's client."""
        try:
            return run_sync(self._drive)(**kwargs)
        except KeyboardInterrupt:
            # It left the coroutine where it stood, and the kernel running.
            run_sync(self._leave)()
            raise

    async def _leave(self) -> None:
        if self._driving is not None and not self._driving.done():
            self._driving.cancel()
            await asyncio.gather(self._driving, return_exceptions=True)

    async def _drive(self, **kwargs: Any) -> Any:
        self._driving = asyncio.current_task()
        self.reset_execution_trackers()
        ends = kwargs.pop("cleanup_kc", self.owns_km)
        self.km = self.km or self.create_kernel_manager()
        try:
            if not self.km.has_kernel:
                await self.async_start_new_kernel(**kwargs)
            if self.kc is None:
                await self._connect()
        except BaseException:
            if ends:
                await self._end()
            raise
        try:
            self.log.info(f"Executing notebook with kernel: {self.kernel_name}")
            await self._execute_all()
            info = self.kc.info or {}
            if "language_info" in info:
                self.nb.metadata["language_info"] = info["language_info"]
            self.set_widgets_metadata()
        except RuntimeError:
            await run_hook(self.on_notebook_error, notebook=self.nb)
            raise
        finally:
            self.settle()
            if ends:
                await self._end()
            await run_hook(self.on_notebook_complete, notebook=self.nb)
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
        await run_hook(self.on_notebook_start, notebook=self.nb)

    async def _end(self) -> None:
        """End the kernel and close what was opened."""
        km, kc, self.km, self.kc = self.km, self.kc, None, None
        try:
            if km.has_kernel:
                if self.watcher is not None:
                    self.watcher.kernel_ends()
                if any(not sent.reply.done() for sent in self._sent.values()):
                    await ensure_async(km.interrupt_kernel())
                await ensure_async(km.shutdown_kernel(now=self.shutdown_kernel == "immediate"))
        finally:
            await ensure_async(km.cleanup_resources())
            if kc is not None:
                kc.stop_channels()

    async def _execute_all(self) -> None:
        self._dead = asyncio.ensure_future(end_of(self.km.provisioner))
        self._readers = [asyncio.ensure_future(self._read_iopub()), asyncio.ensure_future(self._read_shell())]
        try:
            for index, cell in enumerate(self.nb.cells):
                if self.watcher is not None and (why := self.watcher.why_ended()):
                    # The interrupt that begins an end may end a command of a cell alone: no other cell begins.
                    raise DeadKernelError(why)
                try:
                    self.nb_man.cell_start(cell, index)
                    await self.async_execute_cell(cell, index, store_history=self._is_numbered(cell))
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
            tasks, self._readers = [self._dead, *self._readers], []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------ one cell
    def executes(self, cell: Any) -> bool:
        """Say whether a cell is sent to the kernel: it holds code, and no tag says that it is to be skipped."""
        skipped = self.skip_cells_with_tag in cell.metadata.get("tags", [])
        return cell.cell_type == "code" and bool(cell.source.strip()) and not skipped

    def _is_numbered(self, cell: Any) -> bool:
        return self.numbers_parameters or not is_injected(cell)

    async def async_execute_cell(
        self, cell: Any, cell_index: int, execution_count: int | None = None, store_history: bool = True
    ) -> Any:
        """Execute one cell; see nbclient."""
        if not self._readers:
            return await super().async_execute_cell(cell, cell_index, execution_count, store_history)
        told = {"cell": cell, "cell_index": cell_index}
        await run_hook(self.on_cell_start, **told)
        if not self.executes(cell):
            return cell
        tags = cell.metadata.get("tags", [])
        allowed = not self.force_raise_errors and (self.allow_errors or "raises-exception" in tags)
        if self.record_timing:
            cell["metadata"]["execution"] = {}
        await run_hook(self.on_cell_execute, **told)
        cell.outputs = []
        self.clear_before_next_output = False
        began = time.time()  # before the kernel knows: what it reports comes later
        sent = self._send(cell, cell_index, store_history=store_history, stop_on_error=not allowed)
        self.code_cells_executed += 1
        # While the kernel is at it; what it says is read when we wait, so that the journal keeps its order.
        if self.watcher is not None:
            self.watcher.cell_begins(cell_index, cell, began)
        await run_hook(self.on_cell_complete, **told)
        reply = await self._outcome(sent)
        self.settle()
        if execution_count:
            cell["execution_count"] = execution_count
        await run_hook(self.on_cell_executed, **told, execute_reply=reply)
        if self.coalesce_streams:
            cell.outputs = coalesced(cell.outputs)
            self._streams.pop(cell_index, None)
        await self._check_raise_for_error(cell, cell_index, reply)
        self.nb["cells"][cell_index] = cell
        return cell

    def _send(self, cell: Any, index: int, **options: bool) -> _Sent:
        """Send a cell, with its id, as JupyterLab does."""
        content = {"code": cell.source, "silent": False, "user_expressions": {}, "allow_stdin": False, **options}
        metadata = {"cellId": cell["id"]} if cell.get("id") else {}
        message = self.kc.session.msg("execute_request", content, metadata=metadata)
        self.kc.shell_channel.send(message)
        sent = self._sent[message["header"]["msg_id"]] = _Sent(cell, index)
        return sent

    async def _outcome(self, sent: _Sent) -> dict[str, Any]:
        """Wait until a cell has ended and all that it printed is here."""
        limit = self.limit or self._get_timeout(sent.cell)
        end = None if limit is None else time.monotonic() + limit
        while not (sent.reply.done() and sent.idle.done()):
            waited = {one for one in (sent.reply, sent.idle) if not one.done()}
            left = self._silent if sent.reply.done() else None if end is None else max(0.0, end - time.monotonic())
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
                if not sent.idle.done() and time.monotonic() - self._heard > self._silent:
                    self._never_idle(sent.cell)
                    break
            elif limit is not None and end is not None and time.monotonic() >= end:
                # Raises, or interrupts the kernel and may say what its reply is to be.
                if reply := await self._async_handle_timeout(limit, sent.cell):
                    self._replied(sent, {"header": {"date": datetime.datetime.now(datetime.UTC)}, **reply})
                end = time.monotonic() + limit
        return sent.reply.result()

    def _never_idle(self, cell: Any) -> None:
        said = "Timeout waiting for IOPub output"
        if self.raise_on_iopub_timeout:
            raise CellTimeoutError.error_from_timeout_and_cell(said, self._silent, cell)
        self.log.warning(said)

    def _replied(self, sent: _Sent, message: dict[str, Any]) -> None:
        if self.record_timing:
            sent.cell["metadata"]["execution"]["shell.execute_reply"] = timestamp(message)
        sent.reply.set_result(message)

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
        held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return death.cause(status, kills=death.kills_for_memory() - self._kills, short=memory.was_short(held))

    # ------------------------------------------------------------------ what the kernel says
    async def _read_shell(self) -> None:
        while True:
            message = await _next_message(self.kc.shell_channel)
            sent = self._sent.get(message["parent_header"].get("msg_id"))
            if sent is not None and not sent.reply.done():
                self._replied(sent, message)

    async def _read_iopub(self) -> None:
        for count in itertools.count(1):
            message = await _next_message(self.kc.iopub_channel)
            if count % _BURST == 0:
                # Receiving what is here already does not give way to others by itself.
                await asyncio.sleep(0)
            self._heard = time.monotonic()
            if message["msg_type"] == asked.REQUEST:
                self._answer_colab(message)
                continue
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

    def _answer_colab(self, request: Mapping[str, Any]) -> None:
        """Answer google.colab, which asks its page and gets what somebody types."""
        current = next((sent.cell.source for sent in reversed(self._sent.values()) if not sent.reply.done()), "")
        if (value := asked.answer(request, current)) is not None:
            self.kc.stdin_channel.send(self.kc.session.msg("input_reply", {"value": value}))

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Do to the notebook what a message says; see nbclient."""
        kind = msg["msg_type"]
        if self.watcher is not None and kind not in ("status", "execute_input"):
            self.watcher.message(cell_index, msg)
        if self._autosaves_now():
            self.settle()
        result = super().process_message(msg, cell, cell_index)
        if "execution_count" in msg["content"] and not self._is_numbered(cell):
            cell["execution_count"] = None
        if kind == "execute_input" and self.watcher is not None:
            self.watcher.cell_numbered(cell_index, cell["execution_count"])
        return result

    def _autosaves_now(self) -> bool:
        """Say whether papermill is about to save in the middle of a cell, which it does where we do not."""
        man = self.nb_man
        if not (man.output_path and man.autosave_cell_every):
            return False
        return bool((man.now() - man.last_save_time).total_seconds() >= man.autosave_cell_every)

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
