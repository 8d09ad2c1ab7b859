from typing import Any

from ..ui import Notebook


def find(ip: Any) -> Notebook:
    raise NotImplementedError
