"""A queue as a scheduler is told of it: by its environment, for the address may hold a password."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass

from ... import process

QUEUE_VARIABLE = "COLAB_MAGICS_QUEUE"
"""Environment variable of a scheduler alone: the queue that it takes its runs from, with password and key, as JSON."""


@dataclass(frozen=True)
class Table:
    """A queue that a scheduler takes its runs from.

    Parameters
    ----------
    address : str
        The queue's, with its password where it has one.
    watch : bool, default False
        Whether to wait for runs that are added when none is left.
    credentials : str, default ""
        Who asks it; see `Queue.sign_in`.
    secret : str, default ""
        What the secret holds that `credentials` names.
    """

    address: str
    watch: bool = False
    credentials: str = ""
    secret: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What the scheduler's environment has of it; the runs' has nothing."""
        return {QUEUE_VARIABLE: process.as_json(dataclasses.asdict(self))}

    @classmethod
    def taken(cls) -> Table | None:
        """Return the queue that this process was told of, and take it out of the environment; None: of none."""
        told = os.environ.pop(QUEUE_VARIABLE, "")
        return cls(**json.loads(told)) if told else None
