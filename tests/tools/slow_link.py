"""A link with a delay: what is sent to `FAR` comes back to this machine half a round trip later, as if from there.

    python tests/tools/slow_link.py MILLISECONDS

Real TCP at both ends, with its handshake, slow start and windows; no module of the kernel is needed, but root and
``/dev/net/tun``. It belongs into a network namespace of its own: `in_own_network` runs a program in one.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

NEAR, FAR = "10.9.0.1", "10.9.0.2"
"""A server listens on the first address; its clients use the second."""
_MOST = 1 << 17
_HEAD = 10
"""Bytes of struct virtio_net_hdr, which comes first and goes back as it is."""


def unavailable() -> str:
    """Return why there can be no such link here; empty where there can."""
    if os.getuid() != 0:
        return "needs root"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    probe = subprocess.run(["unshare", "--net", "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    return f"needs unshare and ip: {probe.stderr.strip()}" if probe.returncode else ""


def in_own_network(command: Sequence[str]) -> int:
    """Run a program that sees no network but its own; returns its exit status."""
    words = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
    return subprocess.run(words, check=False).returncode


@contextmanager
def slow_link(milliseconds: float) -> Iterator[None]:
    """Have the link until the block ends."""
    command = [sys.executable, __file__, str(milliseconds)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        if running.stdout is None or not running.stdout.readline():
            raise RuntimeError("no link could be made")
        yield
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()


def _device() -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    # TUNSETIFF with IFF_TUN, IFF_NO_PI and IFF_VNET_HDR, TUNSETOFFLOAD with TUN_F_CSUM and TUN_F_TSO4: many packets
    # come as one, behind a header that says so. One by one they would be slower here than the link they stand for.
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH", b"slow0", 0x0001 | 0x1000 | 0x4000))
    fcntl.ioctl(device, 0x400454D0, 0x01 | 0x02)
    for words in (f"addr add {NEAR}/24 dev slow0", "link set slow0 up mtu 1500 txqueuelen 10000"):
        subprocess.run(["ip", *words.split()], check=True)
    return device


def _delay(device: int, seconds: float) -> None:
    far = bytes(map(int, FAR.split(".")))
    waiting: deque[tuple[float, bytes]] = deque()
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        select.select([device], [], [], pause)
        for _ in range(64):
            try:
                packet = os.read(device, _MOST)
            except BlockingIOError:
                break
            # IPv4 for the far side. Exchanged addresses leave all checksums as they are.
            source, target, rest = (_HEAD + at for at in (12, 16, 20))
            if packet[_HEAD] >> 4 == 4 and packet[target:rest] == far:
                swapped = packet[:source] + packet[target:rest] + packet[source:target] + packet[rest:]
                waiting.append((time.monotonic() + seconds, swapped))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            os.write(device, waiting.popleft()[1])


def main() -> None:
    """Be the link until killed."""
    device = _device()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _delay(device, float(sys.argv[1]) / 2000)


if __name__ == "__main__":
    main()
