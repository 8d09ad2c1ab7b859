"""Requests go out as ``colab_request`` on iopub; replies come as what somebody types."""

import itertools
import time

import zmq
from IPython import get_ipython


class MessageError(Exception):
    """The page answered with an error."""


_numbers = itertools.count(1)


def cell():
    """The request that is being executed."""
    return get_ipython().parent_header


def send_request(request_type, request_body, parent=None, expect_reply=True):
    """Send a request; returns its number where a reply is expected."""
    kernel = get_ipython().kernel
    number = next(_numbers) if expect_reply else None
    metadata = {"colab_request_type": request_type, **({"colab_msg_id": number} if number else {})}
    if parent is None:  # to the front end alone, and to no cell
        parent = {"header": {"session": cell()["header"]["session"]}}
    session = kernel.parent.session
    session.send(
        kernel.parent.iopub_socket,
        session.msg("colab_request", content={"request": request_body}, metadata=metadata, parent=parent),
    )
    return number


def read_reply_from_input(message_id, timeout_sec=None):
    """Wait for a reply; None when there is none in time."""
    kernel = get_ipython().kernel
    end = time.monotonic() + (timeout_sec or float("inf"))
    while time.monotonic() < end:
        _, reply = kernel.session.recv(kernel.stdin_socket, zmq.NOBLOCK)
        value = (reply or {}).get("content", {}).get("value")
        if isinstance(value, dict) and value.get("type") == "colab_reply" and value["colab_msg_id"] == message_id:
            if "error" in value:
                raise MessageError(value["error"])
            return value.get("data")
        time.sleep(0.025)
    return None


def blocking_request(request_type, request="", timeout_sec=5, parent=None):
    """Send a request and wait for its reply."""
    return read_reply_from_input(send_request(request_type, request, parent=parent), timeout_sec)
