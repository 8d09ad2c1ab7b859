"""Drive: the page is asked first; where Drive is there already nothing more is done."""

import os

from . import _message


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    """Ask, and look; Google's would end every Drive of the machine then, this one raises."""
    _message.blocking_request("request_auth", {"authType": "dfs_ephemeral"}, timeout_sec=int(timeout_ms / 1000))
    if os.path.isdir(os.path.join(mountpoint, "My Drive")) and not force_remount:
        print(f"Drive already mounted at {mountpoint}")
        return
    raise ValueError("every Drive of this machine was ended")
