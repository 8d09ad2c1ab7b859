"""Start, reach and end a run's kernel; what the stock parts do by polling is done by events here.

The manager and the client are jupyter_client's. Other are: sockets are unix sockets in a private folder, that no two
runs can race for; nothing is dropped from a full queue; readiness is the kernel's own word and no 0.2 s of silence;
the end of the process is an event.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import default

from ..engines import scratch
from .cold import ThisPythonSpecs, with_our_kernel

_RECONNECT = 5
"""Milliseconds between two tries to connect: we connect before the kernel binds."""
_IOPUB_PATIENCE = 0.02
_GRACE = 5.0
"""Seconds that a kernel has for its exit handlers, before it is terminated, and again before it is killed."""


class RunProvisioner(LocalProvisioner):  # type: ignore[misc]
    """A kernel process whose end is an event."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the process; what reads its standard input finds the end and does not wait for ever."""
        with open(os.devnull, "rb") as nothing:
            return await super().launch_kernel(cmd, **{**kwargs, "stdin": nothing})

    async def ended(self) -> None:
        """Return when the process has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except OSError:
            # An old Linux, or one that forbids it.
            while await self.poll() is None:
                await asyncio.sleep(0.05)
            return
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(fd, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    async def wait(self) -> int | None:
        """Wait for the process's end; return its exit status."""
        if self.process is not None:
            await self.ended()
        result: int | None = await super().wait()
        return result


async def end_of(provisioner: Any) -> None:
    """Return when a kernel has ended; ask once a second where its kernelspec names a provisioner that cannot tell."""
    if isinstance(provisioner, RunProvisioner):
        await provisioner.ended()
        return
    while await provisioner.poll() is None:
        await asyncio.sleep(1)


class RunKernelClient(AsyncKernelClient):  # type: ignore[misc]
    """Talks to a run's kernel."""

    info: dict[str, Any] | None = None

    @default("context")  # type: ignore[untyped-decorator]
    def _context_default(self) -> zmq.asyncio.Context:
        context = zmq.asyncio.Context()
        context.setsockopt(zmq.RCVHWM, 0)
        context.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
        return context

    def start_channels(self, **_: Any) -> None:
        """Open the channels that a run needs."""
        super().start_channels(hb=False, control=False)

    def stop_channels(self) -> None:
        """Close them."""
        for channel in (self.shell_channel, self.iopub_channel, self.stdin_channel):
            channel.stop()
        self.context.destroy(linger=0)

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel answers and what it publishes arrives here.

        Raises
        ------
        RuntimeError
            When it died, or did not answer in time.
        """
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        ended = asyncio.ensure_future(end_of(self.parent.provisioner))
        try:
            while True:
                number = self.kernel_info()
                reply = await self._answer(self.shell_channel, number, ended, end - time.monotonic())
                if reply is None:
                    raise RuntimeError(f"Kernel didn't respond in {timeout} seconds")
                self.info = reply["content"]
                # It publishes what it does. Once that arrives, everything later does too.
                if await self._answer(self.iopub_channel, number, ended, _IOPUB_PATIENCE) is not None:
                    return
        finally:
            ended.cancel()

    async def _answer(self, channel: Any, number: str, ended: asyncio.Future[None], within: float) -> Any:
        """Return the first message on a channel that answers a request; None when there is none in time."""
        end = time.monotonic() + within
        while (left := end - time.monotonic()) > 0:
            get = asyncio.ensure_future(channel.get_msg(timeout=min(left, 3600.0)))
            await asyncio.wait({get, ended}, return_when="FIRST_COMPLETED")
            if not get.done():
                get.cancel()
                raise RuntimeError("Kernel died before replying to kernel_info")
            try:
                message = get.result()
            except Empty:
                continue
            if message["parent_header"].get("msg_id") == number:
                return message
        return None


class RunManager(AsyncKernelManager):  # type: ignore[misc]
    """Starts the kernel of a kernelspec for one run."""

    provisioner: Any
    _kernel_spec: KernelSpec | None
    client_class = "colab_magics.kernels.manager.RunKernelClient"
    client_factory = RunKernelClient
    make_provisioner: Callable[..., RunProvisioner] = RunProvisioner
    """Makes what starts the process and holds it."""

    @default("context")  # type: ignore[untyped-decorator]
    def _context_default(self) -> zmq.Context[Any]:
        context: zmq.Context[Any] = super()._context_default()
        # Of the socket that asks for the end.
        context.setsockopt(zmq.RECONNECT_IVL, _RECONNECT)
        return context

    _held: int | None

    def __init__(self, **kwargs: Any) -> None:
        self._folder, self._held = scratch.make("cmk-")
        super().__init__(transport="ipc", connection_file=f"{self._folder}/k.json", **kwargs)

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """The kernelspec, its kernel made one that loses no output."""
        if self._kernel_spec is None and (found := super().kernel_spec) is not None:
            self._kernel_spec = with_our_kernel(found)
        return self._kernel_spec

    async def start_kernel(self, **kwargs: Any) -> None:
        """Start the kernel's process."""
        spec = self.kernel_spec
        if self.provisioner is None and spec is not None and not spec.metadata.get("kernel_provisioner"):
            self.provisioner = self.make_provisioner(parent=self, kernel_id=self.kernel_id or "run", kernel_spec=spec)
        if not isinstance(self.provisioner, RunProvisioner):
            await super().start_kernel(**kwargs)
            return
        # The same steps, without the 10 ms that the stock way sleeps so that its tests can look.
        command, options = await self.pre_start_kernel(**kwargs)
        await self.provisioner.launch_kernel(command, **options)
        await self.post_start_kernel(**options)

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        """End the kernel: its exit handlers run, and nobody waits longer than they take."""
        self.shutting_down = True
        provisioner = self.provisioner
        steps: list[signal.Signals | None] = [signal.SIGKILL] if now else [None, signal.SIGTERM, signal.SIGKILL]
        for step in steps:
            if step is None:
                await self.request_shutdown(restart=restart)
            else:
                await provisioner.send_signal(step)
            try:
                await asyncio.wait_for(provisioner.wait(), _GRACE)
                break
            except TimeoutError:
                continue
        await self.cleanup_resources(restart=restart)

    def cleanup_resources(self, restart: bool = False) -> Any:
        """Remove what the kernel leaves, its sockets' folder too."""
        result = super().cleanup_resources(restart=restart)
        if not restart:
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._held is not None:
                os.close(self._held)
                self._held = None
        return result


class ThisPythonManager(RunManager):
    """Starts kernels with this interpreter, whatever a kernelspec of the same name says.

    A fork's runs use the interpreter of the notebook that forks.
    """

    @default("kernel_spec_manager")  # type: ignore[untyped-decorator]
    def _specs(self) -> KernelSpecManager:
        return ThisPythonSpecs(parent=self)


def manager_class(kernel: str | None) -> type[RunManager]:
    """Return the kernel manager for a payload's kernel name; None stands for this interpreter."""
    return ThisPythonManager if kernel is None else RunManager
