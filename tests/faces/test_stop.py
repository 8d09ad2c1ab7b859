"""``%stop``: no cell below it runs, and that is no error."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import poll
from fronts import ROOT, Front, Reply, notebook

from colab_magics.faces.stop import Stopped

pytest_plugins = ("shells",)

GUARDS = "print(sum(type(t).__name__ == 'Guard' for t in get_ipython().input_transformers_cleanup))"


PATIENT = "import colab_magics.faces.stop as guarding; guarding.PAUSE = 20.0"
"""A pause that no slow machine makes by itself."""


def send_at(front: Front, code: str, date: datetime, cell: str = "") -> str:
    """Send a cell with this date, as a page does that is slow, or behind a slow line; returns the request's id."""
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
    message = front.client.session.msg("execute_request", content, metadata={"cellId": cell} if cell else {})
    message["header"]["date"] = date
    front.client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


def run_at(front: Front, code: str, date: datetime, cell: str = "") -> Reply:
    """Run a cell with this date; one that ipykernel 6 has aborted is sent again (see `Front.run`)."""

    def reply() -> Reply | None:
        found = front.collect(send_at(front, code, date, cell))[0]
        return found if found.status != "aborted" else None

    answered: Reply = poll(reply)
    return answered


def test_nothing_queued_below_a_stop_runs(front: Front, tmp_path: Path) -> None:
    # B15, and its race: an abort reaches only the requests that have already arrived.
    cells = [f"open('ran_{number}', 'w').close()" for number in range(200)]
    cells[20] = "%stop the rest is for later"
    sent = [front.send(cell) for cell in cells]
    replies = front.collect(*sent)
    assert {file.name for file in tmp_path.glob("ran_*")} == {f"ran_{number}" for number in range(20)}
    assert replies[20].traceback == ["■ the rest is for later"]
    assert (replies[20].ename, replies[20].evalue) == ("SystemExit", "")
    assert {reply.status for reply in replies[21:]} <= {"error", "aborted"}


@pytest.mark.parametrize("late", [0, 40])
def test_requests_that_arrive_after_the_abort_are_stopped_too(front: Front, tmp_path: Path, late: int) -> None:
    # Sent when the stop has already answered.
    front.run(PATIENT)
    stop = front.send("%stop")
    first = [front.send(f"open('ran_{number}', 'w').close()") for number in range(late)]
    front.collect(stop, *first)
    replies = front.collect(*[front.send(f"open('late_{number}', 'w').close()") for number in range(20)])
    assert list(tmp_path.iterdir()) == []
    said = {line for reply in replies for line in reply.traceback}
    assert said == {"■ not run: stopped above"}


LAB = {"deletedCells": [], "recordTiming": True, "cellId": "a1", "trusted": True}
VS_CODE = {"cellId": "vscode-notebook-cell:/home/a/t.ipynb#W0sZmlsZQ%3D%3D"}


def run_in(front: Front, code: str, metadata: dict[str, Any], *, allow_stdin: bool = True) -> Reply:
    """Run a cell that comes with this metadata."""
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": allow_stdin}
    message = front.client.session.msg("execute_request", content, metadata=metadata)
    front.client.shell_channel.send(message)
    return front.collect(message["header"]["msg_id"])[0]


@pytest.mark.parametrize("metadata", [LAB, VS_CODE])
def test_a_stop_is_a_quiet_line_where_the_reply_alone_ends_run_all(front: Front, metadata: dict[str, Any]) -> None:
    # ✗ The end of a notebook that went well was a red box.
    assert run_in(front, "1 / 0", metadata).ename == "ZeroDivisionError"
    wait(0.2)  # ipykernel 6 aborts what comes sooner
    shown = run_in(front, "print('above')\n%stop a < b", metadata)
    assert (shown.status, shown.ename, shown.out) == ("error", "", "above\n")
    assert [data["text/plain"] for data in shown.data] == ["■ a < b"]
    assert "■ a &lt; b" in shown.data[0]["text/html"]
    assert [shown.reply[part] for part in ("ename", "evalue", "traceback")] == ["SystemExit", "", ["■ a < b"]]
    # What follows without a pause is as quiet; what fails is as red as ever.
    below = run_in(front, "print('ran')", {**metadata, "cellId": metadata["cellId"] + "2"})
    if below.status != "aborted":
        assert (below.status, below.ename, below.out) == ("error", "", "")
        assert [data["text/plain"] for data in below.data] == ["■ not run: stopped above"]
    wait(2.1)
    assert front.run("1 / 0").ename == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("metadata", "environment", "allow_stdin"),
    [
        ({}, "", True),
        (LAB, "", False),
        ({"cellId": "a1"}, "", True),
        (VS_CODE, "import os; os.environ['COLAB_RELEASE_TAG'] = 'release'", True),
    ],
)
def test_a_stop_is_an_error_where_something_may_go_by_it(
    front: Front, metadata: dict[str, Any], environment: str, allow_stdin: bool
) -> None:
    front.run(environment or "pass")
    shown = run_in(front, "%stop enough", metadata, allow_stdin=allow_stdin)
    assert (shown.ename, shown.traceback, shown.data) == ("SystemExit", ["■ enough"], [])


def test_the_users_own_answer_to_exceptions_stays(front: Front) -> None:
    front.run("get_ipython().set_custom_exc((KeyError,), lambda ip, kind, *more, **also: print('mine') or [])")
    assert run_in(front, "%stop", LAB).data
    wait(0.6)
    assert front.run("{}[1]").out == "mine\n"


def test_nobody_waits_for_a_queue_that_papermill_never_has(front: Front) -> None:  # ✗ it waited 0.3 s
    front.run("import colab_magics.faces.stop as stop\nstop.QUEUE_ARRIVES = 1000")
    assert front.run("%stop enough", allow_stdin=False).traceback == ["■ enough"]


def wait(seconds: float) -> None:
    began = time.monotonic()
    poll(lambda: time.monotonic() > began + seconds)


def test_a_slow_page_that_sends_for_many_seconds_runs_nothing_below(front: Front, tmp_path: Path) -> None:
    # ✗ Of 800 cells, which a slow page sends in 15 s, all ran that were sent 1.5 s after the stop.
    date = datetime.now(UTC)
    front.collect(send_at(front, "%stop", date))
    # ✗ Measured where a page and 2 other programs share a processor: 37 cells within 0.15 s each, then 1.1 s for one.
    for number, (pause, here) in enumerate([(0.7, 0.0), *[(0.1, 0.0)] * 4, *[(0.4, 0.3)] * 2, (1.1, 0.8), (0.4, 0)]):
        wait(here)
        date += timedelta(seconds=pause)
        reply = run_at(front, f"open('late_{number}', 'w').close()", date)
        assert reply.traceback == ["■ not run: stopped above"], number
    assert list(tmp_path.iterdir()) == []
    wait(2.1)
    assert run_at(front, "print('runs')", date + timedelta(seconds=2.1)).out == "runs\n"


def test_requests_that_a_slow_line_held_up_run_no_more_than_others(front: Front, tmp_path: Path) -> None:
    # They come all at once, and those that are aborted leave a gap that nobody has made.
    front.run(PATIENT)
    began = datetime.now(UTC)
    front.collect(send_at(front, "%stop", began), send_at(front, "1", began))
    reply = run_at(front, "open('late', 'w').close()", began + timedelta(seconds=100))
    assert reply.traceback == ["■ not run: stopped above"]
    assert list(tmp_path.iterdir()) == []


def test_a_cell_run_by_hand_half_a_second_after_the_stop_runs(front: Front) -> None:
    front.collect(*[front.send(cell) for cell in ("%stop", "1", "2")])
    wait(0.5)
    assert front.run("print('runs')").out == "runs\n"
    assert front.run(GUARDS).out == "0\n"


def test_a_cell_that_was_stopped_runs_when_it_is_sent_again(front: Front) -> None:
    front.run(PATIENT)
    began = datetime.now(UTC)
    front.collect(*[send_at(front, cell, began) for cell in ("%stop", "1", "2")])
    *first, again = [run_at(front, "print('runs')", began, f"cell-{number}") for number in (7, 8, 7)]
    assert [reply.traceback for reply in first] == [["■ not run: stopped above"]] * 2
    assert again.out == "runs\n"
    assert front.run(GUARDS).out == "0\n"


def test_a_cell_that_is_transformed_twice_is_stopped_once_and_for_all(front: Front, tmp_path: Path) -> None:
    twice = "ip = get_ipython()\nold = ip.transform_cell\nip.transform_cell = lambda cell: [old(cell), old(cell)][1]"
    assert front.run(f"{PATIENT}\n{twice}").status == "ok"
    began = datetime.now(UTC)
    front.collect(send_at(front, "%stop", began))
    assert run_at(front, "open('below', 'w').close()", began).traceback == ["■ not run: stopped above"]
    assert list(tmp_path.iterdir()) == []


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
    assert replies[0].traceback == ["■ stopped here; the cells below were not run"]
    assert "swallowed" not in replies[0].out
    assert not (tmp_path / "below").exists()


def test_the_api_stops_without_load_ext(start_kernel: Callable[..., Front], tmp_path: Path) -> None:
    front = start_kernel()
    replies = front.collect(
        *[front.send(one) for one in ("import colab_magics", "colab_magics.stop('enough')", "open('below', 'w')")]
    )
    assert replies[1].traceback == ["■ enough"]
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
    done = ipython(tmp_path / "s.ipy")
    assert done.stdout == "above\n■ stopped here; the cells below were not run\n"
    assert (done.returncode, done.stderr) == (0, "")


def ipython(script: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "IPython",
        "--no-banner",
        "--TerminalInteractiveShell.term_title=False",
        str(script),
    ]
    return subprocess.run(command, capture_output=True, text=True, env=_env(), check=False)


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
    assert "■ stopped here" in "".join(done.cells[2].outputs[0].traceback)


def test_a_cell_that_fails_after_a_stop_is_still_a_failure(tmp_path: Path) -> None:
    # In a terminal the stop counts as a success, and nothing else does.
    (tmp_path / "s.ipy").write_text(
        "%load_ext colab_magics\nip = get_ipython()\nip.run_cell('%stop')\nprint(ip.last_execution_succeeded)\n1 / 0\n"
    )
    done = ipython(tmp_path / "s.ipy")
    assert done.stdout.splitlines()[:2] == ["■ stopped here; the cells below were not run", "True"]
    assert done.returncode == 1


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
    assert made.cells[1].outputs[0].traceback == ["■ enough"]
    assert not (tmp_path / "below").exists()


def test_what_is_raised_is_no_exception_that_users_catch() -> None:
    stopped = Stopped("two\nlines")
    assert not isinstance(stopped, Exception | SystemExit)
    assert str(stopped) == ""
    assert stopped._render_traceback_() == ["■ two", "lines"]
