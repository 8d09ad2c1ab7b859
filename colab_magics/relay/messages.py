"""What a kernel says, and the requests of jupyter_client's client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..units import show_size


class Message(NamedTuple):
    """A Jupyter message; `channel` is ``shell``, ``control``, ``stdin``, ``iopub``, or ``relay`` for its own words.

    `packed` is its content as it came, for whoever sends it on; empty where it is not what came.
    """

    channel: str
    header: dict[str, Any]
    parent: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: list[bytes]
    packed: bytes = b""


def own(kind: str, content: dict[str, Any]) -> Message:
    """Make a message of our own, which no kernel said."""
    return Message("relay", {"msg_type": kind}, {}, {}, content, [])


def as_output(message: Message) -> Message:
    """Write what the relay says of itself as output of the kernel, for those who know no relay."""
    kind, content = message.header["msg_type"], message.content
    if kind == "output_lost":
        text = f"{content['messages']:,} messages ({show_size(content['bytes'])}) of output were dropped."
    elif kind == "file_error":
        text = f"{content['path']} could not be written: {content['error']}."
    else:
        text = f"The kernel died ({content.get('how', 'nobody knows how')})."
    header = {"msg_id": "", "session": "", "username": "", "msg_type": "stream", "version": "5.3", **message.header}
    header["msg_type"] = "stream"
    return Message("iopub", header, {}, {}, {"name": "stderr", "text": f"⚠ {text}\n"}, [])


@dataclass(frozen=True)
class Cell:
    """A request that another client sent, and whose output nobody took to the end.

    Parameters
    ----------
    msg_id : str
        For `RemoteKernel.messages`.
    code : str
        Its beginning.
    begun : float
        Seconds since the epoch.
    done : bool
        Whether it has ended.
    """

    msg_id: str
    code: str
    begun: float
    done: bool


class Requests:
    """The requests that jupyter_client's client knows, each made by `send`."""

    asked_input: dict[str, Any]
    """Header of the kernel's last ``input_request``."""

    def send(
        self,
        msg_type: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        parent: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: list[bytes] | None = None,
    ) -> str:
        """Send a message of any type; returns its msg_id."""
        raise NotImplementedError

    def execute(
        self,
        code: str,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool = True,
        stop_on_error: bool = True,
    ) -> str:
        """Have code executed, once; returns the msg_id."""
        content = {"code": code, "silent": silent, "store_history": store_history, "allow_stdin": allow_stdin}
        content.update(user_expressions=user_expressions or {}, stop_on_error=stop_on_error)
        return self.send("execute_request", content)

    def complete(self, code: str, cursor_pos: int | None = None) -> str:
        """Ask for completions; returns the msg_id."""
        position = len(code) if cursor_pos is None else cursor_pos
        return self.send("complete_request", {"code": code, "cursor_pos": position})

    def inspect(self, code: str, cursor_pos: int | None = None, detail_level: int = 0) -> str:
        """Ask for help on an object; returns the msg_id."""
        position = len(code) if cursor_pos is None else cursor_pos
        return self.send("inspect_request", {"code": code, "cursor_pos": position, "detail_level": detail_level})

    def history(self, raw: bool = True, output: bool = False, hist_access_type: str = "range", **more: Any) -> str:
        """Ask for history; returns the msg_id."""
        if hist_access_type == "range":
            more = {"session": 0, "start": 0, **more}
        content = {"raw": raw, "output": output, "hist_access_type": hist_access_type, **more}
        return self.send("history_request", content)

    def is_complete(self, code: str) -> str:
        """Ask whether code is complete; returns the msg_id."""
        return self.send("is_complete_request", {"code": code})

    def kernel_info(self) -> str:
        """Ask what the kernel is; returns the msg_id."""
        return self.send("kernel_info_request", {})

    def comm_info(self, target_name: str | None = None) -> str:
        """Ask which comms are open; returns the msg_id."""
        return self.send("comm_info_request", {} if target_name is None else {"target_name": target_name})

    def input(self, text: str) -> None:
        """Answer the kernel's last ``input_request``."""
        self.send("input_reply", {"value": text, "status": "ok"}, channel="stdin", parent=self.asked_input)
