"""What fetches on another machine: one order comes in, lines about it go out. Stands alone: shipped to hosts."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from .fetch import Wanted
from .several import Job, Progress, fetch_all
from .web import Web

MARK = "colab_magics-download:"
"""Begins each line of ours: a login shell may print what it likes."""
_TELL_SECONDS = 1.0


def main(order: dict[str, Any]) -> None:
    """Do what an order says; ends when nobody listens any more, and keeps what has come."""
    stop = threading.Event()
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()
    folder = os.path.join(os.path.expanduser("~"), os.path.expanduser(order["folder"]))
    jobs = [
        Job(
            one["shown"],
            Wanted(one["key"], os.path.join(folder, one["below"]), one["name"], one["check"], order["force"]),
            Web(one["url"], token=one["token"], agent=order["agent"]),
        )
        for one in order["files"]
    ]
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _TELL_SECONDS:
            last = time.monotonic()
            _say("progress", progress)

    try:
        done = fetch_all(jobs, unpack=order["unpack"], big=order["big"], workers=order["workers"], tell=tell, stop=stop)
    except KeyboardInterrupt:
        return
    _say("done", done)


def _say(kind: str, value: Any) -> None:
    try:
        sys.stdout.write(f"{MARK}{json.dumps([kind, value])}\n")
        sys.stdout.flush()
    except OSError:
        os._exit(1)  # nobody listens: the parts are on the disk


def _watch(stop: threading.Event) -> None:
    """Wait for the end of our input: the line is cut, or its user has stopped it."""
    while os.read(0, 1 << 16):
        continue
    stop.set()
