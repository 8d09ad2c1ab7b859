"""A stand-in for google.colab in kernels: it sends the messages of Google's package and waits for the same answers.

Written from what was seen on the wire between Google's package and a page. ``%load_ext google.colab`` has each
``!command`` show its field for typing, as Colab's shell does.
"""

from . import _message, auth, drive, files, output, userdata

__all__ = ["auth", "drive", "files", "output", "userdata"]


def load_ipython_extension(shell):
    """Put Colab's ``!`` in place of IPython's."""
    plain = shell.system

    def system(command):
        for kind in ("cell_display_stdin", "cell_update_stdin", "cell_remove_stdin"):
            _message.send_request(kind, {}, parent=_message.cell(), expect_reply=False)
        plain(command)

    object.__setattr__(shell, "system", system)
