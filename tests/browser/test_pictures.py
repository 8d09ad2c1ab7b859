"""A sweep of 24 runs with 4 metrics in a real JupyterLab, in light and dark: the README's pictures.

``make pictures`` makes them again, into demo_notebooks/pictures.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import poll

pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'colab-magics[browser]'")
pytest.importorskip("playwright", reason="needs playwright: pip install 'colab-magics[browser]'")

if TYPE_CHECKING:
    from lab_in_chromium import Lab

pytest_plugins = ("lab_in_chromium",)
pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(600)]

LARGEST = 150_000
"""So many bytes a picture of the README may have."""
TRAIN = """\
import math, random, time
from colab_magics import report

random.seed(repr((lr, width, seed)))
best = 0.9 * lr**0.1 * (64 / width) ** 0.2
for step in range(1, 41):
    time.sleep(0.2)
    loss = best + 2 * math.exp(-step * lr * 40) + random.gauss(0, 0.01)
    report(loss=loss, val_loss=1.1 * loss, acc=1 - loss / 3, grad_norm=5 * loss / step, step=step, total=40)
    if step % 10 == 0:
        print(f"epoch {step // 10}: loss {loss:.3f}")"""
CELLS = (
    "%load_ext colab_magics\n%project name=mnist root=. job=sweep",
    "%%fork start=live workers=4 goal=min:val_loss\n"
    "lr: [0.001, 0.003, 0.01, 0.03]\nwidth: [64, 128, 256]\nseed: [0, 1]",
    TRAIN,
    "runs = %join\nruns.groupby(['lr', 'width'])[['loss', 'val_loss', 'acc']].mean().round(3).unstack()",
    "%jobs plot val_loss over=seed",
)


def picture(lab: Lab, cell: int, name: str, folder: Path) -> Path:
    """Take a cell as it stands in the page, without the window around it."""
    from PIL import Image

    file = folder / name
    lab.page.locator(".jp-Notebook .jp-Cell").nth(cell).screenshot(path=file)
    with Image.open(file) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)
    return file


def in_mid_run(said: str, done: range) -> bool:
    """Whether so many runs are done, and others are in the middle of their steps."""
    found = re.search(r"\b(\d+) done, \d running", said)
    return found is not None and int(found[1]) in done and bool(re.search(r"step 1\d of 40", said))


def test_the_pictures_of_the_readme(lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    folder = Path(os.environ.get("PICTURES") or tmp_path).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (lab.root / "sweep").mkdir()
    lab.write("sweep/train.ipynb", *CELLS)
    lab.page.set_viewport_size({"width": 1340, "height": 1000})
    lab.open("sweep/train.ipynb")
    lab.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    lab.start_run_all()
    for theme, done in (("Dark", range(5, 16)), ("Light", range(8, 21))):
        lab.theme(theme)
        poll(lambda done=done: in_mid_run(lab.said(1), done), timeout=250, what=f"{done} runs are done, others run")
        picture(lab, 1, f"runs-{theme.lower()}.png", folder)
    poll(lambda: lab.page.locator(".jp-OutputArea-output img").count(), timeout=240, what="the plot is there")
    for theme in ("Dark", "Light"):
        lab.theme(theme)
        picture(lab, 4, f"plot-{theme.lower()}.png", folder)
    for file in folder.glob("*.png"):
        assert file.stat().st_size <= LARGEST, f"{file.name}: {file.stat().st_size}"
