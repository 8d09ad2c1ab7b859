"""``start=warm`` with real kernels: what a run sees is what it would see cold, and nothing of it is left behind."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import poll
from runs.notebooks import outputs, write_notebook

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.engines import base, forking
from colab_magics.engines.base import Submission, Work
from colab_magics.engines.local import LocalEngine
from colab_magics.errors import ColabMagicsError, RunsFailed
from colab_magics.kernels import preload, zygote
from colab_magics.records.run import Run
from colab_magics.runs import scheduler
from colab_magics.runs.runner import Runner

LOOK = """
import json, os, random, sys
known = sorted(sys.modules)
import numpy
seen = {
    "preloaded": "pandas" in known,
    "ours": [name for name in known if "colab_magics" in name or name in ("zygote", "papermill")],
    "random": [random.random(), numpy.random.rand()],
    "run": [os.environ["COLAB_MAGICS_RUN"], os.getcwd()],
    "leaked": [name for name in os.environ if name in ("COLAB_MAGICS_ZYGOTE", "COLAB_MAGICS_ROOM")],
    "shown": os.environ["COLAB_MAGICS_RUN"] in open("/proc/self/environ").read(),
    "argv": sys.argv[:2],
    "path": sys.path[:1],
    "main": __name__,
    "leads": os.getpid() == os.getsid(0),
    "reads": sys.__stdin__.read() if sys.__stdin__ else "",
}
json.dump(seen, open(data_job + "/seen.json", "w"))
"""
SLEEP = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], start_new_session=True)
open(data_job + '/saved', 'w').write(str(child.pid))
print('sleeping', flush=True)
time.sleep(300)
"""
SURROUNDINGS = """
import json, os, sys
shell = get_ipython()
seen = {
    "folders": [str(shell.starting_dir), [str(folder) for folder in _dh], os.getcwd()],
    "environment": {name: os.environ.get(name) for name in ("PAGER", "TERM", "MPLBACKEND", "ONLY_HERE")},
    "kernel": shell.kernel is shell.parent and shell.kernel.shell is shell,
    "names": sorted(name for name in dir() if not name.startswith("_i")),
    "same": [one is globals() for one in (shell.user_ns, shell.kernel.user_ns, vars(sys.modules["__main__"]))],
    "configured": [shell.ast_node_interactivity, list(shell.extension_manager.loaded), started],
    "history": [len(In), shell.history_manager.hist_file],
    "parent": os.getppid() > 0 and shell.kernel.parent.parent_handle > 1,
}
class Last:
    def __del__(self, file=data_job + "/last", run=os.environ["COLAB_MAGICS_RUN"], open=open, sys=sys):
        with open(file, "w") as stream:
            stream.write(run + " " + str(sys.stdout.closed))
last = Last()
json.dump(seen, open(data_job + "/seen.json", "w"), sort_keys=True, indent=1, default=str)
"""
UNTIL_GO = "import os, time\nwhile not os.path.exists(data_job + '/go'):\n    time.sleep(0.02)"

UNFIT = """
import subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
import zygote

def unfit(word):
    try:
        zygote.check("it")
    except zygote.Unfit as error:
        assert word in str(error), error
    else:
        raise SystemExit(word)

zygote.check("nothing")
zygote._DEVICES = (sys.argv[2],)
with open(sys.argv[2], "w"):
    unfit("opens a GPU")
zygote.check("closed again")

class cuda:
    is_initialized = staticmethod(lambda: True)

class torch:
    cuda = cuda

sys.modules["torch"] = torch
unfit("initialises CUDA")
del sys.modules["torch"]
child = subprocess.Popen(["sleep", "60"])
unfit("starts processes")
child.kill()
child.wait()
threading.Thread(target=threading.Event().wait, daemon=True).start()
unfit("starts threads")
"""


def zygotes(project: Project) -> list[psutil.Process]:
    """The zygotes of the project's job."""
    log = str(project.data_job / ".scheduler" / "zygote.txt")
    found = []
    for candidate in psutil.process_iter():
        try:
            if "zygote.py" in " ".join(candidate.cmdline()) and os.readlink(f"/proc/{candidate.pid}/fd/2") == log:
                found.append(candidate)
        except (psutil.Error, OSError):
            continue
    return found


def count_starts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the folder of each zygote that is started from here on."""
    began: list[str] = []
    start = process.start_detached

    def noted(command: Any, **options: Any) -> int:
        if "zygote.py" in str(command):
            began.append(str(command[-1]))
        return start(command, **options)

    monkeypatch.setattr(process, "start_detached", noted)
    return began


@pytest.mark.parametrize("configures", [False, True])
def test_a_kernel_that_was_made_ready_is_what_it_would_have_been(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configures: bool
) -> None:
    profile = tmp_path / "ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "00.py").write_text(
        "import os\nstarted = os.path.basename(os.environ['COLAB_MAGICS_RUN'])\n"
    )
    if configures:
        text = (
            "import os\nc.InteractiveShell.ast_node_interactivity = os.environ.get('COLAB_MAGICS_RUN', '') and 'all'\n"
        )
        (profile / "ipython_config.py").write_text(text)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("ONLY_HERE", "1")
    seen = {}
    for start in ("cold", "warm"):
        project.job = start
        fork(n=2, notebook=str(write_notebook(project.root / "main.ipynb", SURROUNDINGS)), start=start)
        runs = [project.data_job / f"sub_job_{number:03d}" for number in range(2)]
        assert all("note" not in Run.load(run).state() for run in runs)
        seen[start] = [(run / "seen.json").read_text().replace(str(run), "RUN") for run in runs]
        assert [(run / "last").read_text() for run in runs] == [f"{run} False" for run in runs]
    assert seen["warm"] == seen["cold"]
    assert f'"{"all" if configures else "last_expr"}"' in seen["warm"][1]
    said = (project.data_job / ".scheduler" / "zygote.txt").read_text()
    assert ("kernels start from the beginning" in said) is configures, said


def test_a_run_sees_what_it_would_see_cold(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "import pandas", LOOK))
    seen: dict[str, list[Any]] = {}
    for start in ("warm", "cold"):
        fork(n=2, workers=2, start=start, notebook=notebook, resume="rerun")  # type: ignore[arg-type]
        folders = [project.data_job / f"sub_job_00{i}" for i in range(2)]
        seen[start] = [json.loads((folder / "seen.json").read_text()) for folder in folders]
        assert not any((Run.load(folder).state() or {}).get("note") for folder in folders)
        project.job = "cold"
    for one in (*seen["warm"], *seen["cold"]):
        one["run"] = [Path(text).name for text in one["run"]]
    numbers = [number for start in seen.values() for one in start for number in one.pop("random")]
    assert len(set(numbers)) == 8  # every run has random numbers of its own
    assert [one.pop("preloaded") for one in seen["warm"]] == [True, True]
    assert [one.pop("preloaded") for one in seen["cold"]] == [True, True]  # by its first cell
    assert seen["warm"] == seen["cold"]


SEEN = """
import sys
known = "only_there" in sys.modules
import json, os
seen = {"prefix": sys.prefix, "known": known, "argv": sys.argv[:1], "spec": os.environ.get("FROM_SPEC")}
json.dump(seen, open(data_job + "/seen.json", "w"))
"""


@pytest.fixture
def add_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a kernelspec named ``named``."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    def add(*argv: str, **more: Any) -> None:
        folder = tmp_path / "jupyter" / "kernels" / "named"
        folder.mkdir(parents=True)
        spec = {"argv": [*argv, "-f", "{connection_file}"], "display_name": "Named", "language": "python", **more}
        (folder / "kernel.json").write_text(json.dumps(spec))

    return add


def a_venv(folder: Path) -> str:
    """Make an environment that has what this one has, and a module of its own; returns its interpreter."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "only_there.py").write_text("")
    return str(folder / "bin" / "python")


@pytest.mark.parametrize(
    "argv",
    [
        [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"],
        ["python3", "-m", "colab_kernel_launcher"],
        ["/usr/bin/env", sys.executable, "-m", "ipykernel"],
    ],
    ids=["ipykernel install", "colab", "env"],
)
def test_a_kernelspec_of_this_environment_starts_warm_however_it_is_spelled(
    project: Project, add_kernel: Callable[..., None], argv: list[str]
) -> None:  # ✗ these started cold
    add_kernel(*argv, env={"FROM_SPEC": "1 of ${HOME}"})
    notebook = write_notebook(project.root / "a.ipynb", SEEN, UNTIL_GO, kernel="named")
    fork(n=1, start="warm", notebook=str(notebook), detach=True)
    folder = project.data_job / "sub_job_000"
    poll(lambda: (folder / "seen.json").exists() and Run.load(folder).status().cell == 2, timeout=60)
    (parent,) = zygotes(project)
    assert psutil.Process((Run.load(folder).state() or {})["kernel"]).ppid() == parent.pid
    # What a library reads at its import is what the kernelspec says.
    assert parent.environ()["FROM_SPEC"] == f"1 of {os.environ['HOME']}"
    assert "1 of ${HOME}" in (project.data_job / ".scheduler" / "preload.json").read_text()
    (folder / "go").touch()
    poll(lambda: not scheduler.is_running(project.data_job), timeout=60)
    seen = json.loads((folder / "seen.json").read_text())
    assert seen["spec"] == f"1 of {os.environ['HOME']}"
    assert [Path(word).name for word in seen["argv"]] == ["private_api.py"]
    assert "note" not in (Run.load(folder).state() or {})


def test_another_environment_has_a_process_of_its_own_to_fork_from(
    project: Project, add_kernel: Callable[..., None], tmp_path: Path
) -> None:  # ✗ it started cold
    # Its interpreter leads to the same file as this one's: it is another environment all the same.
    add_kernel(a_venv(tmp_path / "other"), "-m", "ipykernel_launcher")
    notebook = write_notebook(project.root / "a.ipynb", SEEN, "import only_there", kernel="named")
    fork(n=1, start="warm", notebook=str(notebook))
    folder = project.data_job / "sub_job_000"
    seen = json.loads((folder / "seen.json").read_text())
    assert seen["prefix"] == str(tmp_path / "other")
    assert seen["known"], "a module of that environment was not preloaded"
    assert "note" not in (Run.load(folder).state() or {})


def test_runs_of_two_kernels_in_one_job_are_retried_each_with_its_own(
    project: Project, add_kernel: Callable[..., None], tmp_path: Path
) -> None:
    add_kernel(a_venv(tmp_path / "other"), "-m", "ipykernel_launcher")
    fail = "tried = data_job + '/tried'\nif not os.path.exists(tried):\n    os.mkdir(tried)\n    raise SystemError"
    for kernel, only in (("python3", "0"), ("named", "1")):
        notebook = write_notebook(project.root / "a.ipynb", SEEN, fail, kernel=kernel)
        with pytest.raises(RunsFailed):
            fork(n=2, only=only, start="warm", notebook=str(notebook))
    jobs.retry("failed")
    folders = [project.data_job / f"sub_job_00{i}" for i in range(2)]
    states = [Run.load(folder).state() or {} for folder in folders]
    assert [(state["attempt"], state.get("note")) for state in states] == [(2, None)] * 2
    prefixes = [json.loads((folder / "seen.json").read_text())["prefix"] for folder in folders]
    assert prefixes == [sys.prefix, str(tmp_path / "other")]


def test_a_kernel_that_is_not_ipykernels_starts_cold_with_a_word(
    project: Project, add_kernel: Callable[..., None], said: io.StringIO
) -> None:
    add_kernel("/bin/sh", "-c", f'exec {sys.executable} -m ipykernel_launcher "$@"', "sh")
    notebook = write_notebook(project.root / "a.ipynb", "1", kernel="named")
    board = fork(n=1, start="warm", notebook=str(notebook))
    assert [status.phase for _, status in board.statuses()] == ["done"]  # type: ignore[union-attr]
    word = "start=cold, not warm: the notebook's kernel is started by /bin/sh, and not as ipykernel is"
    assert word in said.getvalue()
    assert not (project.data_job / ".scheduler" / "zygote.txt").exists()


def test_the_zygote_ends_with_its_job_and_leaves_nothing(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
    fork(n=1, start="warm", notebook=str(notebook), detach=True)
    found = poll(lambda: zygotes(project), timeout=60)
    assert len(found) == 1
    address = Path(found[0].cmdline()[-1]) / "zygote"
    assert address.stat().st_mode & 0o777 == 0o600
    folder = project.data_job / "sub_job_000"
    poll(lambda: (folder / "state.json").exists() and Run.load(folder).status().cell == 1, timeout=60)
    kernel = psutil.Process((Run.load(folder).state() or {})["kernel"])
    assert kernel.ppid() == found[0].pid
    assert kernel.environ()["COLAB_MAGICS_RUN"] == str(folder)
    (folder / "go").touch()
    poll(lambda: not scheduler.is_running(project.data_job), timeout=60)
    poll(lambda: process.reap() or (not found[0].is_running() and not address.parent.exists()))
    assert Run.load(folder).status().phase == "done"


def test_a_kill_ends_the_whole_tree(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "print('first cell')", SLEEP)
    fork(n=2, workers=1, start="warm", notebook=str(notebook), detach=True)
    folder = project.data_job / "sub_job_000"
    saved = folder / "saved"
    poll(lambda: saved.exists() and saved.read_text(), timeout=60)
    kernel = process.identity((Run.load(folder).state() or {})["kernel"])
    board = jobs.kill("baseline")
    texts = [status.text for _, status in board.statuses()]
    assert texts[0].startswith("killed ")
    assert texts[1] == "killed before it started"
    assert not process.is_alive(kernel)
    assert process.identity(int(saved.read_text()))["started"] is None
    assert "KeyboardInterrupt" in outputs(folder / "notebook.ipynb")


def test_a_runner_that_was_killed_takes_its_kernel_along(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", SLEEP)
    fork(n=1, start="warm", notebook=str(notebook), detach=True)
    folder = project.data_job / "sub_job_000"
    poll(lambda: "sleeping" in (folder / "log.txt").read_text() if (folder / "log.txt").exists() else "", timeout=60)
    state = Run.load(folder).state() or {}
    os.kill(state["process"]["pid"], signal.SIGKILL)
    poll(lambda: Run.load(folder).status().text.startswith("lost "))
    poll(lambda: process.identity(state["kernel"])["started"] is None)
    poll(lambda: process.identity(int((folder / "saved").read_text()))["started"] is None)
    assert "sleeping" in outputs(folder / "notebook.ipynb")


def test_runs_go_on_when_their_scheduler_is_killed(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
    fork(n=1, start="warm", notebook=str(notebook), detach=True)
    folder = project.data_job / "sub_job_000"
    poll(lambda: (folder / "state.json").exists() and Run.load(folder).status().cell == 1, timeout=60)
    feeding = process.read_json(project.data_job / ".scheduler" / "state.json") or {}
    os.kill(feeding["process"]["pid"], signal.SIGKILL)
    poll(lambda: not scheduler.is_running(project.data_job))
    (folder / "go").touch()
    poll(lambda: Run.load(folder).status().phase == "done")
    poll(lambda: not zygotes(project))


def test_a_zygote_that_nobody_needs_ends(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = write_notebook(project.root / "a.ipynb", "1")
    fork(n=1, start="warm", notebook=str(notebook))
    # It is started before the plan is made: here nothing is left to execute, there the plan cannot be written.
    began = count_starts(monkeypatch)
    fork(n=1, start="warm", notebook=str(notebook))
    poll(lambda: not zygotes(project))
    write_notebook(notebook, "2")
    with pytest.raises(ColabMagicsError, match="other code"):
        fork(n=2, start="warm", notebook=str(notebook))
    poll(lambda: not zygotes(project))
    assert len(began) == 2
    assert not any(Path(folder).exists() for folder in began)


@pytest.mark.parametrize(
    ("cell", "how"), [("os._exit(7)", "exit status 7"), ("os.kill(os.getpid(), 11)", "ended by SIGSEGV")]
)
def test_a_dead_kernel_is_said_as_it_died(project: Project, cell: str, how: str) -> None:
    notebook = write_notebook(project.root / "a.ipynb", f"import os\n{cell}")
    with pytest.raises(RunsFailed, match=f"the kernel died: {how}"):
        fork(n=1, start="warm", notebook=str(notebook))


def test_exit_handlers_and_threads_end_as_they_would(project: Project) -> None:
    cell = (
        "import atexit, threading, time\n"
        "atexit.register(lambda: open(data_job + '/handler', 'w').close())\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), open(data_job + '/thread', 'w').close())).start()\n"
        "import sys; sys.exit()"
    )
    fork(n=1, start="warm", notebook=str(write_notebook(project.root / "a.ipynb", cell)))
    folder = project.data_job / "sub_job_000"
    assert (folder / "handler").exists()
    assert (folder / "thread").exists()


def test_what_cannot_be_shared_starts_cold_with_a_word(
    project: Project, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "starts_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='busy').start()"
    )
    monkeypatch.setenv("PYTHONPATH", f"{project.root}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(preload, "imported_by", lambda content: ["starts_a_thread"])
    board = fork(n=2, workers=2, start="warm", notebook=str(write_notebook(project.root / "a.ipynb", "1")))
    assert [status.phase for _, status in board.statuses()] == ["done"] * 2  # type: ignore[union-attr]
    word = "start=cold, not warm: importing starts_a_thread starts threads (busy)"
    assert said.getvalue().count(word) == 1
    assert word in (project.data_job / "sub_job_000" / "log.txt").read_text()


def test_a_zygote_that_is_gone_is_no_reason_to_fail(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", UNTIL_GO)
    fork(n=2, workers=1, retries=1, start="warm", notebook=str(notebook), detach=True)
    first, second = (project.data_job / f"sub_job_00{i}" for i in range(2))
    poll(lambda: (first / "state.json").exists() and Run.load(first).status().cell == 1, timeout=60)
    for one in zygotes(project):
        one.kill()
    for folder in (first, second):
        poll(lambda folder=folder: folder.exists())
        (folder / "go").touch()
    poll(lambda: not scheduler.is_running(project.data_job), timeout=90)
    assert [Run.load(folder).status().phase for folder in (first, second)] == ["done"] * 2
    assert "start=cold, not warm" in (Run.load(second).state() or {})["note"]


def test_gpus_threads_and_processes_make_a_zygote_unfit(tmp_path: Path) -> None:
    folder = str(Path(zygote.__file__).parent)
    subprocess.run([sys.executable, "-c", UNFIT, folder, str(tmp_path / "nvidia0")], check=True, timeout=60)


def test_a_forked_process_shows_its_own_arguments_and_environment() -> None:
    script = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\nimport forking\nforking.make_room()\n"
        "assert 'COLAB_MAGICS_ROOM' not in os.environ\n"
        "forking.become(['python', 'is a run'], {'HOME': '/h', 'PATH': os.environ['PATH'], 'RUN': 'a'*4000}, 'RUN')\n"
        "import subprocess\nprint(subprocess.check_output(['env'], text=True))\nprint('ready', flush=True)\ninput()"
    )
    folder = str(Path(forking.__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", script, folder, "x" * 50],
        env={**os.environ, **forking.ROOM},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        inherited = "".join(iter(child.stdout.readline, "ready\n"))
        seen = psutil.Process(child.pid)
        assert seen.environ()["RUN"] == "a" * 4000
        assert seen.environ()["HOME"] == "/h"
        assert "COLAB_MAGICS_ROOM" not in seen.environ()
        assert seen.cmdline()[:2] == ["python", "is a run"]
        assert "HOME=/h\n" in inherited
        assert "COLAB_MAGICS" not in inherited
        child.communicate("\n")


LEAVES = """
import atexit, sys, threading, time
sys.path.insert(0, sys.argv[1])
import forking

class Held:
    def __del__(self, say=print):
        say("taken apart")

held = Held()
atexit.register(print, "handler")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
print("said", end=" ")
forking.leave(3)
"""


def test_a_process_leaves_after_its_threads_and_exit_handlers_and_takes_no_modules_apart() -> None:
    folder = str(Path(forking.__file__).parent)
    done = subprocess.run([sys.executable, "-c", LEAVES, folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "said thread\nhandler\n", "")


def an_engine(job_folder: Path) -> LocalEngine:
    engine = LocalEngine()
    engine.prepare(Work(job_folder, Runner()))
    return engine


def submit(engine: LocalEngine, folder: Path) -> Submission:
    submission = Submission(folder, "key")
    return dataclasses.replace(submission, ref=engine.submit([submission])[0])


def test_only_a_process_without_threads_is_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, over = an_engine(tmp_path), threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a process that is not the engine's was forked"))
    folder = tmp_path / "sub_job_000"
    folder.mkdir()
    process.write_json(folder / "run.json", {"index": 0, "payload": {"kind": "unknown"}})
    submitted = submit(engine, folder)
    over.set()
    poll(lambda: engine.poll([submitted]) == [base.ENDED])
    assert Run.load(folder).status().phase == "failed"


def test_the_end_of_a_runner_ends_the_wait(tmp_path: Path) -> None:  # ✗ the first wait took its whole time
    engine, folder = an_engine(tmp_path), tmp_path / "sub_job_000"
    folder.mkdir()
    process.write_json(folder / "run.json", {"index": 0, "payload": {"kind": "unknown"}})
    submitted = submit(engine, folder)
    began = time.monotonic()
    engine.wait(100)
    assert time.monotonic() - began < 60
    poll(lambda: engine.poll([submitted]) == [base.ENDED])


AT_FORK = """
import os, sys

def note():
    import builtins
    builtins.at_fork = set(sys.modules)

os.register_at_fork(after_in_child=note)
"""
NEW = """
import builtins, json, sys
json.dump(sorted(set(sys.modules) - builtins.at_fork), open(data_job + "/new.json", "w"))
"""


def test_the_notebooks_kernel_shows_what_a_start_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert preload.kernel_here() is None
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(AT_FORK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{Path(preload.__file__).parents[2]}")
    project = f"%project name=net root={tmp_path}"
    notebook = write_notebook(tmp_path / "a.ipynb", "%load_ext colab_magics", project, "%fork n=1 start=warm", NEW)
    monkeypatch.setenv("COLAB_MAGICS_NOTEBOOK", str(notebook))
    subprocess.run([sys.executable, "-m", "papermill", notebook, tmp_path / "out.ipynb"], cwd=tmp_path, check=True)
    (new,) = tmp_path.glob("**/new.json")
    assert json.loads(new.read_text()) == []
    (order,) = tmp_path.glob("**/.scheduler/preload.json")
    order = json.loads(order.read_text())["kernels"][""]
    assert "IPython.core.completer" in order["started"]
    assert not [name for name in order["modules"] if name.startswith("cyclopts")]


def test_which_modules_a_notebook_imports() -> None:
    cells = [
        "%load_ext colab_magics\nimport numpy as np, json",
        "from pandas import DataFrame\nfrom numpy import linalg\n!ls\nimport not_there_at_all",
        "this is no Python",
        ["import ", "nbformat.v4"],
    ]
    made = [{"cell_type": "code", "source": cell} for cell in cells]
    names = preload.imported_by({"cells": [*made, {"cell_type": "markdown", "source": "import pytest"}]})
    assert {"numpy", "json", "pandas", "numpy.linalg", "nbformat.v4", "colab_magics.faces.magics"} <= set(names)
    assert not {"not_there_at_all", "pytest", "colab_magics"} & set(names)


def test_what_is_loaded_here_leaves_out_the_projects_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    (tmp_path / "of_the_project.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("of_the_project")
    names = preload.loaded_here()
    assert {"json", "psutil"} <= set(names)
    assert not {"of_the_project", "__main__", "papermill", "colab_magics", "IPython"} & set(names)
