"""jupyter_client's provisioner for kernels of other machines: the entry point ``colab-magics-host``.

The process that it starts and holds is `host_kernel`, which is on this machine: Jupyter's server does nothing but wait
for it. What is added to a kernel of this machine: a start may take as long as the host takes, one that fails says why,
and the kernel there ends also when its process here is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from jupyter_client.provisioning import LocalProvisioner

from ..errors import Unavailable
from .host_kernel import AGAIN_SECONDS, END_SECONDS, NOTHING_LEFT, leave

NAME = "colab-magics-host"
SETTINGS = "colab_magics"
"""Where a kernelspec's metadata says what is ours in it."""


class HostProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Starts, holds and ends the kernel of one host."""

    _there = ""
    """The kernel's name there; empty when there is none."""
    _status: int | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the process, and wait until the kernel there answers.

        Raises
        ------
        Unavailable
            When it does not; the text says why.
        """
        self._there, self._status = "", None
        told, tells = os.pipe()
        try:
            info = await super().launch_kernel([*cmd, "--tell"], **{**kwargs, "stdout": tells})
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tells)
        try:
            line = await asyncio.get_running_loop().run_in_executor(None, _first_line, told)
        except BaseException:
            await super().kill()
            raise
        answer = json.loads(line or "{}")
        self._there = answer.get("name", "")
        if not self._there:
            await self.wait()
            raise Unavailable(
                answer.get("error") or "The process of the kernel ended when it started.",
                "" if "error" in answer else "Jupyter's log may say why.",
            )
        return info

    async def wait(self) -> int | None:
        """Wait for the process's end; return its exit status."""
        self._status = await super().wait()
        return self._status

    async def kill(self, restart: bool = False) -> None:
        """End the process; first in a way that it can end the kernel there."""
        await self.terminate(restart)
        end = asyncio.get_running_loop().time() + END_SECONDS + AGAIN_SECONDS
        while await self.poll() is None:
            if asyncio.get_running_loop().time() > end:
                await super().kill(restart)
                return
            await asyncio.sleep(0.05)

    async def cleanup(self, restart: bool = False) -> None:
        """Have the kernel there end if its process could not see to it."""
        if not restart and self._there and self._status not in (None, 0, NOTHING_LEFT):
            settings = self.kernel_spec.metadata[SETTINGS]
            # The host may be known by a variable of the kernelspec alone.
            leave(settings["host"], self._there, settings["idle"], self.kernel_spec.env)
        await super().cleanup(restart)

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Give the kernel there the time that it needs; half of it is for the first, friendly request."""
        return max(recommended, 2 * (END_SECONDS + AGAIN_SECONDS + 1))


def _first_line(fd: int) -> str:
    with open(fd) as stream:
        return stream.readline()
