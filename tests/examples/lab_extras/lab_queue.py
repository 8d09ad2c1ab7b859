"""Tables of the whole lab by their names: ``%fork runs=lab://sweeps`` is the file ``$LAB/queues/sweeps.db``."""

import os
from pathlib import Path

from colab_magics.errors import InvalidInput
from colab_magics.queues.sqlite import SqliteQueue


class LabQueue(SqliteQueue):
    """`SqlQueue` holds what all databases share; this is the one of a file, at a place that the lab agreed on."""

    def __init__(self, address, *, lease=None):
        name = address.removeprefix("lab://")
        if not name.isidentifier():
            raise InvalidInput(f"{address} names no table of the lab.", "Write a plain word: lab://sweeps")
        folder = Path(os.environ.get("LAB", "/lab"), "queues")
        super().__init__(str(folder / f"{name}.db"), lease=lease)

    def another(self):
        return LabQueue(f"lab://{self.path.stem}", lease=self.lease)
