"""What knows jupyter_client's clients alone runs on a kernel elsewhere: nbclient, papermill, execute_interactive."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from conftest import poll
from fronts import notebook
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines

from colab_magics.relay.jupyter import async_client, blocking_client
from colab_magics.relay.remote_kernel import RemoteKernel
from relay.conftest import run, ssh_of, value

Connect = Callable[..., RemoteKernel]


class Manager:
    """What nbclient asks of a manager whose kernel runs already."""

    has_kernel = True

    def __init__(self, kernel: RemoteKernel) -> None:
        self.kernel = kernel

    def client(self) -> Any:
        return async_client(self.kernel)

    def is_alive(self) -> bool:
        return self.kernel.lives

    def interrupt_kernel(self) -> None:
        self.kernel.interrupt()


@pytest.fixture(autouse=True)
def own_loop() -> Iterator[None]:
    """jupyter_client 7 (Colab's) takes the thread's loop, and Python 3.13 wants somebody to have made one."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def execute(kernel: RemoteKernel, *cells: str, **options: Any) -> Any:
    """Execute a notebook with nbclient's own code; returns it."""
    runner = NotebookClient(notebook(*cells), km=Manager(kernel), **options)
    try:
        return runner.execute()
    finally:
        if runner.kc is not None:
            runner.kc.stop_channels()


def texts(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def test_nbclient_executes_a_notebook_there(connect: Connect) -> None:
    kernel = connect()
    done = execute(
        kernel,
        "from IPython.display import HTML, clear_output, display\nx = 20\nprint('gone')\n"
        "clear_output()\nprint('stays')",
        "handle = display(HTML('<b>1</b>'), display_id=True)\nhandle.update(HTML('<b>2</b>'))\n2 * x",
        "for i in range(5000): print(i)",
    )
    nbformat.validate(done)
    assert texts(done.cells[0]) == "stays\n"
    assert [output.data.get("text/html") or output.data["text/plain"] for output in done.cells[1].outputs] == [
        "<b>2</b>",
        "40",
    ]
    assert texts(done.cells[2]).split() == [str(i) for i in range(5000)]
    assert [cell.execution_count for cell in done.cells] == [1, 2, 3]
    assert done.metadata.language_info.version == kernel.welcome["version"]
    # The kernel stays, for us and for another client.
    assert value(kernel, "x") == "20"
    assert texts(execute(kernel, "print(x)").cells[0]) == "20\n"


def test_nbclient_sees_errors_time_limits_and_the_death_of_the_kernel(connect: Connect) -> None:
    kernel = connect()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(kernel, "1 / 0")
    done = execute(
        kernel, "import time; time.sleep(60)", "'next'", timeout=1, interrupt_on_timeout=True, allow_errors=True
    )
    assert done.cells[0].outputs[0].ename == "KeyboardInterrupt"
    assert done.cells[1].outputs[0].data["text/plain"] == "'next'"
    with pytest.raises(CellTimeoutError):
        execute(kernel, "import time; time.sleep(3)", timeout=1)
    with pytest.raises(DeadKernelError):
        execute(kernel, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_cut_connection_is_no_death_for_nbclient(connect: Connect, tmp_path: Path) -> None:
    kernel, begun = connect(), tmp_path / "begun"

    def cut() -> None:
        poll(begun.exists)
        os.kill(ssh_of(kernel), signal.SIGKILL)

    cutter = threading.Thread(target=cut)
    cutter.start()
    loop = "for i in range(600):\n    print(i, flush=True); time.sleep(0.005)"
    done = execute(kernel, f"import time\nopen({str(begun)!r}, 'w').close()\n{loop}")
    cutter.join()
    assert texts(done.cells[0]).split() == [str(i) for i in range(600)]


def test_papermill_executes_a_notebook_there(connect: Connect, tmp_path: Path) -> None:
    kernel = connect()

    class There(Engine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> None:
            runner = PapermillNotebookClient(nb_man, km=Manager(kernel))
            runner.execute()
            runner.kc.stop_channels()

    papermill_engines.register("there", There)
    made = notebook("n = 1", "print('n is', n)")
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, tmp_path / "a.ipynb")
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(tmp_path / "a.ipynb", out, {"n": 7}, engine_name="there", progress_bar=False)
    assert texts(nbformat.read(out, 4).cells[-1]) == "n is 7\n"


def test_a_client_that_waits(connect: Connect) -> None:
    kernel = connect()
    client = blocking_client(kernel)
    client.start_channels()
    client.wait_for_ready(timeout=30)
    assert client.is_alive()
    said: list[str] = []

    def hook(message: Any) -> None:
        said.append(message["content"].get("text", ""))

    def answer(message: Any) -> None:
        assert message["content"]["prompt"] == "who? "
        client.input("Ada")

    code = "print('so', input('who? '))"
    reply = client.execute_interactive(code, output_hook=hook, stdin_hook=answer, timeout=30)
    assert reply["content"]["status"] == "ok"
    assert "".join(said) == "so Ada\n"
    assert client.complete("import o", reply=True, timeout=30)["content"]["status"] == "ok"
    assert client.kernel_info(reply=True, timeout=30)["content"]["implementation"] == "ipython"
    with pytest.raises(queue.Empty):
        client.get_shell_msg(timeout=0.05)
    client.execute("import threading, time\nthreading.Timer(0.2, print, ('late',)).start()", reply=True, timeout=30)
    poll(lambda: "late" in str(client.get_iopub_msg(timeout=30)["content"]))
    client.stop_channels()
    assert value(kernel, "1 + 1") == "2"


def test_a_client_ends_the_kernel(connect: Connect) -> None:
    kernel = connect()
    client = blocking_client(kernel)
    client.start_channels()
    assert client.shutdown(reply=True, timeout=30)["content"]["status"] == "ok"
    poll(lambda: not client.is_alive())
    client.stop_channels()


def test_a_client_interrupts_by_message(connect: Connect) -> None:
    kernel = connect()
    client = blocking_client(kernel)
    client.start_channels()
    client.wait_for_ready(timeout=30)
    # An error would drop what comes in the moment after it, which the last line here does.
    number = client.execute("import time\nprint('in it', flush=True)\ntime.sleep(60)", stop_on_error=False)
    poll(lambda: "in it" in str(client.get_iopub_msg(timeout=30)["content"]))
    client.control_channel.send(client.session.msg("interrupt_request"))
    answer = client.get_control_msg(timeout=10)
    assert (answer["msg_type"], answer["content"]["status"]) == ("interrupt_reply", "ok")
    reply = poll(lambda: (got := client.get_shell_msg(timeout=10))["parent_header"]["msg_id"] == number and got)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    client.stop_channels()
    assert value(kernel, "1 + 1") == "2"


@pytest.mark.long  # ipykernel waits half a minute for a child that has ended
def test_what_a_kernel_started_ends_with_it_as_jupyter_ends_it(connect: Connect) -> None:
    kernel = connect()
    client = blocking_client(kernel)
    client.start_channels()
    run(kernel, "import subprocess")
    inside = int(value(kernel, "subprocess.Popen(['sleep', '60']).pid"))
    outside = int(value(kernel, "subprocess.Popen(['sleep', '60'], start_new_session=True).pid"))
    assert client.shutdown(reply=True, timeout=30)["content"]["status"] == "ok"
    # ipykernel waits half a minute for a child that has ended, and that nobody has reaped.
    poll(lambda: not client.is_alive(), timeout=60)
    client.stop_channels()
    poll(lambda: not Path(f"/proc/{inside}").exists())
    os.kill(outside, signal.SIGTERM)  # was left alone: its session is its own
