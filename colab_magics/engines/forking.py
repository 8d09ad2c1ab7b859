"""What a forked process must do to be a process of its own. Only the standard library: it is also loaded by its path.

``ps`` and ``/proc/PID/environ`` show what a program was *started* with, for ever. A forked child shows its parent's,
and whoever looks for the processes of a run by their environment would not find it. So the child writes its own
arguments and environment over the block of memory that Linux shows; a program that forks is started with a block that
is long enough.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

ROOM_VARIABLE = "COLAB_MAGICS_ROOM"
"""Environment variable that makes the block long; gone once the program runs."""
_CHECKERS = (
    "fqdn",
    "idna",
    "isoduration",
    "jsonpointer",
    "rfc3339_validator",
    "rfc3986_validator",
    "rfc3987",
    "rfc3987_syntax",
    "uri_template",
    "webcolors",
)
_STORES = ("pyarrow", "boto3", "gcsfs", "azure", "github")
ROOM = {ROOM_VARIABLE: "x" * 8192}


USES = {"threading": ("_shutdown",), "atexit": ("_run_exitfuncs",)}
"""What `leave` relies on, for the canary tests."""

_freed = False
"""Whether the C library keeps no pointer any more into the block of memory that Linux shows."""


def make_room() -> None:
    """Take the variable away that made room, so that nothing inherits it, and prepare for `become`."""
    global _freed
    environment = dict(os.environ)
    environment.pop(ROOM_VARIABLE, None)
    # Taken away one by one, and set anew in memory of their own.
    os.environ.clear()
    os.environ.update(environment)
    _freed = True


def import_lean() -> None:
    """Import jsonschema and papermill without what they take along where it is installed, and no run of ours asks for.

    Checkers of addresses and durations, of which one compiles its grammar at every start, for a second; clients of
    stores, from which papermill could read notebooks. requests, which it takes along for notebooks of the web, and
    click are imported when they are used. Only for processes of ours.
    """
    import_without("jsonschema", _CHECKERS)
    import_without("papermill.execute", _STORES, later=("requests", "click"))


def import_without(module: str, also: Sequence[str], *, later: Sequence[str] = ()) -> None:
    """Import a module as if others, which it can do without, were not installed; `later` are imported when used."""
    if module in sys.modules:
        return
    # What stands as None cannot be imported, and the module goes on without.
    others: dict[str, ModuleType | None] = {**dict.fromkeys(also), **{name: _when_used(name) for name in later}}
    others = {name: other for name, other in others.items() if name not in sys.modules}
    sys.modules.update(others)  # type: ignore[arg-type]
    try:
        importlib.import_module(module)
    finally:
        for name in others:
            del sys.modules[name]


def _when_used(name: str) -> ModuleType:
    """Return what looks like a module and imports it when anything is asked of it (PEP 562)."""
    module = ModuleType(name)
    module.__getattr__ = lambda what: getattr(importlib.import_module(name), what)  # type: ignore[method-assign]
    return module


def become(argv: Sequence[str], env: Mapping[str, str], first: str) -> None:
    """Take arguments and environment on, also for those who look from outside.

    Parameters
    ----------
    argv : sequence of str
        What ``ps`` shows, as far as there is room.
    env : mapping
        The environment; replaces the one there is.
    first : str
        The variable that must be seen from outside; the others are as far as there is room.
    """
    if not _freed:
        make_room()
    for name in [name for name in os.environ if name not in env]:
        del os.environ[name]
    os.environ.update({name: value for name, value in env.items() if os.environ.get(name) != value})
    try:
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return
    # proc(5), fields 48 to 51; the first of `fields` is field 3.
    arg_start, arg_end, env_start, env_end = (int(field) for field in fields[45:49])
    names = sorted(env, key=lambda name: name != first)
    _overwrite(arg_start, arg_end, [os.fsencode(word) for word in argv])
    _overwrite(env_start, env_end, [os.fsencode(f"{name}={env[name]}") for name in names])


def leave(status: int) -> None:
    """End this process as the interpreter would: threads, exit handlers, streams; without taking modules apart.

    That takes as long as their import took, in which nothing is done for anybody, and where processes were forked from
    this one most of its memory would be copied for it.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
    except BaseException as error:  # noqa: BLE001 - nobody is left who could catch it
        os.write(2, f"at the end: {error!r}\n".encode(errors="backslashreplace"))
        status = status or 1
    finally:
        os._exit(status)


def _overwrite(start: int, end: int, words: Sequence[bytes]) -> None:
    """Write words, each ended by a zero, as many as fit; zeros follow."""
    if not 0 < start < end:
        return
    block = b""
    for word in words:
        if len(block) + len(word) + 1 <= end - start:
            block += word + b"\0"
    ctypes.memmove(start, block.ljust(end - start, b"\0"), end - start)
