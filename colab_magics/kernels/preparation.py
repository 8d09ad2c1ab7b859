"""What the process is started with that warm kernels are forked from: its Python, and the modules it imports first.

A job's runs may use several kernels: those of one notebook this interpreter, those of another the environment that it
names. Each has a process of its own to fork from, started by that environment's interpreter.
"""

from __future__ import annotations

from pathlib import Path

from .. import process
from ..records.names import PRELOAD
from ..ui import Notebook
from . import preload
from .cold import interpreter_of

_ZYGOTE = Path(__file__).with_name("zygote.py")


def write(folder: Path, kernel: str | None, notebook: Notebook) -> None:
    """Write how to prepare the runs of a notebook, beside what is known of other kernels.

    Parameters
    ----------
    folder : Path
        ``.scheduler`` of the job.
    kernel : str or None
        Name of the runs' kernelspec; None is this interpreter. One that does not start ipykernel is left out: its runs
        start cold and say so.
    notebook : Notebook
        What the runs execute.
    """
    known = process.read_json(folder / PRELOAD) or {}
    kernels = {name: order for name, order in known.get("kernels", {}).items() if name != (kernel or "")}
    if interpreter := interpreter_of(kernel):
        # What this kernel has loaded its runs will load too; of the cells to come, and of another notebook, the text
        # tells.
        modules = dict.fromkeys(
            [*(preload.loaded_here() if notebook.current else ()), *preload.imported_by(notebook.content)]
        )
        perhaps = [name for name in preload.named_by(notebook.content) if name not in modules]
        kernels[kernel or ""] = {
            "command": [*interpreter.command, str(_ZYGOTE)],
            "env": interpreter.env,
            "modules": list(modules),
            "perhaps": perhaps,
            # This kernel shows what a start needs. Of another interpreter a kernel that nobody uses does.
            "started": preload.kernel_here() if kernel is None else None,
        }
    process.write_json(folder / PRELOAD, {"kernels": kernels})
