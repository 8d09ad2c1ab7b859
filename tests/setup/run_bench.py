"""Measure and write a page: ``python tests/setup/run_bench.py [BENCHMARK …]``, or ``make bench``.

Each file of ``tests/bench`` is executed by itself; what it prints becomes its section of ``docs/benchmarks.md``, and
stays there until it is measured again. One that fails is shown with what it said, and the others go on.
"""

from __future__ import annotations

import ast
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "tests" / "bench"
LONGEST = 3600.0
"""Seconds after which one that hangs is ended."""
GRACE = 60.0
"""Seconds that it has, once it was interrupted."""
PACKAGES = ("ipython", "ipykernel", "papermill", "jupyter_client", "optuna", "submitit", "ray", "obstore")
PROGRAMS = {
    "rsync": "-V",
    "git": "--version",
    "lsyncd": "--version",
    "slurmctld": "-V",
    "postgres": "-V",
    "rclone": "version",
}


def measure(file: Path) -> tuple[bool, str]:
    """Execute a benchmark and show what it prints; returns whether it ended well, and its section."""
    summary, _, more = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or file.stem).partition("\n")
    began, lines = time.monotonic(), []
    # A session of its own: Ctrl-C reaches it through us, who wait for it then.
    with subprocess.Popen(
        [sys.executable, file],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        try:
            for line in within(program):
                print(f"  {line}", end="", flush=True)
                lines.append(line)
            status = program.wait()
        except BaseException:
            end(program)
            raise
    took = time.monotonic() - began
    ended = "" if status == 0 else f", and it **failed** (exit status {status})"
    said = "".join(lines).rstrip().replace("```", "` ` `") or "It said nothing."
    when = f"{time.strftime('%Y-%m-%d %H:%M')}, commit {commit()}, in {took:.0f} s{ended}."
    parts = [f"## {file.stem.replace('_', ' ').capitalize()}", summary, more.strip("\n"), f"```text\n{said}\n```"]
    parts.append(f"`{file.relative_to(ROOT)}`, measured {when}")
    # A docstring's marks and blocks are not Markdown's.
    return status == 0, "\n\n".join(part.replace("``", "`") if n in (1, 2) else part for n, part in enumerate(parts))


def within(program: subprocess.Popen[str]) -> Iterator[str]:
    """Yield what a program prints; one that takes too long is ended."""
    assert program.stdout is not None
    signal.signal(signal.SIGALRM, lambda *_: end(program))
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield from program.stdout
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def end(program: subprocess.Popen[str]) -> None:
    """End a benchmark; it has a while to end the servers that it has started, which are sessions of their own."""
    program.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        program.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)  # and whatever it has left in its own session


def commit() -> str:
    """Name the state of the code."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Return what the figures depend on, as a table."""
    cpuinfo = Path("/proc/cpuinfo")
    models = cpuinfo.read_text().split("model name\t: ")[1:2] if cpuinfo.is_file() else []
    model = models[0].partition("\n")[0] if models else platform.machine()
    memory = psutil.virtual_memory().total / 2**30
    rows = [("processors", f"{os.cpu_count()} × {model}"), ("memory", f"{memory:.0f} GiB")]
    rows += [("system", platform.platform()), ("Python", platform.python_version())]
    rows += [("load at the end", " ".join(f"{one:.1f}" for one in os.getloadavg()))]
    for name in PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            continue
    for name, flag in PROGRAMS.items():
        try:
            done = subprocess.run([name, flag], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        except OSError:
            continue
        rows.append((name, ((done.stdout or done.stderr).strip().splitlines() or ["there"])[0]))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def write(page: Path, sections: Path) -> None:
    """Put all sections together."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(sections.glob("*.md"))]
    about = (
        "Peers are measured beside us, on the same machine in the same minutes. Smaller machines give other figures."
    )
    page.write_text("\n\n".join(["# Benchmarks", about, machine(), *texts]) + "\n", encoding="utf-8")


def main(names: list[str], docs: Path = ROOT / "docs") -> int:
    """Measure all benchmarks, or those that are named; returns how many failed."""
    files = [BENCHMARKS / f"{Path(name).stem}.py" for name in names] or sorted(BENCHMARKS.glob("*.py"))
    if unknown := [file.stem for file in files if not file.is_file()]:
        known = ", ".join(sorted(file.stem for file in BENCHMARKS.glob("*.py")))
        print(f"There is no benchmark {unknown[0]!r}.\n→ There are: {known}", file=sys.stderr)
        return 2
    sections, failed = docs / "bench", []
    sections.mkdir(parents=True, exist_ok=True)
    for file in files:
        print(f"{file.stem}:", flush=True)
        well, text = measure(file)
        failed += [] if well else [file.stem]
        (sections / f"{file.stem}.md").write_text(text, encoding="utf-8")
        write(docs / "benchmarks.md", sections)
    print(f"The page: {docs / 'benchmarks.md'}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
