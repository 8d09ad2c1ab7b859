"""The user's consent that this runtime may use Google's services as he or she."""

from __future__ import annotations

from ..errors import Unavailable
from .runtime import front_end_answers

_asked: list[bool] = []
"""Not empty when somebody has consented in this process: it holds for the runtime's time."""


def ask(where: str) -> None:
    """Ask the user of a notebook on Colab; elsewhere what was consented to already is all there is.

    Parameters
    ----------
    where : str
        The face; see `UI.where`.

    Raises
    ------
    Unavailable
        When the user does not allow it.
    """
    if _asked or not front_end_answers(where):
        return
    from google.colab import _message, auth

    try:
        auth.authenticate_user()
    except (_message.MessageError, NotImplementedError, ValueError) as error:
        raise Unavailable(
            f"Colab was not allowed to use your spreadsheets: {str(error) or type(error).__name__}",
            "Run the cell again and allow the access that Colab asks for, or name a service account: "
            "credentials=secret:NAME",
        ) from error
    _asked.append(True)
