"""Secrets."""

from . import _message


class SecretNotFoundError(Exception):
    """There is none of that name."""


class NotebookAccessError(Exception):
    """The notebook may not read it."""


class TimeoutException(Exception):
    """The page did not answer."""


def get(key):
    """Ask the page for a secret."""
    answer = _message.blocking_request("GetSecret", {"key": key}, timeout_sec=10)
    if not answer:
        raise TimeoutException(key)
    if not answer.get("exists"):
        raise SecretNotFoundError(key)
    if not answer.get("access"):
        raise NotebookAccessError(key)
    return answer["payload"]
