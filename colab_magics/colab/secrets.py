"""Secrets by name: Colab's, else the environment's."""

from __future__ import annotations

import os

from ..errors import NotFound
from .runtime import front_end_answers, on_colab


def read(name: str, where: str) -> str:
    """Read a secret.

    Parameters
    ----------
    name : str
        Its name in Colab's secrets, or of an environment variable. Runs and programs outside Colab have the
        environment only.
    where : str
        The face; see `UI.where`.

    Returns
    -------
    str
        The secret; never show it.

    Raises
    ------
    NotFound
        When there is none of that name, or the notebook may not read it.
    """
    found, why = _from_colab(name) if front_end_answers(where) else (None, "")
    value = found or os.environ.get(name)
    if value:
        return value
    sources = "Colab's secrets or the environment" if on_colab() else "the environment"
    mend = (
        f"Add {name} under the key symbol at the left of Colab, with notebook access switched on."
        if on_colab()
        else f"Set it before Jupyter starts (export {name}=…), or in a cell: import os, getpass; "
        f'os.environ["{name}"] = getpass.getpass()'
    )
    raise NotFound(f"There is no secret {name!r} in {sources}{why}.", mend)


def _from_colab(name: str) -> tuple[str | None, str]:
    """Ask Colab's page; the second value says why there is none."""
    from google.colab import _message, userdata

    # Not every release of google.colab has the time-out's class.
    no_answer = tuple(c for c in (getattr(userdata, "TimeoutException", None), _message.MessageError) if c)
    try:
        return userdata.get(name), ""
    except userdata.SecretNotFoundError:
        return None, ""
    except userdata.NotebookAccessError:
        return None, " that this notebook may read"
    except no_answer:
        return None, " (Colab's page did not answer)"
