"""Google's own program ``colab`` (google-colab-cli), used as a program: a runtime, a notebook on it, files.

Read in its sources (August 2026): ``exec -f`` sends the code cells one by one, goes on after a cell that failed, ends
with status 0 all the same, and writes ``NAME_output.ipynb`` beside the file. So the notebook gets a first cell after
which nothing more is executed once a cell has failed or ``%stop`` has ended it, as Run All does.
"""

from __future__ import annotations

import copy
import json
import os
import re
import select
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from .. import process
from ..errors import CommandFailed, Unavailable
from ..pipes import Pipes
from ..ui import Says
from .metadata import TPUS
from .runtime import content as content_folder
from .runtime import my_drive

PROGRAM = "colab"
MOST = 500_000_000
"""Bytes of outputs that are fetched: the program takes a file into memory as a whole."""
ASIDE = "colab_magics_outputs"
FIRST = "colab-magics-first"
"""Id of the cell that is put in front."""
MARK = "# colab_magics: when it has ended"
_SAID = "colab_magics says "
_SHORT = 600.0

_FIRST = """\
def _colab_magics_first():
    import os
    from IPython import get_ipython
    os.environ["COLAB_MAGICS_NOTEBOOK"] = {notebook!r}
    shell = get_ipython()
    def nothing(lines):
        return lines if lines and lines[0].strip() == {mark!r} else []
    def ended(result):
        if not result.success:
            shell.events.unregister("post_run_cell", ended)
            shell.input_transformers_cleanup.insert(0, nothing)
    shell.events.register("post_run_cell", ended)
_colab_magics_first()
del _colab_magics_first
"""

_LAST = """\
{mark}
def _colab_magics_last(folder):
    import json, os, shutil, sys
    said = {{}}
    try:
        if folder and os.path.isdir(folder):
            said["size"] = sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(folder)
                               for name in names if os.path.isfile(os.path.join(top, name)))
            if said["size"] <= {most}:
                said["archive"] = shutil.make_archive({aside!r}, "gztar", folder)
        if "colab_magics" in sys.modules:
            from colab_magics.mirror import control
            for one in control.running():
                one.stop(1800)
        if os.path.ismount({drive!r}):
            from google.colab import drive
            drive.flush_and_unmount()
    except Exception as error:
        said["trouble"] = " ".join(str(error).split()) or type(error).__name__
    print({said!r} + json.dumps(said))
_colab_magics_last(globals().get("data_job"))
"""


@dataclass(frozen=True)
class Program:
    """Google's program, and a session of it.

    Parameters
    ----------
    path : str
        The program.
    session : str
        What the session is called.
    """

    path: str
    session: str = field(default_factory=lambda: f"colab-magics-{token_hex(3)}")

    @classmethod
    def find(cls) -> Program:
        """Return it; raises `Unavailable` when it is not on the PATH."""
        found = shutil.which(PROGRAM)
        if found is None:
            raise Unavailable(
                f"--run needs Google's program {PROGRAM}, which is not here.",
                "Install it: uv tool install google-colab-cli (Python 3.12 or later); then try: colab new, colab stop",
            )
        return cls(found)

    def new(self, model: str | None) -> None:
        """Get a runtime."""
        device = [] if model is None else ["--tpu", model.lower()] if model in TPUS else ["--gpu", model]
        self._run("new", "-s", self.session, *device)

    def stop(self) -> None:
        """End the runtime."""
        self._run("stop", "-s", self.session)

    def mount_drive(self, ui: Says) -> None:
        """Mount Drive; where Google wants the user's consent its link is shown, and it is tried again after a yes.

        Raises
        ------
        Unavailable
            When it is not mounted.
        """
        for last in (False, True):
            try:
                done = self._run("drivemount", "-s", self.session)
                if "Mounted at" in done.stdout or "already mounted" in done.stdout:
                    return
                why = f"{done.stdout}\n{done.stderr}".strip()
            except CommandFailed as error:
                why = error.output
            links = re.findall(r"https://\S+", why)
            link = (
                f"Google wants your consent to mount Drive: {links[0]}" if links else f"Drive was not mounted:\n{why}"
            )
            if last or not ui.ask(f"{link}\nHave you allowed it?"):
                raise Unavailable(link, "Allow it, then say %upload --run again; or take %project to=drive out.")

    def upload(self, work: Path, name: str, content: Mapping[str, Any]) -> None:
        """Put the notebook onto the runtime: ``%fork`` runs this file, as nothing there else knows which it is."""
        plain = work / name
        plain.write_text(json.dumps(content), encoding="utf-8")
        self._run("upload", "-s", self.session, str(plain), str(content_folder() / name).lstrip("/"))

    def execute(
        self, work: Path, name: str, content: Mapping[str, Any], timeout: float, say: Callable[[str], None]
    ) -> dict[str, Any]:
        """Execute a notebook and follow it.

        Parameters
        ----------
        work : Path
            A folder for what the program reads and writes.
        name : str
            The notebook's file name.
        content : mapping
            The notebook.
        timeout : float
            Seconds for a cell.
        say : callable
            Shows what it prints.

        Returns
        -------
        dict
            The executed notebook.

        Raises
        ------
        CommandFailed
            When the program failed; a cell that failed is in the notebook.
        """
        led = work / "notebook.ipynb"
        first: dict[str, Any] = {"cell_type": "code", "id": FIRST, "metadata": {}, "outputs": []}
        first |= {"execution_count": None, "source": _FIRST.format(notebook=str(content_folder() / name), mark=MARK)}
        made = copy.deepcopy(dict(content))
        made["cells"] = [first, *made["cells"]]
        led.write_text(json.dumps(made), encoding="utf-8")
        self._follow(["exec", "-s", self.session, "-f", str(led), "--timeout", f"{timeout:g}"], say)
        executed = process.read_json(work / "notebook_output.ipynb")
        if executed is None:
            raise CommandFailed("colab exec has written no executed notebook.", "Is it another program of that name?")
        executed["cells"] = [cell for cell in executed["cells"] if cell.get("id") != FIRST]
        return executed

    def finish(self) -> dict[str, Any]:
        """Have the runtime hand over what it has to Drive, and pack the job's folder; says what there is."""
        code = _LAST.format(
            mark=MARK, most=MOST, aside=str(content_folder() / ASIDE), drive=str(my_drive().parent), said=_SAID
        )
        said = self._run("exec", "-s", self.session, "--timeout", "7200", input=code.encode(), timeout=7300.0).stdout
        line = next((line for line in said.splitlines() if line.startswith(_SAID)), None)
        if line is None:
            raise CommandFailed(
                "The runtime did not say what the job has written.", "Look there: colab ls", output=said
            )
        found: dict[str, Any] = json.loads(line.removeprefix(_SAID))
        return found

    def download(self, there: str, to: Path) -> None:
        """Fetch a file."""
        self._run("download", "-s", self.session, there.lstrip("/"), str(to))
        if not to.is_file():
            raise CommandFailed(f"colab download has fetched nothing of {there}.", "Try it by hand.")

    def _run(self, *words: str, input: bytes | None = None, timeout: float = _SHORT) -> Any:
        try:
            return process.run([self.path, *words], input=input, timeout=timeout)
        except CommandFailed as error:
            said = error.output.strip().splitlines() or [f"status {error.returncode}"]
            error.what = f"colab {words[0]}: {said[-1]}"
            if "accounts.google.com" in error.output and words[0] != "drivemount":
                error.what = f"colab {words[0]}: Google's program is not logged in."
                error.mend = "Log it in once, in a terminal: colab new, then colab stop."
            raise

    def _follow(self, words: list[str], say: Callable[[str], None]) -> None:
        """Run it and show each line when it comes."""
        pipes = Pipes([self.path, *words])
        try:
            pipes.end_input()
            rest = b""
            while True:
                select.select([pipes.stdout], [], [])
                data = os.read(pipes.stdout, 1 << 16)
                *lines, rest = (rest + data).split(b"\n") if data else [rest]
                if not data:
                    lines = [rest] if rest else []
                for line in lines:
                    say(line.decode("utf-8", "backslashreplace"))
                if not data:
                    break
            pipes.wait(60.0)
        finally:
            status, errors = pipes.close()
        if status:
            said = errors.strip().splitlines() or [f"status {status}"]
            mend = "Mend what it names, then say it again."
            raise CommandFailed(f"colab exec: {said[-1]}", mend, returncode=status, output=errors)


def failure(executed: Mapping[str, Any]) -> str:
    """Say which cell failed, and how; empty when none did. ``%stop`` ends a notebook well."""
    number = 0
    for cell in executed["cells"]:
        if cell.get("cell_type") != "code":
            continue
        number += 1
        for one in cell.get("outputs", []):
            if one.get("output_type") == "error" and (one.get("ename"), one.get("evalue")) != ("SystemExit", ""):
                return f"cell {number} failed: {one.get('ename')}: {one.get('evalue')}"
    return ""
