"""%host lab: a real JupyterLab on a machine behind a real sshd."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from boxes import Box, boxes
from conftest import poll

from colab_magics import host, jobs, process, session
from colab_magics.checkout.project import Project
from colab_magics.errors import Unavailable
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import Run, runs_of
from colab_magics.relay import lab as room
from colab_magics.runs import scheduler
from colab_magics.transport import ssh
from colab_magics.transport.forward import free_port
from colab_magics.verbs.host_lab import Lab

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")

pytestmark = pytest.mark.browser


@pytest.fixture
def box(tmp_path: Path, home: Path) -> Iterator[Box]:
    """A machine."""
    with boxes(tmp_path, home, ["alpha"]) as (made,):
        yield made
        for one in session._active:
            for lab in one.labs.values():
                lab.forward.close()


@pytest.fixture
def project(tmp_path: Path, project: Project) -> Project:
    (project.root / "a.py").write_text("print(1)\n")
    os.chdir(project.root)
    return project


def opened(**words: int) -> Lab:
    made: Lab = host.lab("alpha", **words)  # type: ignore[attr-defined]
    return made


def get(url: str, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def has_in_its_arguments(text: str) -> list[str]:
    found = []
    for one in psutil.process_iter():
        try:
            found += [line for line in one.cmdline() if text in line]
        except psutil.Error:
            continue
    return found


def test_it_is_a_run_behind_a_port_here_and_its_token_is_in_files_alone(
    box: Box, project: Project, said: io.StringIO, home: Path
) -> None:
    lab = opened()
    token, root = lab.token, f"http://127.0.0.1:{lab.forward.port}"
    assert len(token) == 48
    status, page = get(lab.url, token)
    assert (status, "JupyterLab" in page) == (200, True)
    for path in ("/api/kernels", "/api/contents", "/lab"):
        asked = urllib.request.Request(root + path)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(room._NoRedirect).open(asked, timeout=20)
        assert refused.value.code in (302, 403)
        refused.value.close()
    made = urllib.request.Request(f"{root}/api/kernels", b"{}", {"Authorization": f"token {token}"})
    with urllib.request.urlopen(made, timeout=30) as answer:
        assert answer.status == 201
    (run,) = runs_of(project.root / "data_job" / "lab-alpha")
    assert (run.status().phase, run.engine) == ("running", "ssh:alpha")
    assert "lab-alpha/0" in str(jobs(all=True))
    # The token: two files of the user's alone on each side (one of Jupyter's own), and nowhere else.
    poll(lambda: "Jupyter Server" in run.log.read_text())
    assert token not in str(lab) + repr(lab) + said.getvalue()
    assert not has_in_its_arguments(token)
    holders = [path for path in home.rglob("*") if path.is_file() and token in path.read_text(errors="ignore")]
    assert {path.name.split("-")[0] for path in holders} == {"token", "open.html", "jpserver"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}
    assert not [path for path in project.root.rglob("*") if path.is_file() and token in path.read_text(errors="ignore")]
    listening = [
        one for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == lab.forward.port
    ]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}
    sockets = Path(room.prepare("alpha", "colab_magics/x").socket).parent
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    jobs.kill("lab-alpha")
    poll(lambda: get_status(root) == 0, timeout=60)


def get_status(root: str) -> int:
    try:
        return get(f"{root}/api")[0]
    except OSError:
        return 0


def test_said_again_it_comes_back_to_the_same_server_also_after_a_cut(box: Box, project: Project) -> None:
    first = opened()
    again = opened()
    assert (again.url, again.run.id) == (first.url, first.run.id)
    assert again.forward is first.forward
    process.run(["ssh", *ssh.options(), "-O", "exit", "alpha"])
    poll(lambda: not first.forward.is_open())
    with pytest.raises(OSError, match=r"refused|reset"):
        get(first.url)
    back = opened()
    assert (back.url, back.token, back.run.id) == (first.url, first.token, first.run.id)
    assert get(back.url, back.token)[0] == 200
    other = opened(port=(port := free_port()))
    assert other.url == f"http://127.0.0.1:{port}/lab"
    assert get(other.url, back.token)[0] == 200
    other.forward.close()
    poll(lambda: not room.answers(port, back.token))
    # Another session, one that begins when nobody looks after the run, and one when the server has ended.
    job = project.root / "data_job" / "lab-alpha"
    server = (Run.load(job / "sub_job_000").state() or {})["kernel_process"]
    os.kill((process.read_json(job / SCHEDULER / "state.json") or {})["process"]["pid"], signal.SIGKILL)
    poll(lambda: not scheduler.is_running(job))
    session.activate(session.Session(project=project))
    here = opened()
    assert here.run.id == first.run.id
    assert process.is_alive(server)
    assert scheduler.is_running(job)
    jobs.kill("lab-alpha")
    poll(lambda: not room.answers(here.forward.port, here.token), timeout=60)
    new = opened()
    assert get(new.url, new.token)[0] == 200
    assert [run.status().phase for run in runs_of(project.root / "data_job" / "lab-alpha")] == ["running"]


def test_in_a_shell_it_stays_until_ctrl_c(box: Box, project: Project) -> None:
    words = [sys.executable, "-m", "colab_magics", "host", "lab", "alpha"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        lines = [shell.stdout.readline() for _ in range(2)]
        assert lines[0] == f"JupyterLab is on alpha, in {box.home}/colab_magics{project.root}; here it is at\n"
        assert get_status(lines[1].strip()) != 0
        shell.send_signal(signal.SIGINT)
        rest = shell.communicate(timeout=30)
    assert shell.returncode == 130
    assert "JupyterLab goes on there; colab-magics host lab alpha comes back to it." in rest[1]
    (run,) = runs_of(project.root / "data_job" / "lab-alpha")
    assert run.status().phase == "running"


def test_a_server_without_a_token_is_refused(box: Box, project: Project) -> None:
    settings = box.home / ".jupyter" / "jupyter_server_config.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"IdentityProvider": {"token": ""}}))
    with pytest.raises(Unavailable, match="lets in anybody who has no token"):
        opened()
