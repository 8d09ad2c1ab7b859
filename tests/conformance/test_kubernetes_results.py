"""Results of pods come home by a volume or a bucket, whatever their size and their names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from buckets_server import Server
from conftest import HOSTILE_NAMES, poll, set_up
from kubernetes_server import KubernetesServer

from colab_magics import process, submit
from colab_magics.checkout.project import Project
from colab_magics.engines.kubernetes import home, results
from colab_magics.errors import InvalidInput, RunsFailed
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import runs_of
from colab_magics.runs import scheduler

pytest_plugins = ("bucket_fixtures",)

BIG = 'head -c 5000000 /dev/urandom > "$data_job/big"; mkdir "$data_job/a"; ln -s ../big "$data_job/a/link"; echo said'
SIZE = 5_000_000


@pytest.fixture
def project(tmp_path: Path, kubernetes: KubernetesServer) -> Project:
    made = set_up(tmp_path / "net")
    os.chdir(made.root)
    (made.root / "config").mkdir()
    (made.root / "config/kube.yaml").write_text("image: python:3.12\n")
    return made


@pytest.fixture
def volume(tmp_path: Path, kubernetes: KubernetesServer) -> dict[str, str]:
    """What a line says of a volume that pods have elsewhere than this machine."""
    here = kubernetes.claim("lab") / "out"
    here.mkdir()
    at = str(tmp_path / "in-pods")
    return {"volumes.lab": at, "results": f"{at}/out", "results_here": str(here)}


@pytest.fixture
def bucket(rclone: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = f"results-{abs(hash(request.node.nodeid)) % 10**9}"
    rclone.make_bucket(name)
    rclone.set(monkeypatch)
    return f"s3://{name}/lab"


def folder(project: Project) -> Path:
    return project.data_job / "sub_job_000"


def left(rclone: Server, bucket: str) -> list[Path]:
    return [path for path in (rclone.folder / bucket.split("/")[2]).rglob("*") if path.is_file()]


@pytest.mark.long
def test_large_results_come_home_by_a_volume_and_nothing_stays_there(
    project: Project, kubernetes: KubernetesServer, volume: dict[str, str]
) -> None:
    submit("sh", "-c", BIG, on="kubernetes", wait=True, **volume)
    assert (folder(project) / "big").stat().st_size == SIZE
    assert os.readlink(folder(project) / "a/link") == "../big"
    assert "said\n" in (folder(project) / "log.txt").read_text()
    (job,) = kubernetes.of("jobs")
    assert job["metadata"]["annotations"]["colab-magics/results"].startswith(volume["results_here"])
    poll(lambda: not scheduler.is_running(project.data_job))
    assert list(Path(volume["results_here"]).iterdir()) == []


@pytest.mark.long
def test_what_a_pod_has_written_on_a_volume_outlives_its_kill(
    project: Project, kubernetes: KubernetesServer, volume: dict[str, str]
) -> None:
    submit("sh", "-c", f'{BIG}; echo x > "$data_job/there"; exec sleep 100', on="kubernetes", **volume)
    (run,) = runs_of(project.data_job)
    poll(lambda: list(Path(volume["results_here"]).rglob("there")), timeout=60)
    (pod,) = kubernetes.of("pods")
    kubernetes.running[pod["metadata"]["uid"]].process.kill()
    poll(lambda: run.status().phase == "interrupted" and not run.is_out(), timeout=60)
    assert (run.folder / "big").stat().st_size == SIZE


@pytest.mark.long
def test_a_folder_of_pods_that_is_another_one_than_here_is_told_before_the_run_begins(
    project: Project, kubernetes: KubernetesServer, volume: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(RunsFailed, match="another folder than the one that was named by results_here="):
        submit(
            "touch",
            str(tmp_path / "begun"),
            on="kubernetes",
            wait=True,
            **{**volume, "results_here": str(tmp_path / "other")},
        )
    assert not (tmp_path / "begun").exists()


@pytest.mark.long
def test_large_results_come_home_by_a_bucket_and_no_key_stands_in_a_job(
    project: Project, kubernetes: KubernetesServer, rclone: Server, bucket: str
) -> None:
    names = [name for name in HOSTILE_NAMES if "/" not in name]
    code = "import os, sys; [open(os.path.join(os.environ['data_job'], n), 'w').write('x') for n in sys.argv[1:]]"
    show = "import os; print('variables:', *(n for n in os.environ if n.startswith(('AWS_', 'COLAB_MAGICS_B'))), '.')"
    line = f'{BIG}; python -c "{code}" "$@"; python -c "{show}"'
    submit("sh", "-c", line, "sh", *names, on="kubernetes", wait=True, results=bucket)
    assert (folder(project) / "big").stat().st_size == SIZE
    assert {name: (folder(project) / name).read_text() for name in names} == dict.fromkeys(names, "x")
    assert os.readlink(folder(project) / "a/link") == "../big"
    assert "variables: .\n" in (folder(project) / "log.txt").read_text(), "the bucket's keys are not the program's"
    assert left(rclone, bucket) == []
    shown = json.dumps([kubernetes.of("jobs"), kubernetes.of("configmaps"), kubernetes.of("pods")])
    assert rclone.secret not in shown
    assert rclone.key not in shown


@pytest.mark.long
def test_the_projects_place_is_where_results_go_and_keys_may_be_the_clusters(
    project: Project, kubernetes: KubernetesServer, rclone: Server, bucket: str
) -> None:
    project.place = bucket
    project.save()
    about = {"name": "lab", "namespace": "lab", "labels": {}}
    keys = {"key": rclone.key, "secret": rclone.secret}
    with kubernetes.lock:
        kubernetes.create(
            "secrets", "lab", {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": keys}
        )
    of_cluster = {"secrets.AWS_ACCESS_KEY_ID": "lab/key", "secrets.AWS_SECRET_ACCESS_KEY": "lab/secret"}
    submit("sh", "-c", BIG, on="kubernetes", wait=True, **of_cluster)
    assert (folder(project) / "big").stat().st_size == SIZE
    (sent,) = [one["stringData"] for one in kubernetes.of("secrets") if one["metadata"]["name"] != "lab"]
    assert rclone.secret not in json.dumps(sent)


@pytest.mark.long
def test_who_comes_after_a_lost_scheduler_brings_home_what_waits_in_the_bucket(
    project: Project, kubernetes: KubernetesServer, rclone: Server, bucket: str, tmp_path: Path
) -> None:
    line = f'{BIG}; touch "{tmp_path}/begun"; while ! test -e "{tmp_path}/go"; do sleep 0.1; done'
    submit("sh", "-c", line, on="kubernetes", results=bucket)
    poll((tmp_path / "begun").exists, timeout=60)
    state = poll(lambda: process.read_json(project.data_job / SCHEDULER / "state.json"))
    os.kill(state["process"]["pid"], 9)
    poll(lambda: not scheduler.is_running(project.data_job))
    (tmp_path / "go").touch()
    poll(lambda: left(rclone, bucket), timeout=60)
    submit("sh", "-c", line, on="kubernetes", results=bucket, wait=True)
    assert (folder(project) / "big").stat().st_size == SIZE
    assert [run.attempt for run in runs_of(project.data_job)] == [1]
    assert left(rclone, bucket) == []


def test_what_would_not_come_home_is_told_before_anything_starts(
    project: Project, kubernetes: KubernetesServer, rclone: Server, bucket: str
) -> None:
    for said, problem in [
        ({"results": "/data/out"}, "no folder on a volume of the pods"),
        ({"results": "/data/out", "volumes.lab": "/data", "results_here": "/nowhere"}, "/nowhere is no folder on this"),
        ({"results": "s3://no-such-bucket/a"}, "there is no such bucket"),
        ({"results": "s3://A"}, "no name of a bucket"),
    ]:
        with pytest.raises(Exception, match=problem) as raised:
            submit("true", on="kubernetes", **said)
        assert isinstance(raised.value, InvalidInput | LookupError), raised.value
    assert kubernetes.asked == []
    assert runs_of(project.data_job) == []


def test_results_in_a_bucket_are_whole_or_lost_and_outlive_the_job(
    tmp_path: Path, rclone: Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "net/data_job/baseline/sub_job_000"
    (there / "a").mkdir(parents=True)
    here.mkdir(parents=True)
    (there / "a/b").write_bytes(b"x" * 100)
    home.bring(bucket, "k1", here, None)
    with pytest.raises(home.Lost, match="its results are not in s3:"):
        home.bring(bucket, "k1", here, 10)
    monkeypatch.setenv(results.BUCKET_VARIABLE, json.dumps(rclone.environment()))
    size, _ = results.way({results.BUCKET: bucket}, "k1").bring(there)
    assert results.BUCKET_VARIABLE not in os.environ
    with pytest.raises(home.Lost, match="which are"):
        home.bring(bucket, "k1", here, size + 1)
    assert list(here.iterdir()) == []
    home.bring(bucket, "k1", here, None)
    assert (here / "a/b").read_bytes() == b"x" * 100
    home.let_go(bucket, "k1", tmp_path / "net")
    assert left(rclone, bucket) == []


def test_half_an_archive_never_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")

    def fill(*_: object) -> None:
        raise OSError(5, "no good")

    monkeypatch.setattr(results, "_fill", fill)
    with pytest.raises(OSError, match="no good"):
        list(results.archive(tmp_path))
