"""Do the main job for real: ``make demo``, or ``python demo_notebooks/run_demo.py [FOLDER]``.

Below FOLDER (``.demo`` by default) it makes a small git project, serves it by a ``file://`` URL, makes a folder that
stands for Google Drive, and runs 01_job_queue.ipynb in a real kernel, as Run All would. Then it shows the tree that is
left and compares it with what has to be there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().with_name("01_job_queue.ipynb")
PROJECT, JOB, RUNS = "colab_demo", "baseline", 5


@dataclass(frozen=True)
class Demo:
    """The folders of one demo."""

    top: Path

    @property
    def repository(self) -> Path:
        """The bare repository that stands for GitHub."""
        return self.top / "repositories" / f"{PROJECT}.git"

    @property
    def drive(self) -> Path:
        """The folder that stands for ``MyDrive/colab_data/colab_demo``."""
        return self.top / "drive"

    @property
    def notebook(self) -> Path:
        """The main notebook."""
        return self.top / NOTEBOOK.name

    @property
    def checkout(self) -> Path:
        """Where ``%project`` clones to."""
        return self.top / PROJECT


def make(top: Path) -> Demo:
    """Make a git project with the notebook, a Drive with an input file, and the notebook to run."""
    demo = Demo(top)
    (demo.drive / "data_project").mkdir(parents=True)
    (demo.drive / "data_project" / "test_input_file.txt").write_text("test input\n")
    text = filled_in(NOTEBOOK.read_text(encoding="utf-8"), demo)
    demo.notebook.write_text(text, encoding="utf-8")

    source = top / "repositories" / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "notebooks" / NOTEBOOK.name).write_text(text, encoding="utf-8")
    (source / "README.md").write_text("A project for the demo of colab_magics.\n")
    git("init", "--quiet", source)
    git("-C", source, "add", ".")
    git("-C", source, "-c", "user.name=Demo", "-c", "user.email=demo@localhost", "commit", "--quiet", "-m", "A demo")
    git("clone", "--quiet", "--bare", source, demo.repository)
    shutil.rmtree(source)
    return demo


def filled_in(text: str, demo: Demo) -> str:
    """Change the two strings that a user changes: the repository and the Place."""
    notebook = json.loads(text)
    (cell,) = (cell for cell in notebook["cells"] if cell["source"][0].startswith("%project "))
    line = cell["source"][0]
    for option, value in (("git", demo.repository.as_uri()), ("to", str(demo.drive))):
        quote = "" if re.fullmatch(r"[\w./:%+-]+", value) else '"' if "'" in value else "'"
        before, after = re.split(rf" {option}=\S+", line)
        line = f"{before} {option}={quote}{value}{quote}{after}"
    cell["source"] = [line]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def git(*arguments: str | Path) -> None:
    """Run git."""
    subprocess.run(["git", *arguments], check=True)


def run_main_notebook(demo: Demo) -> None:
    """Execute the main notebook in a kernel of its own, as Run All would; say what the runs write meanwhile."""
    executed, log = demo.top / "main_executed.ipynb", demo.top / "main_log.txt"
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", demo.top, demo.notebook, executed]
    environment = {**os.environ, "COLAB_MAGICS_NOTEBOOK": str(demo.notebook)}
    seen: set[Path] = set()
    with (
        open(log, "wb") as stream,
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream) as papermill,
    ):
        while papermill.poll() is None:
            for file in sorted(set(demo.checkout.glob(f"data_job/{JOB}/*/test.txt")) - seen):
                seen.add(file)
                print(f"  {file.relative_to(demo.top)} is there", flush=True)
            time.sleep(0.2)
    if executed.is_file():
        show_notebook(executed)
    if papermill.returncode:
        print(log.read_text(errors="replace"), file=sys.stderr)
        raise subprocess.CalledProcessError(papermill.returncode, list(map(str, command)))


def show_notebook(file: Path) -> None:
    """Print the cells that ran, and what they said."""
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or not cell.get("outputs"):
            continue
        print(f"\n[{cell['execution_count']}] {''.join(cell['source'])}")
        for output in cell["outputs"]:
            text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("traceback") or ""
            lines = (text if isinstance(text, str) else "\n".join(line.rstrip("\n") for line in text)).splitlines()
            print(*(f"    {line}" for line in lines), sep="\n", flush=True)


def shell(demo: Demo, *words: str) -> None:
    """Run ``colab-magics WORDS`` in the project's folder, as a user in a fresh shell."""
    print(f"\n$ colab-magics {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "colab_magics", *words], cwd=demo.checkout, check=True)


def differences(demo: Demo) -> list[str]:
    """Compare what is there with what the main example has to leave."""
    found = []
    for kept in (demo.checkout, demo.drive):
        job = kept / "data_job" / JOB
        for i in range(RUNS):
            file, wanted = job / f"sub_job_{i:03d}" / "test.txt", f"test input : Running sub-job {i}"
            text = file.read_text() if file.is_file() else None
            if text != wanted:
                found.append(
                    f"{file} should hold {wanted!r}; " + ("it is missing" if text is None else f"not {text!r}")
                )
        others = sorted(
            {file.parent for file in job.rglob("test.txt")} - {job / f"sub_job_{i:03d}" for i in range(RUNS)}
        )
        found += [f"{folder / 'test.txt'} should not be there" for folder in others]
    found += [f"{file}: a line after %stop ran" for file in demo.top.rglob("test_after_exit.txt")]
    return found


def show_tree(folder: Path, indent: str = "") -> None:
    """Print a folder's files, without what git keeps."""
    for entry in sorted(folder.iterdir()):
        if entry.name in (".git", ".ipynb_checkpoints", "__pycache__") or entry.suffix == ".git":
            continue
        print(f"{indent}{entry.name}{'/' if entry.is_dir() else ''}")
        if entry.is_dir():
            show_tree(entry, indent + "    ")


def start_afresh(top: Path) -> None:
    """Remove what an earlier demo left, after ending its sync."""
    before = Demo(top)
    if before.checkout.is_dir():
        subprocess.run(
            [sys.executable, "-m", "colab_magics", "sync", "stop"],
            cwd=before.checkout,
            check=False,
            capture_output=True,
        )
    if top.exists():
        shutil.rmtree(top)
    top.mkdir(parents=True)


def main() -> int:
    """Run the demo; returns the exit status."""
    top = Path(sys.argv[1] if len(sys.argv) > 1 else NOTEBOOK.parents[1] / ".demo").absolute()
    start_afresh(top)
    demo = make(top)
    print(f"Running {demo.notebook} in a kernel: {RUNS} runs of project {PROJECT}, job {JOB} …", flush=True)
    try:
        run_main_notebook(demo)
        shell(demo, "jobs")
        # The last flush: everything is at the Place when this returns.
        shell(demo, "sync", "stop")
    except subprocess.CalledProcessError as error:
        print(f"\nThe demo failed: {' '.join(map(str, error.cmd))} ended with {error.returncode}.", file=sys.stderr)
        return 1
    print(f"\nWhat it left in {top}:")
    show_tree(top, "    ")
    problems = differences(demo)
    if problems:
        print("\nThe demo failed:", *problems, sep="\n  ", file=sys.stderr)
        return 1
    print(f"\nAll {RUNS} runs wrote their file here and on the “Drive”, and nothing after %stop ran.")
    print(f"Open the notebook yourself:  {Path(sys.prefix) / 'bin' / 'jupyter'} lab {demo.notebook}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
