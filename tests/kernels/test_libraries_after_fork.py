"""Libraries that hold threads, pools or native state work in forked kernels.

Warm, they were loaded before the fork. Live, the notebook has used them too: their threads and processes are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fronts import Front
from runs.notebooks import outputs, write_notebook

from colab_magics import fork, session
from colab_magics.checkout.project import Project
from colab_magics.records.run import Run
from colab_magics.session import Session
from colab_magics.ui import TerminalUI

pytest_plugins = ("shells",)
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

NUMPY = """
import numpy
product = numpy.random.rand(700, 700) @ numpy.random.rand(700, 700)
assert numpy.isfinite(numpy.linalg.svd(product[:200, :200])[1]).all()
"""
SKLEARN = """
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
from sklearn.linear_model import LogisticRegression
X, y = make_classification(400, random_state=0)
assert RandomForestClassifier(20, n_jobs=2).fit(X, y).score(X, y) > 0.9
assert cross_val_score(LogisticRegression(), X, y, n_jobs=2).mean() > 0.5
"""
MATPLOTLIB = """
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
axes.plot([1, 3, 2])
figure.savefig(data_job + '/figure.png')
assert open(data_job + '/figure.png', 'rb').read(4) == b'\\x89PNG'
"""
PYARROW = """
import pyarrow
import pyarrow.compute
import pyarrow.parquet
table = pyarrow.table({'a': list(range(100_000))})
pyarrow.parquet.write_table(table, data_job + '/a.parquet')
assert pyarrow.compute.sum(pyarrow.parquet.read_table(data_job + '/a.parquet')['a']).as_py() == 4999950000
"""
TORCH = """
import torch
a = torch.rand(500, 500, requires_grad=True)
(a @ a).sum().backward()
assert torch.isfinite(a.grad).all()
loader = torch.utils.data.DataLoader(list(range(8)), batch_size=4, num_workers=2)
assert sum(int(batch.sum()) for batch in loader) == 28
"""
JOBLIB = """
import math
import joblib
for backend in ('loky', 'multiprocessing', 'threading'):
    roots = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(math.sqrt)(i * i) for i in range(6))
    assert roots == list(range(6)), backend
"""
MULTIPROCESSING = """
import concurrent.futures
import math
import multiprocessing
for method in ('fork', 'spawn', 'forkserver'):
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(math.sqrt, [1, 4, 9]) == [1, 2, 3], method
with concurrent.futures.ProcessPoolExecutor(2) as pool:
    assert list(pool.map(math.sqrt, [16, 25])) == [4, 5]
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(math.sqrt, [16, 25])) == [4, 5]
"""
PANDAS = """
import pandas
frame = pandas.DataFrame({'a': range(1000), 'b': 'x'})
assert frame.groupby('b').a.mean().x == 499.5
"""
CASES = {
    "numpy": NUMPY,
    "pandas": PANDAS,
    "sklearn": SKLEARN,
    "matplotlib": MATPLOTLIB,
    "pyarrow": PYARROW,
    "torch": TORCH,
    "joblib": JOBLIB,
    "multiprocessing": MULTIPROCESSING,
}


def _import(library: str) -> None:
    pytest.importorskip(
        library, reason=f"{library} is not installed; make test-long installs all but torch, which is too big"
    )


@pytest.mark.parametrize("library", CASES)
def test_it_works_in_a_forked_kernel(library: str, tmp_path: Path) -> None:
    _import(library)
    root = tmp_path / "net"
    root.mkdir()
    project = Project(name="net", job="after_fork", root=root, notebooks=root)
    session.activate(Session(ui=TerminalUI(), project=project))
    # It was there before the run's first cell: else this would test nothing.
    loaded = f"import sys\nprint('loaded:', {library!r} in sys.modules)"
    notebook = write_notebook(root / "a.ipynb", loaded, CASES[library], "print('worked')")
    fork(n=3, workers=3, start="warm", notebook=str(notebook))
    for index in range(3):
        run = Run.load(project.data_job / f"sub_job_00{index}")
        assert "note" not in (run.state() or {}), run.state()
        shown = outputs(run.folder / "notebook.ipynb")
        assert "loaded: True" in shown
        assert "worked" in shown


@pytest.mark.parametrize("library", CASES)
def test_it_works_in_a_fork_of_the_notebook_that_used_it(
    library: str, tmp_path: Path, start_kernel: Callable[..., Front]
) -> None:
    _import(library)
    setup = "%load_ext colab_magics\n%project name=net root=. job=live\nimport os\ndata_job = os.getcwd()"
    cells = [setup, CASES[library], "%fork n=3 workers=3 start=live time=2m then=continue", CASES[library]]
    write_notebook(tmp_path / "main.ipynb", *cells)
    front = start_kernel(COLAB_MAGICS_NOTEBOOK=str(tmp_path / "main.ipynb"))
    for cell in cells[:3]:
        reply = front.run(cell)
        assert reply.status == "ok", "\n".join(reply.traceback)
    for index in range(3):
        assert Run.load(tmp_path / "net" / "data_job" / "live" / f"sub_job_00{index}").status().phase == "done"
    # The notebook's own pools still work.
    assert front.run(CASES[library]).status == "ok"
