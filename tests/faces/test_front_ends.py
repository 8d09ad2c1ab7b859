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


@pytest.mark.parametrize(
    ("request_", "stays"),
    [
        ({"silent": True}, True),
        ({"silent": False, "store_history": False, "allow_stdin": True}, True),  # VS Code's variables
        ({"silent": False, "store_history": False, "allow_stdin": False}, False),  # a run's cell without a number
        ({"silent": False, "store_history": True, "allow_stdin": True}, False),
    ],
)
def test_questions_of_the_front_end_stay_here_while_cells_go_elsewhere(request_: dict[str, bool], stays: bool) -> None:
    kernel = SimpleNamespace(get_parent=lambda channel: {"content": request_})
    sent = Route(None, SimpleNamespace(kernel=kernel))(["1 + 1\n"])
    assert (sent == ["1 + 1\n"]) is stays
