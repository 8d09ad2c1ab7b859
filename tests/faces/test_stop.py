"""``%stop``: no cell below it runs, and that is no error."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import poll
from fronts import ROOT, Front, notebook

from colab_magics.faces.stop import Stopped

pytest_plugins = ("shells",)


def test_nothing_queued_below_a_stop_runs(front: Front, tmp_path: Path) -> None:
    # B15, and its race: an abort reaches only the requests that have already arrived.
    cells = [f"open('ran_{number}', 'w').close()" for number in range(200)]
    cells[20] = "%stop the rest is for later"
    sent = [front.send(cell) for cell in cells]
    replies = front.collect(*sent)
    assert {file.name for file in tmp_path.glob("ran_*")} == {f"ran_{number}" for number in range(20)}
    assert replies[20].traceback == ["⏹ the rest is for later"]
    assert (replies[20].ename, replies[20].evalue) == ("SystemExit", "")
    assert {reply.status for reply in replies[21:]} <= {"error", "aborted"}


@pytest.mark.parametrize("late", [0, 40])
def test_requests_that_arrive_after_the_abort_are_stopped_too(front: Front, tmp_path: Path, late: int) -> None:
    # Sent before the stop's own 1.5 s are over, but only when the stop has already answered.
    stop = front.send("%stop")
    first = [front.send(f"open('ran_{number}', 'w').close()") for number in range(late)]
    front.collect(stop, *first)
    replies = front.collect(*[front.send(f"open('late_{number}', 'w').close()") for number in range(20)])
    assert list(tmp_path.iterdir()) == []
    said = {line for reply in replies for line in reply.traceback}
    assert said == {"⏹ not run: stopped above"}


def test_nobody_waits_for_a_queue_that_papermill_never_has(front: Front) -> None:  # ✗ it waited 0.3 s
    front.run("import colab_magics.faces.stop as stop\nstop.QUEUE_ARRIVES = 1000")
    assert front.run("%stop enough", allow_stdin=False).traceback == ["⏹ enough"]


def test_a_later_request_runs_and_takes_the_guard_away(front: Front) -> None:
    front.collect(*[front.send(cell) for cell in ("%stop", "1", "2")])
    reply = poll(lambda: (one := front.run("print('runs')")).out and one, timeout=10, what="a cell run by hand")
    assert reply.out == "runs\n"
    guards = "print(sum(type(t).__name__ == 'Guard' for t in get_ipython().input_transformers_cleanup))"
    assert front.run(guards).out == "0\n"


def test_a_second_run_all_stops_at_the_same_place(front: Front, tmp_path: Path) -> None:
    for number in range(3):
        poll(lambda: front.run("x = 1").status == "ok", timeout=10, what="the guard of the stop before is gone")
        front.collect(*[front.send(cell) for cell in (f"open('a{number}', 'w')", "%stop", "open('below', 'w')")])
    assert {file.name for file in tmp_path.iterdir()} == {"a0", "a1", "a2"}


@pytest.mark.parametrize(
    "cell",
    [
        "try:\n    %stop\nexcept Exception:\n    print('swallowed')",
        "from colab_magics import stop\ntry:\n    stop()\nexcept Exception:\n    print('swallowed')",
        "async def f():\n    %stop\nawait f()",
        "def f():\n    import colab_magics\n    colab_magics.stop()\nf()",
        "%%stop\n",
    ],
)
def test_a_stop_inside_of_other_code_stops(front: Front, tmp_path: Path, cell: str) -> None:
    replies = front.collect(*[front.send(one) for one in (cell, "open('below', 'w')")])
    assert replies[0].ename == "SystemExit"
    assert replies[0].traceback == ["⏹ stopped here; the cells below were not run"]
    assert "swallowed" not in replies[0].out
    assert not (tmp_path / "below").exists()


def test_the_api_stops_without_load_ext(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front = start_kernel()
    replies = front.collect(
        *[front.send(one) for one in ("import colab_magics", "colab_magics.stop('enough')", "open('below', 'w')")]
    )
    assert replies[1].traceback == ["⏹ enough"]
    assert not (tmp_path / "below").exists()


def test_a_script_of_run_ends_and_the_notebook_goes_on(front: Front, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import colab_magics\nprint('above')\ncolab_magics.stop('x')\nprint('below')\n")
    replies = front.collect(*[front.send(one) for one in ("%run s.py", "print('next cell')")])
    assert [reply.status for reply in replies] == ["ok", "ok"]
    assert "above" in replies[0].out
    assert "below" not in replies[0].out
    assert replies[1].out == "next cell\n"


def test_a_script_ends_as_a_success(tmp_path: Path) -> None:
    # B22
    script = "import colab_magics\nprint('above')\ncolab_magics.stop('that is all')\nprint('below')\n"
    (tmp_path / "s.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "s.py")], capture_output=True, text=True, cwd=ROOT, env=_env(), check=True
    )
    assert done.stdout == "above\n"
    assert done.stderr == "that is all\n"


def test_a_notebook_run_as_an_ipython_script_stops(tmp_path: Path) -> None:
    # B22: the notebook as a script, with its magics
    (tmp_path / "s.ipy").write_text("%load_ext colab_magics\nprint('above')\n%stop\nprint('more')\n")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", str(tmp_path / "s.ipy")],
        capture_output=True,
        text=True,
        env=_env(),
        check=False,
    )
    assert "above" in done.stdout
    assert "more" not in done.stdout
    assert "stopped here" in done.stdout + done.stderr


def _env() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def loop() -> Iterator[None]:
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    asyncio.set_event_loop(None)
    made.close()


def executed(tmp_path: Path, *cells: str) -> Any:
    """Execute a notebook by papermill, which must count it as a success; returns what it wrote."""
    import papermill

    nbformat.write(notebook("%load_ext colab_magics", *cells), tmp_path / "in.ipynb")
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", progress_bar=False, cwd=tmp_path)
    return nbformat.read(tmp_path / "out.ipynb", as_version=4)


def test_papermill_counts_a_stop_as_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = executed(tmp_path, "open('above', 'w')", "%stop", "open('below', 'w')")
    assert (tmp_path / "above").exists()
    assert not (tmp_path / "below").exists()
    assert "⏹ stopped here" in "".join(done.cells[2].outputs[0].traceback)


@pytest.mark.parametrize(("in_run", "goes_on"), [(False, False), (True, True)])
def test_stop_main_is_for_the_main_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_run: bool, goes_on: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if in_run:
        monkeypatch.setenv("COLAB_MAGICS_RUN", str(tmp_path))
    executed(tmp_path, "%stop main", "open('below', 'w')")
    assert (tmp_path / "below").exists() == goes_on


def test_a_run_stops_as_a_success_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLAB_MAGICS_RUN", str(tmp_path))
    guards = "sum(type(t).__name__ == 'Guard' for t in get_ipython().input_transformers_cleanup)"
    executed(tmp_path, f"try:\n    %stop\nfinally:\n    open('guards', 'w').write(str({guards}))", "open('below', 'w')")
    assert (tmp_path / "guards").read_text() == "0"
    assert not (tmp_path / "below").exists()


def test_nbclient_stops_there_with_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: None) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = notebook("%load_ext colab_magics", "%stop enough", "open('below', 'w')")
    with pytest.raises(CellExecutionError) as caught:
        NotebookClient(made, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3").execute()
    assert caught.value.ename == "SystemExit"
    nbformat.validate(made)
    assert made.cells[1].outputs[0].traceback == ["⏹ enough"]
    assert not (tmp_path / "below").exists()


def test_what_is_raised_is_no_exception_that_users_catch() -> None:
    stopped = Stopped("two\nlines")
    assert not isinstance(stopped, Exception | SystemExit)
    assert str(stopped) == ""
    assert stopped._render_traceback_() == ["⏹ two", "lines"]
