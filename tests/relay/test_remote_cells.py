"""``%remote`` in a real kernel, over a real ssh: cells, output, variables, code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fronts import Front
from sshd import sshd

pytest_plugins = ("shells",)


@pytest.fixture
def front(tmp_path: Path, start_kernel: Callable[..., Front]) -> Iterator[Front]:
    with sshd(tmp_path) as server:
        (tmp_path / "helper.py").write_text("def double(x):\n    return 2 * x\n")
        one = start_kernel(COLAB_MAGICS_SSH_CONFIG=str(server.config_file), JPY_SESSION_NAME=str(tmp_path / "a.ipynb"))
        one.run("%load_ext colab_magics")
        yield one


def test_cells_run_there_until_off(front: Front, tmp_path: Path) -> None:
    reply = front.run(f"%remote box env={__import__('sys').executable} folder=work")
    assert reply.status == "ok", "\n".join(reply.traceback)
    print(reply)
    print(front.run("import os\nx = 20\nprint('hello', os.getcwd())"))
    print(front.run("from helper import double\ndouble(x)"))
    print(front.run("1/0"))
    print(front.run("%%local\nprint('here')"))
    print(front.run("%remote pull x\nprint(x)"))
    print(front.run("y = [1, 2]\n%remote push y"))
    print(front.run("y"))
    print(front.run("%remote status"))
    print(front.run("%remote end"))
    print(front.run("print('local again')"))
    raise SystemError
