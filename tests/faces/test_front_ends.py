"""What front ends ask by themselves: help on hovering, and requests that are no cells of the user's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fronts import Front

from colab_magics.faces.remote_cells import Route

pytest_plugins = ("shells",)


def test_hovering_over_a_magic_shows_its_help(front: Front) -> None:
    reply = front.client.inspect("x = %sync every=5m", 7, reply=True, timeout=30)["content"]
    assert "%sync now" in reply["data"]["text/plain"]
    assert "How often to look" in reply["data"]["text/plain"]
    told = front.run("print(get_ipython().object_inspect('sync')['definition'])").out
    assert "".join(told.split()).startswith("sync(source:"), (
        "the verb's own options, not the words that all magics take"
    )


@pytest.mark.parametrize("silent", [True, False])
def test_silent_requests_stay_here_while_cells_go_elsewhere(silent: bool) -> None:
    kernel = SimpleNamespace(get_parent=lambda channel: {"content": {"silent": silent}})
    sent = Route(None, kernel)(["1 + 1\n"])
    assert (sent == ["1 + 1\n"]) is silent
