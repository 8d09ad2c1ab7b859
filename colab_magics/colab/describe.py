"""What a front end is called, for people."""

from __future__ import annotations

import os

from .runtime import on_colab

_NAMES = {
    "colab": "a notebook on Google Colab",
    "colab-other": "Google Colab through another front end than its page",
    "colab-enterprise": "Colab Enterprise",
    "vscode": "VS Code",
    "jupyter": "Jupyter",
    "terminal": "IPython in a terminal",
    "script": "a shell or a script",
}


def describe(where: str, run: str = "") -> str:
    """Name the front end and the machine.

    Parameters
    ----------
    where : str
        The face; see `UI.where`.
    run : str, default ""
        The id of the run that this process belongs to, if any.
    """
    name = f"the run {run}" if run else _NAMES[where]
    if not on_colab():
        return name
    release = os.environ["COLAB_RELEASE_TAG"]
    return f"{name}, {release}" if "Colab" in name else f"{name}, on a runtime of Google Colab, {release}"
