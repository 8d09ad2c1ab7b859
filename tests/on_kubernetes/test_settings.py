"""What a line says of pods, and ``config/kube.yaml`` of the project, read as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import git

from colab_magics.engines import options as reading
from colab_magics.engines.kubernetes import quantities, settings
from colab_magics.engines.kubernetes.options import Options
from colab_magics.engines.kubernetes.settings import Settings
from colab_magics.errors import InvalidInput

FILE = """
project_name: base
namespace: my-lab
user: Jo.Doe
registry_host: registry.example
registry_port: 5005
ssh_host: ssh.example
ssh_port: 30622
conda_home: /opt/conda
startup_script: >-
  pip install boto3;
  cd example
gpu_count: 1
cpu_count: 2
memory: 8
volumes:
  datasets: /data
tolerations:
  - nvidia.com/gpu
gpu_whitelist:
  - NVIDIA-A10
  - NVIDIA-A40
hostname_blacklist:
  - node7.example
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path


def read(root: Path, said: dict[str, Any] | None = None, **words: Any) -> Settings:
    options = reading.read(Options, said or {}, on="kubernetes")
    words.setdefault("warn", pytest.fail)
    return settings.read(root, options, project="net", **words)


def test_the_file_of_a_project_is_read_as_it_is(root: Path) -> None:  # U9
    (root / "config/kube.yaml").write_text(FILE)
    found = read(root)
    assert (found.project, found.namespace, found.user) == ("base", "my-lab", "Jo.Doe")
    assert (found.image, found.image_pull_secrets) == (
        "registry.example:5005/jo.doe/base:latest",
        ["base-read-registry"],
    )
    assert (found.gpus, found.cpus, found.memory, found.volumes) == (1, "2", "8Gi", {"datasets": "/data"})
    assert (found.environment, found.conda, found.conda_home) == ("conda", "base", "/opt/conda")
    assert found.setup == "pip install boto3; cd example"
    assert found.tolerations == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (found.gpu_whitelist, found.hostname_blacklist) == (["NVIDIA-A10", "NVIDIA-A40"], ["node7.example"])


def test_the_line_wins_over_the_file(root: Path) -> None:
    (root / "config/kube.yaml").write_text(FILE)
    said = {"image": "python:3.12", "memory": "512MB", "volumes.more": "/more", "gpu_blacklist": "Tesla-K80"}
    found = read(root, {**said, "tolerations": "gpu=yes:NoExecute,spot="}, gpus="2")
    assert (found.image, found.image_pull_secrets) == ("python:3.12", ())
    assert (found.gpus, found.cpus, found.memory) == (2, "2", "512M")
    assert found.volumes == {"datasets": "/data", "more": "/more"}
    assert (found.gpu_whitelist, found.gpu_blacklist) == (None, ["Tesla-K80"])
    assert [one.get("value") for one in found.tolerations] == ["yes", ""]
    assert [one["effect"] for one in found.tolerations] == ["NoExecute", "NoSchedule"]


def test_a_model_stands_between_the_line_and_the_file(root: Path) -> None:
    (root / "config/kube.yaml").write_text(FILE)
    found = read(
        root, {"cpus": "8"}, over=[{"cpu_count": 3}, {"gpu_count": 0, "cpu_count": 4, "hostname_whitelist": ["n"]}]
    )
    assert (found.gpus, found.cpus) == (0, "8")
    assert (found.hostname_whitelist, found.hostname_blacklist) == (["n"], None)


@pytest.mark.parametrize("both", [("gpu_whitelist", "gpu_blacklist"), ("hostname_whitelist", "hostname_blacklist")])
def test_a_white_and_a_black_list_contradict_each_other(root: Path, both: tuple[str, str]) -> None:  # U10
    with pytest.raises(InvalidInput, match=f"{both[0]} and {both[1]} contradict each other"):
        read(root, {"image": "a", both[0]: "x", both[1]: "y"})
    (root / "config/kube.yaml").write_text(f"image: a\n{both[0]}: [x]\n{both[1]}: []\n")
    with pytest.raises(InvalidInput, match="contradict"):
        read(root)


@pytest.mark.parametrize("white", ["gpu_whitelist", "hostname_whitelist"])
def test_an_empty_white_list_allows_nothing_and_an_empty_black_list_forbids_nothing(root: Path, white: str) -> None:
    (root / "config/kube.yaml").write_text(f"image: a\n{white}: []\n")
    with pytest.raises(InvalidInput, match=f"{white} is empty"):
        read(root)
    black = white.replace("white", "black")
    (root / "config/kube.yaml").write_text(f"image: a\n{black}: []\n{white}:\n")
    assert getattr(read(root), black) == []
    assert getattr(read(root, {white: "n1"}), white) == ["n1"], "the line's counts alone"


@pytest.mark.parametrize("said", ["{0}_whitelist:\n{0}_blacklist:\n", "{0}_blacklist:\n"])
@pytest.mark.parametrize("of", ["gpu", "hostname"])
def test_of_a_pair_that_the_file_has_exactly_one_is_said(root: Path, of: str, said: str) -> None:  # U10
    (root / "config/kube.yaml").write_text("image: a\n" + said.format(of))
    with pytest.raises(InvalidInput, match=f"{of}_whitelist and {of}_blacklist are both empty: exactly one of them"):
        read(root)


def test_without_lists_any_node_is_right(root: Path) -> None:
    found = read(root, {"image": "a"})
    assert [found.gpu_whitelist, found.gpu_blacklist, found.hostname_whitelist, found.hostname_blacklist] == [None] * 4


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({}, "which image"),
        ({"image": "a b"}, "is no image"),
        ({"image": "a", "cpus": "many"}, "cpus=many"),
        ({"image": "a", "cpus": "0"}, "cpus=0"),
        ({"image": "a", "memory": "lots"}, "memory=lots"),
        ({"image": "a", "shm": "-1"}, "shm=-1"),
        ({"image": "a", "namespace": "My_Lab"}, "namespace=My_Lab is no name"),
        ({"image": "a", "queue": "A queue"}, "queue=A queue is no name"),
        ({"image": "a", "volumes.data": "relative"}, "volumes.data=relative"),
        ({"image": "a", "volumes.Data": "/data"}, "volumes.Data"),
        ({"image": "a", "volumes.data": "/a/../../etc"}, "is no folder in a pod"),
        ({"image": "a", "volumes.a": "/data", "volumes.b": "/data/"}, "same folder"),
        ({"image": "a", "secrets.TOKEN": "no-key"}, r"secrets\.TOKEN="),
        ({"image": "a", "secrets.A-B": "wandb/key"}, "is no name of a variable"),
        ({"image": "a", "git_secret": "x"}, "git_secret="),
        ({"image": "a", "env.1A": "x"}, "is no name of a variable"),
        ({"image": "a", "environment": "venv"}, "environment=venv"),
        ({"image": "a", "environment": "uv:x"}, "environment=uv:x"),
        ({"image": "a", "code": "image"}, "in which folder"),
        ({"image": "a", "image_pull_secrets": "A B"}, "image_pull_secrets"),
        ({"image": "a", "tolerations": "a:Never"}, "tolerations=a:Never"),
        ({"image": "a", "restarts": "-1"}, "restarts"),
        ({"image": "a", "code": "ftp"}, "code"),
        ({"image": "a", "imago": "b"}, "did you mean image="),
    ],
)
def test_what_cannot_be_right_is_named(root: Path, said: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        read(root, said)


@pytest.mark.parametrize("gpus", [0.5, "half", -1, "1.5"])
def test_pods_get_whole_gpus(root: Path, gpus: Any) -> None:
    with pytest.raises(InvalidInput, match="whole GPUs"):
        read(root, {"image": "a"}, gpus=gpus)


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "db_password"])
def test_a_secret_in_plain_text_is_refused_and_not_shown(root: Path, name: str) -> None:
    (root / "config/kube.yaml").write_text(f"image: a\nenv:\n  {name}: s3cr3t\n")
    with pytest.raises(InvalidInput, match=rf"env\.{name}") as caught:
        read(root)
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(InvalidInput) as caught:
        read(root, {"image": "a", "secrets.X": "s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


def test_unknown_keys_of_the_file_are_told(root: Path) -> None:
    (root / "config/kube.yaml").write_text("image: a\ngpu_whitlist: [x]\n")
    said: list[str] = []
    read(root, warn=said.append)
    assert len(said) == 1
    assert "gpu_whitlist" in said[0]
    assert "did you mean gpu_whitelist?" in said[0]


@pytest.mark.parametrize("text", ["a: [", "- a", "just words", "a: !!python/object:os.system x"])
def test_a_file_that_is_no_list_of_keys_is_an_error(root: Path, text: str) -> None:
    (root / "config/kube.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=r"kube\.yaml"):
        read(root)


def test_a_file_that_came_with_a_clone_counts_after_a_yes(root: Path) -> None:
    (root / "config/kube.yaml").write_text(FILE)
    git("init", "--quiet", str(root))
    git("add", ".", cwd=root)
    said: list[str] = []
    with pytest.raises(InvalidInput, match="which image"):
        read(root, warn=said.append)
    assert "is the repository's word" in said[0]
    asked = settings.request(root)
    assert asked is not None
    asked.note("yes")
    assert read(root).project == "base"


@pytest.mark.parametrize(
    ("said", "amount", "twice"),
    [
        ("16", "16Gi", "32Gi"),
        (8, "8Gi", "16Gi"),
        ("1.5GiB", "1.5Gi", "3Gi"),
        ("500MB", "500M", "1000M"),
        ("3k", "3k", "6k"),
    ],
)
def test_amounts_of_memory(said: Any, amount: str, twice: str) -> None:
    assert quantities.memory(said) == amount
    assert quantities.twice(amount) == twice


@pytest.mark.parametrize(("said", "amount", "twice"), [("4", "4", "8"), (0.5, "0.5", "1"), ("250m", "250m", "500m")])
def test_numbers_of_cores(said: Any, amount: str, twice: str) -> None:
    assert quantities.cpus(said) == amount
    assert quantities.twice(amount) == twice


def test_results_go_to_a_volume_that_is_mounted_or_to_a_bucket(root: Path) -> None:
    (root / "config/kube.yaml").write_text("image: a\nvolumes: {lab: /data}\nresults: /data/runs\n")
    assert read(root).results == "/data/runs"
    assert read(root, {"results": "s3://my-results/a"}).results == "s3://my-results/a"
    assert read(root, {"results": "log"}).results == "log"
    for wrong in ("/database/runs", "/data/../etc", "data", "gs://my-results/a", "s3://A"):
        with pytest.raises(InvalidInput):
            read(root, {"results": wrong})
