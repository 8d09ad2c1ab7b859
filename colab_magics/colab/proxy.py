"""Colab's own proxy: a port of the runtime in the browser of whoever has the notebook open, and nobody else's."""

from __future__ import annotations

from ..errors import Unavailable
from .runtime import front_end_answers

_SECONDS = 30.0


def address(port: int, where: str) -> str:
    """Return where Colab shows a port, without a slash at the end.

    Parameters
    ----------
    port : int
        A port of the loopback.
    where : str
        The face; see `UI.where`.

    Raises
    ------
    Unavailable
        When this is not the notebook's own kernel on Colab, or its page does not answer.
    """
    _check(where)
    from google.colab import _message, output

    try:
        found = output.eval_js(f"google.colab.kernel.proxyPort({port}, {{'cache': false}})", timeout_sec=_SECONDS)
    except _message.MessageError as error:
        found = None
        why = str(error) or type(error).__name__
    else:
        why = "no answer" if found is None else "an answer that is no address"
    if not isinstance(found, str) or not found.startswith("https://"):
        raise Unavailable(
            f"Colab's page did not say where it shows port {port} ({why}).",
            "Bring its tab to the front and run the cell again.",
        )
    return found.rstrip("/")


def show(port: int, where: str) -> None:
    """Show a port below the cell.

    Parameters
    ----------
    port, where : int, str
        See `address`.
    """
    _check(where)
    from google.colab import output

    output.serve_kernel_port_as_iframe(port)


def _check(where: str) -> None:
    if not front_end_answers(where):
        raise Unavailable(
            "Colab's page shows a port only when the notebook itself asks for it.",
            "Say it in a cell of the notebook in Colab, or name another way: via=ssh:HOST",
        )
