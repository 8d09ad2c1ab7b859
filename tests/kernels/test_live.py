"""``start=live`` with real kernels: runs hold what the notebook held, and nothing that a kernel owns is shared."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from conftest import poll
from fronts import Front, Reply
from runs.notebooks import outputs, write_notebook

from colab_magics import process
from colab_magics.errors import InvalidInput
from colab_magics.kernels import live, memory
from colab_magics.payloads import forks
from colab_magics.payloads import live as cells_of
from colab_magics.records.run import Run
from colab_magics.runs import scheduler
from colab_magics.ui import Notebook, RunningCell

pytest_plugins = ("shells",)

SETUP = "%load_ext colab_magics\n%project name=net root=. job=base"
STATE = (
    "import logging, os, random\nlogging.basicConfig(level=logging.INFO)\nlog = logging.getLogger('net')\n"
    "x = 41\ndef answer():\n    return x + 1\nhere = os.getpid()"
)


def opened(start_kernel: Callable[..., Front], folder: Path, *cells: str) -> tuple[Front, list[str]]:
    """A notebook of these cells, in front of its kernel."""
    write_notebook(folder / "main.ipynb", *cells)
    return start_kernel(COLAB_MAGICS_NOTEBOOK=str(folder / "main.ipynb")), list(cells)


def run_all(front: Front, cells: list[str]) -> list[Reply]:
    return [front.run(cell) for cell in cells]


def run_later(front: Front, cell: str) -> Reply:
    """Run a cell once the stop of Run All is over."""
    return poll(lambda: (reply := front.run(cell)).traceback != ["■ not run: stopped above"] and reply)


def failure(reply: Reply) -> str:
    assert reply.status == "error", reply
    return "\n".join(reply.traceback)


def folder_of(root: Path, index: int = 0) -> Path:
    return root / "net" / "data_job" / "base" / f"sub_job_{index:03d}"


def connections(pid: int) -> Any:
    seen = psutil.Process(pid)
    # psutil 5, Colab's, has the older name.
    return (seen.net_connections if hasattr(seen, "net_connections") else seen.connections)()


def copy_of(root: Path) -> dict[str, Any]:
    record = process.read_json(root / "net" / "data_job" / "base" / ".scheduler" / "live.json") or {}
    return dict(record.get("process") or {})


def test_runs_go_on_below_the_line_with_the_notebooks_state(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front, cells = opened(
        start_kernel,
        tmp_path,
        SETUP,
        STATE,
        "x = 41\nruns = %fork n=2 start=live workers=2\nbelow = here != os.getpid()\nprint('rest of the cell', x)",
        "# %% [markdown]Some words.",
        "log.info('logged %s', i_sub_job)\nprint('the answer', answer(), 'of', i_sub_job, below)",
        "import asyncio\nawait asyncio.sleep(0.001)\nx = x + i_sub_job\n!echo shell {x}",
        "open(data_job + '/result', 'w').write(f'{x} {random.random()}')\nx",
        "%stop\nraise SystemError('not in a run')",
    )
    code = [cell for cell in cells if not cell.startswith("# %%")]
    replies = run_all(front, code[:3])
    assert "2 done" in failure(replies[2])
    results = []
    for index in range(2):
        folder = folder_of(tmp_path, index)
        assert Run.load(folder).status().phase == "done", (folder / "log.txt").read_text()
        shown = outputs(folder / "notebook.ipynb")
        for words in (
            "rest of the cell 41",
            f"logged {index}",
            f"the answer 42 of {index} True",
            f"shell {41 + index}",
        ):
            assert words in shown
        x, number = (folder / "result").read_text().split()
        assert int(x) == 41 + index
        results.append(number)
    assert len(set(results)) == 2  # random numbers of their own
    assert run_later(front, "print(x, 'below' in globals())").out == "41 False\n"


def test_runs_stand_where_the_notebook_stands_at_the_fork(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    line = "import os\nos.chdir('below')\n%fork n=1 start=live\nopen('here', 'w').close()"
    front, cells = opened(start_kernel, tmp_path, SETUP, line, "open(f'here_{i_sub_job}', 'w').close()")
    run_all(front, cells[:2])
    assert sorted(os.listdir(tmp_path / "below")) == ["here", "here_0"]


def test_the_executed_notebook_says_where_it_was_forked(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front, cells = opened(start_kernel, tmp_path, SETUP, STATE, "%fork n=1 start=live", "print(x)", "1 / 0")
    reply = run_all(front, cells[:3])[2]
    folder = folder_of(tmp_path)
    assert "RunsFailed" in reply.ename
    error = (Run.load(folder).state() or {})["error"]
    assert error["cell"] == 5  # as their author counts the cells
    executed = nbformat.read(folder / "notebook.ipynb", as_version=4)
    said = "\n".join(cell.source for cell in executed.cells if cell.cell_type == "markdown")
    assert "**Forked** from the running `main.ipynb` at cell 3" in said
    assert "MB of state" in said
    assert executed.metadata.colab_magics.forked.state > 10_000_000
    assert [cell.source for cell in executed.cells if cell.cell_type == "code"][-2:] == ["print(x)", "1 / 0"]
    source = json.loads((folder / "source.ipynb").read_text())
    assert len(source["cells"]) == 5


def test_retries_and_more_runs_than_workers_while_the_copy_lives(
    start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    """Every attempt starts from the state of the fork, whatever the notebook and the other runs do."""
    front, cells = opened(
        start_kernel,
        tmp_path,
        SETUP,
        STATE,
        "%fork n=3 start=live workers=1 retries=1 --detach",
        "first = not os.path.exists(data_job + '/tried')\nopen(data_job + '/tried', 'w').close()\nassert x == 41, x",
        "x = 'spoilt'\nassert not (first and i_sub_job == 1)",
    )
    run_all(front, cells[:3])
    run_later(front, "x = 1000")
    poll(lambda: not scheduler.is_running(tmp_path / "net" / "data_job" / "base"), timeout=60)
    runs = [Run.load(folder_of(tmp_path, i)) for i in range(3)]
    assert [run.status().phase for run in runs] == ["done"] * 3
    assert [run.attempt for run in runs] == [1, 2, 1]
    # All ended well: the copy is not needed any more.
    poll(lambda: not process.is_alive(copy_of(tmp_path)))


def test_the_copy_stays_for_a_retry_and_ends_with_the_notebook(
    start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    front, cells = opened(
        start_kernel,
        tmp_path,
        SETUP,
        STATE,
        "%fork n=1 start=live",
        "assert os.path.exists(data_job + '/mended')\nassert x == 41",
    )
    run_all(front, cells[:3])
    folder = folder_of(tmp_path)
    assert Run.load(folder).status().phase == "failed"
    assert process.is_alive(copy_of(tmp_path))
    assert "done" not in run_later(front, "%jobs retry 0").out
    (folder / "mended").touch()
    reply = run_later(front, "x = 5\n%jobs retry 0")
    assert Run.load(folder).status().phase == "done", reply
    poll(lambda: not process.is_alive(copy_of(tmp_path)))
    write_notebook(tmp_path / "main.ipynb", *cells[:3], "assert False")
    run_later(front, "%fork n=1 start=live resume=rerun")
    assert process.is_alive(copy_of(tmp_path))
    os.kill(front.kernel_pid, signal.SIGKILL)
    poll(lambda: not process.is_alive(copy_of(tmp_path)), timeout=20)


def test_a_run_whose_copy_is_gone_says_so(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front, cells = opened(start_kernel, tmp_path, SETUP, STATE, "%fork n=1 start=live", "1 / 0")
    run_all(front, cells[:3])
    who = copy_of(tmp_path)
    os.kill(who["pid"], signal.SIGKILL)
    poll(lambda: not process.is_alive(who))
    run_later(front, "%jobs retry 0")
    error = (Run.load(folder_of(tmp_path)).state() or {})["error"]
    assert "frozen copy of the notebook" in error["evalue"]
    assert "Execute the notebook up to the %fork line again" in error["evalue"]


def test_runs_survive_the_notebooks_kernel_and_its_ports_are_free(
    start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    front, cells = opened(
        start_kernel,
        tmp_path,
        SETUP,
        STATE,
        "%fork n=2 start=live workers=1 --detach",
        "import time\nwhile not os.path.exists(data_job + '/go'):\n    time.sleep(0.02)\nassert x == 41",
    )
    run_all(front, cells[:3])
    first = folder_of(tmp_path)
    poll(lambda: (first / "state.json").exists() and Run.load(first).status().cell == 1, timeout=60)
    kernel = (Run.load(first).state() or {})["kernel"]
    told = front.client.get_connection_info()
    mine = {told[f"{channel}_port"] for channel in ("shell", "iopub", "stdin", "control", "hb")}
    held = connections(front.kernel_pid)
    assert mine <= {one.laddr.port for one in held if one.status == psutil.CONN_LISTEN}
    for pid in (copy_of(tmp_path)["pid"], kernel):
        assert not mine & {one.laddr.port for one in connections(pid) if one.laddr}
    assert psutil.Process(kernel).environ()["COLAB_MAGICS_RUN"] == str(first)
    os.killpg(os.getpgid(front.kernel_pid), signal.SIGKILL)
    for index in range(2):
        poll(lambda index=index: folder_of(tmp_path, index).exists())
        (folder_of(tmp_path, index) / "go").touch()
    poll(lambda: not scheduler.is_running(tmp_path / "net" / "data_job" / "base"), timeout=60)
    assert [Run.load(folder_of(tmp_path, i)).status().phase for i in range(2)] == ["done"] * 2
    poll(lambda: not process.is_alive(copy_of(tmp_path)), timeout=20)


def test_a_killed_run_leaves_nothing_and_memory_ends_runs_first(
    start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    front, cells = opened(
        start_kernel,
        tmp_path,
        SETUP,
        STATE,
        "%fork n=1 start=live --detach",
        "import subprocess\nchild = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "open(data_job + '/child', 'w').write(f'{child.pid} ')\nchild.wait()",
    )
    run_all(front, cells[:3])
    folder = folder_of(tmp_path)
    text = poll(lambda: (folder / "child").exists() and (folder / "child").read_text(), timeout=60)
    kernel = (Run.load(folder).state() or {})["kernel"]

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert score(kernel) > score(copy_of(tmp_path)["pid"]) > score(front.kernel_pid)
    reply = run_later(front, "%jobs kill base/0")
    assert Run.load(folder).status().phase == "killed", reply
    for pid in (int(text), kernel):
        poll(lambda pid=pid: process.identity(pid)["started"] is None)


def test_the_same_notebook_gives_the_same_random_numbers_and_keep_keeps_them(
    start_kernel: Callable[..., Front], tmp_path: Path
) -> None:
    draw = "open(data_job + '/drawn', 'w').write(f'{random.random()} {numpy.random.rand()}')"
    fork = "%fork n=2 start=live workers=1 resume=rerun {}"
    front, _ = opened(start_kernel, tmp_path, SETUP, fork.format("seed=keep"), draw)
    drawn = {}
    for word in ("", "seed=keep", "once more"):
        seeded = "import random, numpy\nrandom.seed(7)\nnumpy.random.seed(7)"
        line = fork.format("" if word == "once more" else word)
        write_notebook(tmp_path / "main.ipynb", SETUP, seeded, line, f"{word!r}\n{draw}")
        run_later(front, SETUP)
        front.run(seeded)
        drawn_alone = front.run(f"print({'random.random(), numpy.random.rand()'})").out.split()
        run_later(front, seeded)
        front.run(line)
        drawn[word] = [(folder_of(tmp_path, i) / "drawn").read_text().split() for i in range(2)]
    assert len({number for run in drawn[""] for number in run}) == 4
    assert drawn[""] == drawn["once more"]
    assert drawn["seed=keep"] == [drawn_alone, drawn_alone]


def test_a_gpu_in_use_is_refused_and_the_guilty_call_named(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "torch.py").write_text(
        "class cuda:\n    used = False\n    @classmethod\n    def is_initialized(cls): return cls.used\n"
        "def device(name): cuda.used = True\n"
    )
    front, cells = opened(start_kernel, tmp_path, SETUP, "import torch", "%fork n=1 start=live", "print(1)")
    run_all(front, cells[:2])
    front.run("y = 1\nmodel = torch.device('cuda')")
    front.run("torch.device('cuda:1')")
    reply = front.run(cells[2])
    assert "model = torch.device('cuda')" in failure(reply)
    assert "cell [3] initialises CUDA" in failure(reply)
    assert "start=warm" in failure(reply)
    assert not folder_of(tmp_path).exists()


def test_a_fork_that_the_system_refuses_says_so(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front, cells = opened(start_kernel, tmp_path, SETUP, "%fork n=1 start=live", "1")
    front.run(SETUP)
    front.run(
        "import os\nfork = os.fork\ndef refuse():\n    raise OSError(12, 'Cannot allocate memory')\nos.fork = refuse"
    )
    assert "This notebook cannot be forked: Cannot allocate memory." in failure(front.run(cells[1]))
    # A kernel drops requests that come right behind a cell that failed.
    poll(lambda: front.run("os.fork = fork").status == "ok")
    assert "1 done" in failure(front.run(cells[1]))


@pytest.mark.parametrize(
    ("source", "rest"),
    [
        ("%fork n=3 start=live\nx = 1\n\ny = 2", "x = 1\n\ny = 2"),
        ("a = 0\nruns = %fork n=3 \\\n  start=live\nx = 1", "x = 1"),
        ("%%fork start=live\nlr: [1, 2]", ""),
        ("from colab_magics import fork\nruns = fork(\n    n=3,\n    start='live',\n)\nx = 1", "x = 1"),
        ("import colab_magics as cm\ncm.fork({'lr': [1]}, start='live')", ""),
    ],
)
def test_what_stands_below_the_line(source: str, rest: str) -> None:
    assert fork_of(source).rest == rest


@pytest.mark.parametrize(
    "source", ["if True:\n    %fork n=3 start=live\n    x = 1", "for i in 1, 2:\n    fork(n=2)", "start()"]
)
def test_a_fork_inside_of_a_statement_is_refused(source: str) -> None:
    content = forks.prepare({"cells": [{"cell_type": "code", "metadata": {}, "source": source}]})
    here = Notebook(content, "a", current=True)
    with pytest.raises(InvalidInput, match="not indented"):
        cells_of.check(here, fork_of(source))


def fork_of(source: str) -> forks.Fork:
    content = forks.prepare({"cells": [{"cell_type": "code", "metadata": {}, "source": source}]})
    return forks.the(content, RunningCell(source))


def test_outside_of_a_notebook_it_is_refused_with_a_mend(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front, _ = opened(start_kernel, tmp_path, SETUP)
    front.run(SETUP)
    write_notebook(tmp_path / "net" / "other.ipynb", "1")
    reply = front.run("%fork n=2 start=live notebook=net/other.ipynb")
    assert "start=live forks this notebook, not another" in failure(reply)
    assert "start=warm" in failure(reply)


def test_as_many_workers_as_the_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "state_size", lambda: 10 << 30)
    monkeypatch.setattr(live, "free_memory", lambda: 2 << 30)
    fit, words = live.workers_that_fit(4)
    assert (fit, words) == (2, "10.7 GB held, 2.1 GB free")
    monkeypatch.setattr(live, "free_memory", lambda: 50 << 20)
    with pytest.raises(Exception, match="too little for a run"):
        live.workers_that_fit(1)


def test_free_memory_knows_the_limits_of_control_groups(tmp_path: Path) -> None:
    whole = memory.free_memory(cgroups=tmp_path, own=tmp_path / "none")
    assert whole == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("500\n")
    (tmp_path / "a" / "memory.max").write_text("1000000\n")
    (tmp_path / "a" / "memory.current").write_text("900000\n")
    (tmp_path / "a" / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert memory.free_memory(cgroups=tmp_path, own=tmp_path / "own") == 150_000
    first = tmp_path / "memory" / "x"
    first.mkdir(parents=True)
    (tmp_path / "own").write_text("7:memory:/x\n")
    (first / "memory.limit_in_bytes").write_text("4000\n")
    (first / "memory.usage_in_bytes").write_text("1000\n")
    assert memory.free_memory(cgroups=tmp_path, own=tmp_path / "own") == 3000


def test_runs_of_a_queue_are_forked_from_the_notebook_too(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front, cells = opened(
        start_kernel,
        tmp_path,
        f"{SETUP}\nbig = list(range(7))",
        "%%queue runs.db\nlr: [1, 2, 3]",
        "%fork runs=runs.db start=live workers=2",
        "open(data_job + '/result', 'w').write(f'{lr} {len(big)}')",
        "runs = %join\nprint([run.name for run in runs])",
    )
    replies = run_all(front, cells)
    assert [reply.status for reply in replies] == ["ok"] * 5, replies
    assert replies[4].out == "['run_001', 'run_002', 'run_003']\n"
    found = sorted((tmp_path / "net" / "data_job" / "base").glob("sub_job_run_*/result"))
    assert [path.read_text() for path in found] == ["1 7", "2 7", "3 7"]
