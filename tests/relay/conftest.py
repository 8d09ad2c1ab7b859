"""Kernels behind a real sshd, under another version of Python than this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import poll
from sshd import Sshd, sshd

from colab_magics.relay.remote_kernel import Message, RemoteKernel, attach


def other_pythons() -> list[Path]:
    """Return interpreters of pyenv that are of another version than this one, the oldest that serves first."""
    found = sorted((Path("~").expanduser() / ".pyenv" / "versions").glob("3.*/bin/python"))
    versions = {tuple(map(int, file.parts[-3].split(".")[:2])): file for file in found}
    return [file for version, file in sorted(versions.items()) if version >= (3, 8) and version != sys.version_info[:2]]


@pytest.fixture(scope="session")
def other_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with ipykernel under the oldest other Python; this interpreter's own where there is none."""
    for python in other_pythons()[:1]:
        env = tmp_path_factory.mktemp("envs") / "ein env 'x"
        subprocess.run([str(python), "-m", "venv", str(env)], check=True, capture_output=True)
        pip = [str(env / "bin" / "python"), "-m", "pip", "install", "--quiet", "ipykernel"]
        subprocess.run(pip, check=True, capture_output=True, timeout=110)
        return env
    return Path(sys.prefix)


@pytest.fixture
def box(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """Run an sshd whose sessions live in the test's home."""
    with sshd(tmp_path, session_home=home) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield server


@pytest.fixture
def connect(box: Sshd, other_env: Path) -> Iterator[Callable[..., RemoteKernel]]:
    """Return `attach` for the sshd and the other Python; what it returned is closed afterwards."""
    made: list[RemoteKernel] = []

    def attach_there(name: str = "main", **options: Any) -> RemoteKernel:
        made.append(attach(box.host, name, **{"env": str(other_env), **options}))
        return made[-1]

    yield attach_there
    for kernel in made:
        kernel.close()


def ssh_of(kernel: RemoteKernel) -> int:
    """Return the process of its connection, when there is one: a kill of process 0 would be one of the tests."""
    pid: int = poll(lambda: kernel.connection_pid)
    return pid


def run(kernel: RemoteKernel, code: str, timeout: float = 60.0) -> list[Message]:
    """Execute code and return all that it brought."""
    return list(kernel.messages(kernel.execute(code), timeout))


def printed(messages: list[Message]) -> str:
    """Return what was printed."""
    return "".join(message.content["text"] for message in messages if message.header["msg_type"] == "stream")


def value(kernel: RemoteKernel, code: str) -> str:
    """Return an expression's value there, as text."""
    results = [m for m in run(kernel, code) if m.header["msg_type"] == "execute_result"]
    text: str = results[0].content["data"]["text/plain"]
    return text


def kinds(messages: list[Message]) -> list[str]:
    """Return the types of messages, but for the states."""
    return [m.header["msg_type"] for m in messages if m.header["msg_type"] != "status"]
