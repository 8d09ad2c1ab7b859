"""Runs on a real Ray of two nodes keep to what engines keep to, and to what Ray's users expect."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from buckets_server import free_port
from conftest import poll, set_up
from ray_server import RayServer
from runs.notebooks import write_notebook

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.engines.ray import options
from colab_magics.engines.ray.options import Options
from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import Run, runs_of

from .engine_suite import EngineSuite
from .waiting import begun, over, phases, waiting


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return set_up(tmp_path / "project")


@pytest.fixture
def waits(ray: RayServer, project: Project, tmp_path: Path) -> str:
    """A notebook whose run tells that it was begun, by an x in the file ``count``, and waits for the file ``go``."""
    return waiting(project, tmp_path)


@pytest.mark.long
class TestRay(EngineSuite):
    """``on=ray``."""

    @pytest.fixture
    def on(self, ray: RayServer) -> str:
        return "ray"


def test_runs_are_processes_of_the_nodes_with_the_cores_gpus_and_code_of_the_line(
    ray: RayServer, project: Project
) -> None:
    (project.root / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    cell = (
        "import os, json, helper\nenv = os.environ\n"
        "found = [env['CUDA_VISIBLE_DEVICES'], env['OMP_NUM_THREADS'], env['MINE'], 'RAY_JOB_ID' in env]\n"
        "json.dump([*found, helper.double(i_sub_job), os.getcwd()], open(data_job + '/found', 'w'))"
    )
    notebook = str(write_notebook(project.root / "a.ipynb", cell))
    board = fork(n=2, on="ray", gpus=1, num_cpus=0.5, notebook=notebook, env={"MINE": "yes"})
    found = [json.loads((run.folder / "found").read_text()) for run in board.runs]  # type: ignore[union-attr]
    assert sorted(one[0] for one in found) == ["0", "1"], "each has a GPU of its own"
    assert [one[1:5] for one in found] == [["1", "yes", False, 0], ["1", "yes", False, 2]]
    assert all(one[5].startswith(str(ray.folder)) for one in found)


def test_what_ray_answers_is_heard_while_a_place_is_asked_for(ray: RayServer, tmp_path: Path) -> None:
    """Ray calls back in the thread that whoever asks for a place waits for: one that waits too stops both for ever."""
    script = (
        "import json, os, queue, sys\n"
        "from colab_magics.engines.ray.bridge import Bridge\n"
        "news = queue.SimpleQueue()\n"
        "bridge = Bridge(json.loads(sys.argv[1]), news.put)\n"
        "ask = bridge._have\n"
        "def asks_and_waits(wanted):\n"
        "    ask(wanted)\n"
        "    bool(bridge._granted) or news.get(timeout=40)\n"
        "bridge._have = asks_and_waits\n"
        "bridge.look(1)\n"
        "print(len(bridge.look(1)['granted']))\n"
        "bridge.close()\n"
        "os._exit(0)\n"
    )
    order = {"address": ray.address, "scratch": str(tmp_path), "inputs": None, "runtime_env": {}}
    words = json.dumps({**order, "shape": {"num_cpus": 0.1}})
    found = subprocess.run([sys.executable, "-c", script, words], capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["1"], found.stderr


@pytest.mark.long
def test_a_large_result_comes_home_whole(ray: RayServer, project: Project) -> None:
    cell = (
        "import os\nos.makedirs(data_job + '/deep')\n"
        "open(data_job + '/deep/big.bin', 'wb').write(b'0123456789' * 3_000_000)"
    )
    fork(n=1, on="ray", notebook=str(write_notebook(project.root / "a.ipynb", cell)))
    assert (project.data_job / "sub_job_000" / "deep" / "big.bin").read_bytes() == b"0123456789" * 3_000_000


@pytest.mark.long
def test_a_run_whose_place_dies_ends_and_is_lost(ray: RayServer, waits: str, project: Project, tmp_path: Path) -> None:
    fork(n=1, on="ray", notebook=waits, detach=True)
    begun(tmp_path, 1)
    (place,) = poll(lambda: [one for one in ray.workers("Place") if one.is_running()])
    os.kill(place.pid, signal.SIGKILL)
    over(project)
    (run,) = runs_of(project.data_job)
    assert run.status().phase in ("lost", "interrupted")
    assert "Ray took its place away" in run.status().text


@pytest.mark.long
def test_runs_of_a_node_that_dies_are_lost_and_tried_again_elsewhere(
    ray: RayServer, waits: str, project: Project, tmp_path: Path
) -> None:
    fork(n=1, on="ray", num_cpus=0.1, resources={"second": "0.5"}, retries=1, notebook=waits, detach=True)
    begun(tmp_path, 1)
    ray.order("remove")
    try:
        poll(lambda: [one.get("phase") for one in Run.load(project.data_job / "sub_job_000").earlier], timeout=90)
    finally:
        ray.order("add")
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=90)
    assert (tmp_path / "count").read_text() == "xx"


@pytest.mark.long
def test_what_waits_for_a_place_says_for_what(ray: RayServer, waits: str, project: Project, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    fork(n=1, on="ray", resources={"third": "1"}, notebook=waits, detach=True)
    state = project.data_job / SCHEDULER / "state.json"
    poll(lambda: "third=1" in (process.read_json(state) or {}).get("problem", ""), timeout=60)
    jobs.kill("baseline")
    over(project)
    assert phases(project) == ["killed"]


@pytest.mark.long
def test_why_no_place_can_be_had_is_said(ray: RayServer, waits: str, project: Project, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")  # as somebody else may put there
    fork(n=1, on="ray", scratch=str(tmp_path / "link"), notebook=waits, detach=True)
    state = project.data_job / SCHEDULER / "state.json"
    poll(lambda: "scratch=FOLDER" in (process.read_json(state) or {}).get("problem", ""), timeout=60)
    jobs.kill("baseline")
    over(project)


@pytest.mark.long
def test_a_run_that_lives_is_killed_though_its_scheduler_is_dead(
    ray: RayServer, waits: str, project: Project, tmp_path: Path
) -> None:
    fork(n=1, on="ray", notebook=waits, detach=True)
    begun(tmp_path, 1)
    state = process.read_json(project.data_job / SCHEDULER / "state.json") or {}
    os.kill(state["process"]["pid"], signal.SIGKILL)
    over(project)
    jobs.kill("baseline")
    assert phases(project) == ["killed"]
    poll(lambda: not ray.workers("Place"), timeout=90)


class TestWords:
    """What a line says to Ray; no cluster is asked."""

    def test_what_ray_keeps_for_a_run(self) -> None:
        found = options.shape(Options(num_cpus=2, memory="2GB", resources={"tpu": "0.5"}), 0.5)
        assert found == {"num_cpus": 2, "num_gpus": 0.5, "memory": 2_000_000_000, "resources": {"tpu": 0.5}}
        assert options.shape(Options(), None) == {"num_cpus": 1.0, "num_gpus": 0.0}

    @pytest.mark.parametrize(
        "said",
        [
            Options(resources={"tpu": "many"}),
            Options(resources={"GPU": "1"}),
            Options(num_cpus=-1),
            Options(memory="much"),
        ],
        ids=str,
    )
    def test_what_is_no_amount_is_refused(self, said: Options) -> None:
        with pytest.raises(InvalidInput):
            options.shape(said, None)

    @pytest.mark.parametrize(
        ("shape", "has", "rooms"),
        [
            (Options(), {"CPU": 4.0}, 4),
            (Options(num_cpus=3), {"CPU": 4.0}, 1),
            (Options(memory="3GB"), {"CPU": 4.0, "memory": 7e9}, 2),
            (Options(resources={"tpu": "1"}), {"CPU": 4.0}, 0),
            (Options(num_cpus=0.1), {"CPU": 1.0}, 10),
        ],
    )
    def test_how_many_have_room(self, shape: Options, has: dict[str, float], rooms: int) -> None:
        assert options.fits(options.shape(shape, None), has) == rooms

    def test_packages_of_runs_are_a_file_of_ray_s(self, tmp_path: Path) -> None:
        (tmp_path / "env.yaml").write_text("pip: [torch]\n")
        assert options.runtime_env(Options(runtime_env=str(tmp_path / "env.yaml"))) == {"pip": ["torch"]}
        (tmp_path / "env.yaml").write_text("[torch]\n")
        with pytest.raises(InvalidInput, match="pip: "):
            options.runtime_env(Options(runtime_env=str(tmp_path / "env.yaml")))
        with pytest.raises(InvalidInput, match="cannot be read"):
            options.runtime_env(Options(runtime_env=str(tmp_path / "none.yaml")))

    def test_without_a_cluster_the_error_says_how_to_start_one(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        notebook = str(write_notebook(project.root / "a.ipynb", "1"))
        with pytest.raises(Unavailable, match="There is no Ray cluster at") as told:
            fork(n=1, on="ray", address=f"127.0.0.1:{free_port()}", notebook=notebook)
        assert "ray start --head" in told.value.mend
