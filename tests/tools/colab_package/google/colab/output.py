"""What is executed in the page."""

from . import _message


def eval_js(script, ignore_result=False, timeout_sec=None):
    """Have the page execute a script, by default waiting for ever."""
    number = _message.send_request("cell_javascript_eval", {"script": script}, parent=_message.cell())
    return None if ignore_result else _message.read_reply_from_input(number, timeout_sec)
