"""Run the tests on the newest stack and on Google Colab's: ``run_tests.py [pytest arguments]``.

Exits with an error if either stack fails. Where there is no Python of Colab's version, only the newest is tested, and
that is said loudly. The last line is the pytest summary of a stack that failed, else of the last one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = Path(__file__).resolve().parent
SUMMARY = re.compile(r"(=+ )?(?P<counts>\d+ \w+.*|no tests ran.*) in [\d.]+s.*")
NEEDS_COLABS_PYTHON = "tests/test_wheel.py::test_installing_the_wheel_changes_no_pin_of_colab"
# They touch neither IPython nor kernels nor papermill, or others test these. `make test` runs each on one stack, and
# `make test-long` on both.
NEWEST_ALONE = (
    *("tests/archives", "tests/bundle", "tests/transport", "tests/queues", "tests/hostile/test_place.py"),
    *("tests/conformance/test_sqlite_queue.py", "tests/conformance/test_postgresql_queue.py"),
    *("tests/on_kubernetes", "tests/conformance/test_kubernetes_engine.py"),
    *("tests/conformance/test_kubernetes_results.py", "tests/conformance/test_slurm_engine.py"),
    *("tests/conformance/test_slurm_over_ssh.py", "tests/conformance/test_slurm_words.py"),
    *("tests/conformance/test_ssh_engine.py", "tests/runs/test_gpus.py", "tests/runs/test_submit_need.py"),
    *("tests/relay/test_environment.py", "tests/relay/test_install.py", "tests/relay/test_lab.py"),
    *("tests/relay/test_wheels.py", "tests/conformance/test_ray_engine.py", "tests/tunnels"),
    *("tests/relay/test_host_kernel.py", "tests/relay/test_faults.py", "tests/relay/test_full_disk.py"),
    *("tests/conformance/test_engine_elsewhere.py", "tests/conformance/test_engine_of_a_package.py"),
    *("tests/runs/test_queue.py", "tests/runs/test_queue_in_scripts.py", "tests/runs/test_feeding.py"),
    *("tests/runs/test_which_runs.py", "tests/runs/test_jobs_retry.py", "tests/runs/test_progress.py"),
    *("tests/runs/test_usage.py", "tests/runs/test_search.py", "tests/runs/test_pausing.py"),
    *("tests/runs/test_board.py", "tests/runs/test_sources.py", "tests/runs/test_submit.py"),
    *("tests/relay/test_cells.py", "tests/relay/test_stream.py", "tests/acceptance/test_remote_several.py"),
    *("tests/hostile/test_full_disk.py", "tests/checkout", "tests/test_pages.py"),
)
COLAB_ALONE = (
    *("tests/faults", "tests/mirror", "tests/hostile/test_crafted_files.py", "tests/hostile/test_host_of_runs.py"),
    *("tests/hostile/test_values.py", "tests/colab"),
)
VERSIONS = (
    "import platform, IPython, ipykernel; "
    "print(f'Python {platform.python_version()}, IPython {IPython.__version__}, ipykernel {ipykernel.__version__}')"
)


def run_stack(title: str, python: Path, arguments: list[str]) -> tuple[bool, str]:
    """Run pytest with an interpreter, showing what it prints; returns whether it passed, and its summary line."""
    versions = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout.strip()
    print(f"\n#### {title}: {versions} ####", flush=True)
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    summary = "pytest ended without a summary"
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as pytest:
        assert pytest.stdout is not None
        for line in pytest.stdout:
            print(line, end="", flush=True)
            if SUMMARY.fullmatch(line.strip()):
                summary = line.strip()
    passed = pytest.returncode == 0
    # On the machine of continuous integration everything that a test needs is there: a skip hides a defect.
    if passed and os.environ.get("CI") and "skipped" in summary:
        print("Tests were skipped, and under CI none may be (the reasons stand above).")
        passed = False
    return passed, summary


def colab_python() -> Path | None:
    """Return the interpreter of the environment with Colab's pins; None where no Python of its version is."""
    found = subprocess.run(["sh", SETUP / "python.sh", "colab"], capture_output=True, check=False)
    if found.returncode:
        return None
    environment = ROOT / ".venv-colab"
    subprocess.run(
        ["sh", SETUP / "venv.sh", environment.name, "colab", "test,s3,sql,sheets", "tests/colab-constraints.txt"],
        cwd=ROOT,
        check=True,
    )
    return environment / "bin" / "python"


def add_libraries(python: Path, *constraints: str) -> None:
    """Install what long tests try in forked kernels; those whose library is missing skip."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        wanted = tomllib.load(file)["project"]["optional-dependencies"]["libraries"]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints, *wanted]
    subprocess.run(pip, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)


def main(arguments: list[str]) -> int:
    """Run the stacks one after the other and sum up."""
    colab = colab_python()
    if "not long" not in arguments:
        add_libraries(Path(sys.executable))
        if colab:
            add_libraries(colab, "--constraint", "tests/colab-constraints.txt")
    newest_only = [] if colab else [f"--deselect={NEEDS_COLABS_PYTHON}"]
    # Browser tests need JupyterLab 4, which does not go with Colab's pins.
    left_out = ["--ignore=tests/browser"]
    if colab and "not long" in arguments:
        newest_only = [f"--ignore={folder}" for folder in COLAB_ALONE]
        left_out += [f"--ignore={folder}" for folder in NEWEST_ALONE]
    results = {"newest stack": run_stack("newest stack", Path(sys.executable), [*arguments, *newest_only])}
    if colab:
        results["Colab's stack"] = run_stack("Colab's stack", colab, [*arguments, *left_out])
    print("\nTested:")
    for title, (passed, summary) in results.items():
        print(f"  {title}: {'passed' if passed else 'FAILED'} ({summary.strip('= ')})")
    if not colab:
        print("  Colab's stack: NOT TESTED. No Python 3.13 or 3.12 was found (with venv and ensurepip).")
        print("  → Install one, for example: apt-get install python3.13-venv, or pyenv install 3.13")
    print(next((summary for passed, summary in results.values() if not passed), list(results.values())[-1][1]))
    return 0 if all(passed for passed, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
