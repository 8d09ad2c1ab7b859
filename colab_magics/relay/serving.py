"""The detached program that a relay is: `attach.py` starts it. Stands alone: shipped to the host."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from typing import Any

from . import wire
from .kernel_relay import Relay

ENDING_SECONDS = 15.0
"""Longer than a kernel takes to end."""


def serve(settings: dict[str, Any], ready: int) -> None:
    """Be the relay; tell through the descriptor `ready` when the kernel answers, or why it does not."""
    os.write(ready, wire.BEGUN)
    os.umask(0o077)
    # Held as long as this process lives: of two that start at once, one serves.
    lock = os.open(os.path.join(settings["home"], "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    limit = time.monotonic() + ENDING_SECONDS
    while not _locked(lock):
        # Without the file the one that holds the lock is about to end.
        if os.path.exists(os.path.join(settings["home"], "relay.json")) or time.monotonic() > limit:
            os.write(ready, b"busy")
            return
        time.sleep(0.05)
    relay = Relay(settings)
    try:
        problem = relay.start()
        os.write(ready, problem.encode() or b"ok")
        os.close(ready)
        if not problem:
            relay.run()
    finally:
        relay.finish()
        if settings.get("once"):
            # No other kernel will have this name.
            shutil.rmtree(settings["home"], ignore_errors=True)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
