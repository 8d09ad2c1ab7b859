"""A host behind another one: ssh's ``ProxyJump``, through two real servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import poll
from sshd import Sshd, sshd

from colab_magics.errors import Unavailable
from colab_magics.relay.remote_kernel import attach
from colab_magics.transport import ssh
from relay.conftest import printed, run, ssh_of, value


@pytest.fixture
def inner(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Sshd, Sshd]]:
    """Run a jump host and a host that is reached through it."""
    (tmp_path / "far").mkdir()
    with sshd(tmp_path, host="jump") as jump, sshd(tmp_path / "far", host="inner", session_home=home) as far:
        both = tmp_path / "ssh_config"  # ssh does not quote the path that it hands to its ProxyJump
        both.write_text(f"{jump.config_file.read_text()}{far.config_file.read_text()}  ProxyJump jump\n")
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(both))
        yield jump, far


def logins(server: Sshd) -> int:
    """Count who was let in."""
    return server.config_file.with_name("log").read_text().count("Accepted publickey")


def test_a_kernel_behind_a_jump_host_survives_the_kill_of_ssh(inner: tuple[Sshd, Sshd], other_env: Path) -> None:
    jump, far = inner
    kernel = attach("inner", env=str(other_env))
    assert logins(jump) == logins(far) > 0
    msg_id = kernel.execute("import time\nfor i in range(400):\n    print(i, flush=True)\n    time.sleep(0.004)")
    stream = kernel.messages(msg_id, 60)
    messages = [next(stream) for _ in range(10)]
    os.kill(ssh_of(kernel), signal.SIGKILL)
    messages += list(stream)
    assert printed(messages).split() == [str(i) for i in range(400)]
    assert value(kernel, "i") == "399"
    # The jump host too goes away for a moment: its connection is what the shared one stands on.
    before = logins(jump)
    ssh.drop_shared("inner")
    os.kill(ssh_of(kernel), signal.SIGKILL)
    poll(lambda: logins(jump) > before, what="a new connection through the jump host")
    assert printed(run(kernel, "print(i)")) == "399\n"
    kernel.shutdown()


def test_a_jump_host_that_is_away_is_named(inner: tuple[Sshd, Sshd]) -> None:
    jump, _ = inner
    jump.process.terminate()
    jump.process.wait(10)
    with pytest.raises(Unavailable, match="inner cannot be reached by ssh") as caught:
        attach("inner")
    assert "refused" in str(caught.value) or "closed" in str(caught.value)
