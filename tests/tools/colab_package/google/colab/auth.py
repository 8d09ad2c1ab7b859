"""The user's consent."""

from . import _message


def authenticate_user():
    """Ask for it, and wait for ever."""
    _message.blocking_request("request_auth", {"authType": "auth_user_ephemeral"}, timeout_sec=None)
