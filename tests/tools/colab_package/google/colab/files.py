"""Files of the user's machine."""

from . import output


def upload():
    """Ask for files."""
    return output.eval_js("google.colab._files._uploadFiles()")
