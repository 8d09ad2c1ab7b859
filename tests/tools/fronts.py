"""A front end that speaks to real kernels, and notebooks for those that are executed without one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Reply:
    """What a front end gets for one cell."""

    status: str = ""
    out: str = ""
    err: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    """What the kernel answered to the request itself."""


class Front:
    """A front end: sends cells to a kernel, all at once or one by one, and collects what comes back."""

    def __init__(self, client: Any, kernel_pid: int = 0) -> None:
        self.client = client
        self.kernel_pid = kernel_pid

    def send(self, code: str, **options: Any) -> str:
        """Send a cell and wait for nothing; returns the request's id."""
        sent: str = self.client.execute(code, **options)
        return sent

    def send_cell(self, code: str, cell_id: str) -> str:
        """Send a cell as JupyterLab does: with the id that it has in the notebook."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell_id})
        self.client.shell_channel.send(message)
        sent: str = message["header"]["msg_id"]
        return sent

    def collect(self, *sent: str, timeout: float = 60.0) -> list[Reply]:
        """Wait for the answers to these requests."""
        replies = {one: Reply() for one in sent}
        waiting, idle = set(sent), set(sent)
        while waiting:
            message = self.client.get_shell_msg(timeout=timeout)
            parent = message["parent_header"].get("msg_id")
            if parent in waiting:
                waiting.discard(parent)
                replies[parent].status = message["content"]["status"]
                replies[parent].reply = message["content"]
        # A request that was aborted is busy and idle too.
        while idle:
            message = self.client.get_iopub_msg(timeout=timeout)
            parent = message["parent_header"].get("msg_id")
            if parent in replies and _note(replies[parent], message["msg_type"], message["content"]):
                idle.discard(parent)
        return [replies[one] for one in sent]

    def run(self, code: str, **options: Any) -> Reply:
        """Run a cell and return what came.

        ipykernel 6 aborts what arrives within a moment after a cell failed, also what was sent when its reply was
        there; a person would run the cell again.
        """
        reply = self.collect(self.send(code, **options))[0]
        return reply if reply.status != "aborted" else self.collect(self.send(code, **options))[0]


def _note(reply: Reply, kind: str, content: dict[str, Any]) -> bool:
    if kind == "stream":
        name = "out" if content["name"] == "stdout" else "err"
        setattr(reply, name, getattr(reply, name) + content["text"])
    elif kind in ("display_data", "execute_result"):
        reply.data.append(content["data"])
    elif kind == "update_display_data":
        reply.updates.append(content["data"])
    elif kind == "error":
        reply.ename, reply.evalue, reply.traceback = content["ename"], content["evalue"], content["traceback"]
    return kind == "status" and content["execution_state"] == "idle"


def notebook(*sources: str) -> Any:
    """Make a notebook of these code cells."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made
