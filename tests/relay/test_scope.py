"""Where systemd's scopes cannot be had, the relay starts without one: at once, and without a word."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest
from sshd import sshd

from colab_magics.relay.remote_kernel import attach
from relay.conftest import value


@pytest.mark.parametrize(
    "broken",
    [
        "a program that fails",
        pytest.param("a program that hangs", marks=pytest.mark.long),
        "no manager that answers",
    ],
)
def test_a_systemd_run_that_fails(
    tmp_path: Path, home: Path, other_env: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    runtime = tmp_path / "run"
    (runtime / "systemd").mkdir(parents=True)
    dead = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(runtime / "systemd")  # paths of sockets are short
    dead.bind("private")
    dead.close()
    programs, tried = tmp_path / "programs", tmp_path / "tried"
    programs.mkdir()
    # systemd's own program where there is one; it has no manager to speak to here.
    real = shutil.which("systemd-run") if broken.startswith("no manager") else None
    does = "exec sleep 100;" if broken.endswith("hangs") else "echo Failed >&2; exit 1;"
    does = f"exec {real}" if real else does
    (programs / "systemd-run").write_text(f"#!/bin/sh\ntouch '{tried}'\n{does} \"$@\"\n")
    (programs / "systemd-run").chmod(0o755)
    path = f"{programs}:/usr/bin:/bin"
    with sshd(tmp_path, session_home=home, session_path=path, XDG_RUNTIME_DIR=str(runtime)) as box:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(box.config_file))
        attach(box.host, "warm", env=str(other_env)).shutdown()
        tried.unlink()
        began = time.monotonic()
        told: list[str] = []
        kernel = attach(box.host, env=str(other_env), tell=told.append)
        took = time.monotonic() - began
        assert tried.exists()
        assert told == []
        assert value(kernel, "1 + 1") == "2"
        (log,) = (home / ".cache/colab_magics/kernels").glob("*/main/log")
        assert "ailed" not in log.read_text()
        kernel.shutdown()
        assert took < 20
