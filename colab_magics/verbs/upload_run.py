"""``%upload --run``: the notebook on a new Colab runtime, by Google's own program."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import process, session
from ..errors import CommandFailed, InvalidInput, RunsFailed
from ..units import show_size

if TYPE_CHECKING:
    from ..colab.google_program import Program
    from .upload import Uploaded


def check(content: Mapping[str, Any], *, high_ram: bool) -> Program:
    """Check what ``--run`` needs, before anything starts; returns Google's program.

    Raises
    ------
    Unavailable
        When it is not installed.
    InvalidInput
        For what it cannot ask Colab for.
    """
    from ..colab.google_program import Program

    program = Program.find()
    colab = content["metadata"].get("colab") or {}
    if high_ram or colab.get("machine_shape") == "hm":
        raise InvalidInput(
            "Google's program colab cannot ask for a runtime with more memory.",
            "Leave --high-ram out with --run, or upload it and run it in Colab.",
        )
    return program


def run(program: Program, content: Mapping[str, Any], name: str, home: Path, timeout: float) -> Uploaded:
    """Execute the notebook on a new runtime, follow it, and bring its outputs home.

    Parameters
    ----------
    program : Program
        Google's.
    content : mapping
        The notebook.
    name : str
        Its file name.
    home : Path
        The folder here that gets the executed notebook, and a folder with what the job has written.
    timeout : float
        Seconds for a cell.

    Raises
    ------
    RunsFailed
        When a cell failed; what there is was brought home all the same.
    CommandFailed
        When Google's program failed; the runtime is kept when something may be on it that is not here.
    """
    from ..colab import google_program as google
    from .upload import Uploaded, wants_drive

    ui = session.current().ui
    metadata = content["metadata"]
    model = (metadata.get("colab") or {}).get("gpuType") or ("T4" if metadata.get("accelerator") == "GPU" else None)
    with tempfile.TemporaryDirectory(prefix="colab_magics-run-") as folder:
        work = Path(folder)
        ui.say(
            f"A new runtime of Colab ({model or 'CPU'}), session {program.session}: colab status -s {program.session}"
        )
        program.new(model)
        keep = ""
        try:
            if wants_drive(content):
                program.mount_drive(ui)
            program.upload(work, name, content)
            keep = "what it has done may be on it alone"
            executed = program.execute(work, name, content, timeout, ui.show)
            target = _free(home / name.replace(".ipynb", "_output.ipynb"))
            process.write_whole(target, json.dumps(executed, indent=1, ensure_ascii=False) + "\n")
            notes, keep = _bring_home(program, work, home, name)
        except CommandFailed as error:
            error.mend = f"What it did: colab log -s {program.session}. {error.mend}" if keep else error.mend
            raise
        except KeyboardInterrupt:
            keep = ""  # whoever interrupts does not want it any more
            raise
        finally:
            if keep:
                ui.warn(f"The runtime is kept, as {keep}. It is ended by: colab stop -s {program.session}")
            else:
                _stop(program)
    if failed := google.failure(executed):
        raise RunsFailed(f"{name}: {failed}", f"All that it printed: {target}. {' '.join(notes)}".strip())
    return Uploaded(target.name, str(home), notes=tuple(notes))


def _stop(program: Program) -> None:
    try:
        program.stop()
    except CommandFailed as error:
        session.current().ui.warn(f"{error.what} It may still cost: colab stop -s {program.session}")


def _bring_home(program: Program, work: Path, home: Path, name: str) -> tuple[list[str], str]:
    """Fetch what the job has written; returns lines for the user, and why the runtime has to be kept, if so."""
    from ..archives.unpacking import unpack

    said = program.finish()
    notes, keep = [], ""
    if said.get("trouble"):
        keep = f"not all has reached Drive: {said['trouble']}"
    if said.get("archive"):
        archive = work / "home.tar.gz"
        program.download(said["archive"], archive)
        target = _free(home / name.removesuffix(".ipynb"))
        unpack(str(archive), str(target))
        notes.append(f"What the job has written: {target}")
    elif said.get("size"):
        notes.append(
            f"The job has written {show_size(said['size'])}, too much to be fetched: it is where %sync put it."
        )
    return notes, keep


def _free(path: Path) -> Path:
    """Return a name that is not taken: what an earlier one brought home stays."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
