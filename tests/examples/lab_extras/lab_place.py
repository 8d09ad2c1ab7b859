"""The lab's disk as a Place: ``%sync to=lab://net``, wherever a machine has it mounted (``$LAB``)."""

import os
from dataclasses import dataclass

from colab_magics.errors import Unmounted
from colab_magics.transport.places.base import safe_name
from colab_magics.transport.places.folder import FolderPlace


@dataclass(frozen=True)
class LabPlace(FolderPlace):
    """`FolderPlace` brings the store of folders; this says which folder, and whether the disk is there."""

    @classmethod
    def from_text(cls, text, *, project):
        name = safe_name(text.removeprefix("lab://") or project, of="the lab's disk")
        return cls(text=f"lab://{name}", root=os.path.join(os.environ.get("LAB", "/lab"), name))

    def mounted(self):
        if not os.path.isdir(os.path.dirname(self.root)):
            raise Unmounted(f"{self.text} is not there: this machine has no lab's disk.", "Set LAB to where it is.")
