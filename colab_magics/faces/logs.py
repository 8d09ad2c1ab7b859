"""Our log messages, shown when the user asks for them by ``COLAB_MAGICS_LOG=debug``."""

from __future__ import annotations

import logging
import os

from ..errors import InvalidInput


class _OurHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler that COLAB_MAGICS_LOG asked for."""


def set_log_level() -> None:
    """Show our log messages on standard error when COLAB_MAGICS_LOG names a level.

    Raises
    ------
    InvalidInput
        When it names none.
    """
    level = os.environ.get("COLAB_MAGICS_LOG", "").upper()
    if not level:
        return
    if level not in logging.getLevelNamesMapping():
        raise InvalidInput(
            f"COLAB_MAGICS_LOG={level.lower()} is no log level.", "Use debug, info, warning, error or critical."
        )
    unset_log_level()
    log = logging.getLogger("colab_magics")
    handler = _OurHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)


def unset_log_level() -> None:
    """Undo `set_log_level`."""
    log = logging.getLogger("colab_magics")
    for handler in [h for h in log.handlers if isinstance(h, _OurHandler)]:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
