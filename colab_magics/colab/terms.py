"""What Colab's terms of use say of some of what this package can do: asked once a session, never assumed.

Colab restricts what its runtimes may be used for. Whoever uses one answers for that, so such a verb names what is
restricted and asks; nothing here gets around a check of Colab's.
"""

from __future__ import annotations

import os
from collections.abc import MutableSet

from ..errors import InvalidInput
from ..ui import Says

ACCEPTED = "accepted"
_MARK = "colab_terms=accepted"
_TEXT = (
    "Colab's terms of use forbid on every plan: serving files or web services that are no part of interactive work, "
    "connecting to remote proxies, and using several accounts to get around limits. Without a positive balance of "
    "compute units they forbid also: ssh shells, remote desktops, bypassing the notebook's page, and being a worker of "
    "distributed computing. (https://research.google.com/colaboratory/faq.html)"
)


def counts() -> bool:
    """Whether this machine is a runtime of Colab."""
    return "COLAB_RELEASE_TAG" in os.environ


def accept(ui: Says, said: MutableSet[str], why: str, *, said_now: str | None = None) -> None:
    """Return when the user has accepted Colab's terms, or this is not Colab.

    Parameters
    ----------
    ui : Says
        Asks.
    said : set of str
        What the session remembers.
    why : str
        What is about to be done, in a sentence.
    said_now : str, optional
        ``accepted`` where the call says it.

    Raises
    ------
    InvalidInput
        When they were not accepted.
    """
    if not counts() or _MARK in said:
        return
    if said_now != ACCEPTED and not ui.ask(f"{why}\n{_TEXT}\nDoes your plan allow it, and do you accept that?"):
        raise InvalidInput(
            f"{why} {_TEXT}", f"If your plan allows it, say so: {_MARK}. Nothing was started, and nothing claimed."
        )
    said.add(_MARK)
