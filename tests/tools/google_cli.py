"""Google's program ``colab`` (google-colab-cli) as far as ours uses it: written from its sources, with real kernels.

What matters is as there: ``exec`` sends cell after cell, whatever became of the one before, ends with status 0, writes
``NAME_output.ipynb`` beside the file, and gives a cell 30 seconds; ``exec`` and ``drivemount`` change to the content
folder; a cell's traceback goes to standard error; ``drivemount`` asks at the terminal and without one fails.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = '#!/bin/sh\nexec {python} {file} {state} "$@"\n'


class GoogleCli:
    """The program on the PATH.

    Parameters
    ----------
    folder : Path
        Where it keeps its sessions.
    content : Path
        What stands for ``/content``.
    """

    def __init__(self, folder: Path, content: Path) -> None:
        self.folder, self.content = folder, content
        (folder / "bin").mkdir(parents=True)
        self.file = folder / "bin" / "colab"
        self.file.write_text(PROGRAM.format(python=sys.executable, file=__file__, state=folder))
        self.file.chmod(0o755)
        self.tell()

    def tell(self, **more: Any) -> None:
        """Say how Google answers: ``quota=False``, ``consent=2`` (so many tries), ``exec=1`` (its status)."""
        (self.folder / "google.json").write_text(json.dumps({"content": str(self.content), "asked": 0, **more}))

    @property
    def calls(self) -> list[list[str]]:
        """The command lines, in order."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def sessions(self) -> list[str]:
        """The sessions whose runtimes live."""
        return [one.stem for one in self.folder.glob("*.session")]

    def end(self) -> None:
        """End the runtimes that are left."""
        for session in self.folder.glob("*.session"):
            os.kill(json.loads(session.read_text())["pid"], signal.SIGKILL)


def _main(state: Path, words: list[str]) -> int:
    with (state / "calls").open("a") as stream:
        stream.write(json.dumps(words) + "\n")
    google = json.loads((state / "google.json").read_text())
    verb, options = words[0], _options(words[1:])
    session = state / f"{options['-s']}.session"
    if google.get("login") is False:
        print("To authorize colab-cli, visit this URL in any browser:\n\n  https://accounts.google.com/o/oauth2/auth?x")
        print("Aborted.", file=sys.stderr)
        return 1
    if verb == "new":
        if google.get("quota") is False:
            print("[colab] Backend rejected accelerator 'A100'. You may not have quota.", file=sys.stderr)
            return 1
        return _new(state, session, google)
    if not session.exists():
        print(f"[colab] Session '{options['-s']}' not found.")
        return 1
    if verb == "stop":
        if google.get("stop"):
            print("ConnectionError: nobody is there", file=sys.stderr)
            return 1
        os.kill(json.loads(session.read_text())["pid"], signal.SIGKILL)
        session.unlink()
        print("[colab] Session terminated.")
        return 0
    if verb == "upload":
        shutil.copy(options[""][0], "/" + options[""][1].strip("/"))
        return 0
    if verb == "download":
        shutil.copy("/" + options[""][0].strip("/"), options[""][1])
        return 0
    if verb == "drivemount":
        return _drive(state, google)
    if google.get("exec"):
        print("ConnectionError: the websocket is gone", file=sys.stderr)
        return int(google["exec"])
    return _exec(session, google, options)


def _options(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"": []}
    rest = iter(words)
    for word in rest:
        if word.startswith("-"):
            found[word] = next(rest)
        else:
            found[""].append(word)
    return found


def _new(state: Path, session: Path, google: dict[str, Any]) -> int:
    connection = session.with_suffix(".json")
    child = subprocess.Popen(
        [sys.executable, "-m", "ipykernel_launcher", "-f", str(connection)],
        cwd=google["content"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    session.write_text(json.dumps({"pid": child.pid, "connection": str(connection)}))
    print("[colab] Session READY.")
    return 0


def _drive(state: Path, google: dict[str, Any]) -> int:
    google["asked"] += 1
    (state / "google.json").write_text(json.dumps(google))
    if google["asked"] <= google.get("consent", 0):
        print(
            "\n[colab] REQUIRED: Google Drive Authorization needed.\nPlease visit:\n\nhttps://accounts.example/consent\n"
        )
        with open("/dev/tty") as tty:
            tty.readline()
    print("Mounted at /content/drive")
    return 0


def _exec(session: Path, google: dict[str, Any], options: dict[str, Any]) -> int:
    import nbformat
    from jupyter_client.blocking.client import BlockingKernelClient

    client = BlockingKernelClient(connection_file=json.loads(session.read_text())["connection"])
    while not Path(client.connection_file).exists():
        time.sleep(0.02)
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    client.execute_interactive(
        f"import os; os.makedirs({google['content']!r}, exist_ok=True); os.chdir({google['content']!r})"
    )
    timeout, file = float(options.get("--timeout", 30)), options.get("-f")
    if file is None:
        client.execute_interactive(sys.stdin.read(), timeout=timeout, output_hook=lambda message: _show(message, []))
        return 0
    notebook = nbformat.read(file, as_version=4)
    try:
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(cells, start=1):
            print(f"[colab] Executing cell {number}/{len(cells)} - {cell.get('id')}...", flush=True)
            cell.outputs = []
            outputs = cell.outputs
            client.execute_interactive(cell.source, timeout=timeout, output_hook=lambda m, o=outputs: _show(m, o))
    finally:
        output = os.path.splitext(file)[0] + "_output.ipynb"
        print(f"[colab] Saving notebook with outputs to '{output}'...")
        nbformat.write(notebook, output)
    return 0


def _show(message: dict[str, Any], outputs: list[Any]) -> None:
    import nbformat

    kind, content = message["msg_type"], message["content"]
    if kind not in ("stream", "display_data", "execute_result", "error"):
        return
    outputs.append(nbformat.v4.output_from_msg(message))
    if kind == "stream":
        stream = sys.stderr if content["name"] == "stderr" else sys.stdout
        stream.write(content["text"])
        stream.flush()
    elif kind == "error":
        sys.stderr.write("".join(content["traceback"]) + "\n")
    else:
        print(content["data"].get("text/plain", ""))


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2:]))
