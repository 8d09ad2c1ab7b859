"""``%stop``: end Run All at a line."""

from __future__ import annotations

from .. import session

MESSAGE = "stopped here; the cells below were not run"


def stop(*message: str) -> None:
    """End the notebook here: the cells below do not run, and that is no error.

    In a run the run ends here as a success; in a script the script does. ``%stop main`` ends the main notebook only and
    does nothing in runs.

    Parameters
    ----------
    *message : str
        What to show; ``stopped here; the cells below were not run`` by default.

    Examples
    --------
    >>> %stop
    >>> %stop the plots below are for the paper
    >>> %stop main
    """
    if message == ("main",):
        if session.run_folder() is not None:
            return
        message = ()
    session.current().ui.stop(" ".join(message) or MESSAGE)
