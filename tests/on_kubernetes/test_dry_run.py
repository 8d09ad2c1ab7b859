"""``--dry-run`` with ``on=kubernetes``: what the cluster would get, as files to be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from conftest import set_up
from kubernetes_checks import VERSION, check
from ruamel.yaml import YAML

from colab_magics import session, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput
from colab_magics.queues import open_queue
from colab_magics.queues.base import New
from colab_magics.records.run import runs_of


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = set_up(tmp_path / "net")
    os.chdir(made.root)
    (made.root / "config").mkdir()
    (made.root / "config/kube.yaml").write_text("image: python:3.12\nnamespace: lab\nprefix: jo\n")
    (made.root / "train.py").write_text("print(1)\n")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    return made


def written(project: Project) -> dict[str, dict[str, Any]]:
    files = sorted((project.root / "build").glob("*.yaml"))
    return {file.name: YAML(typ="safe", pure=True).load(file) for file in files}


def of_kind(project: Project, kind: str) -> list[dict[str, Any]]:
    return [one for one in written(project).values() if one["kind"] == kind]


def test_it_writes_what_the_cluster_would_get_and_says_which_files(project: Project) -> None:  # U16
    shown = submit(
        "python", "train.py", "{lr}", grid={"lr": [1, 2]}, on="kubernetes", gpus="1", dry_run=True, workers="1"
    )
    found = written(project)
    for one in found.values():
        check(one)
    (job,) = of_kind(project, "Job")
    name = job["metadata"]["name"]
    assert name.startswith("jo-net-baseline-")
    assert list(found) == [f"{name}-code.yaml", f"{name}-package.yaml", f"{name}-runs.yaml", f"{name}.yaml"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 1)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    mounted = {one["configMap"]["name"] for one in job["spec"]["template"]["spec"]["volumes"] if "configMap" in one}
    assert mounted == {one["metadata"]["name"] for one in of_kind(project, "ConfigMap")}
    assert "sub_job_001" in str(shown), "the runs are shown, too"
    for file in found:
        assert f"{project.root}/build/{file}" in str(shown)
    assert runs_of(project.data_job) == []


def test_said_again_it_writes_the_same_files(project: Project) -> None:
    submit("python", "train.py", on="kubernetes", dry_run=True)
    before = {file: file.stat().st_mtime_ns for file in (project.root / "build").iterdir()}
    submit("python", "train.py", on="kubernetes", dry_run=True)
    after = {file: file.stat().st_mtime_ns for file in (project.root / "build").iterdir()}
    assert before.keys() == after.keys()
    assert all(after[file] > before[file] for file in before)


def test_values_of_secrets_are_in_none_of_the_files(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cr3t-value")
    session.current().secrets.append("WANDB_API_KEY")
    submit("python", "train.py", on="kubernetes", dry_run=True, **{"secrets.TOKEN": "wandb/key"})
    texts = [file.read_text() for file in (project.root / "build").iterdir()]
    assert not [text for text in texts if "s3cr3t" in text]
    (secret,) = of_kind(project, "Secret")
    kubernetes_validate.validate(secret, VERSION, strict=True)
    assert secret["stringData"] == {"WANDB_API_KEY": ""}
    (container,) = of_kind(project, "Job")[0]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]


def test_a_notebook_is_in_it_as_a_command_is(project: Project) -> None:
    import nbformat

    from colab_magics import fork

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in ("%fork n=2", "i_sub_job")])
    nbformat.write(book, project.root / "train.ipynb")
    fork(n=2, on="kubernetes", notebook="train.ipynb", dry_run=True)
    (job,) = of_kind(project, "Job")
    assert job["spec"]["completions"] == 2
    assert len(of_kind(project, "ConfigMap")) == 3


def test_a_file_of_somebody_elses_is_not_overwritten(project: Project) -> None:
    submit("python", "train.py", on="kubernetes", dry_run=True)
    for file in (project.root / "build").iterdir():
        file.write_text("mine\n")
    with pytest.raises(InvalidInput, match="was not written by colab-magics"):
        submit("python", "train.py", on="kubernetes", dry_run=True)
    assert {file.read_text() for file in (project.root / "build").iterdir()} == {"mine\n"}


def test_a_build_folder_that_leads_elsewhere_is_refused(project: Project, tmp_path: Path) -> None:
    (project.root / "build").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="is a link"):
        submit("python", "train.py", on="kubernetes", dry_run=True)


def test_of_a_queue_no_more_runs_are_claimed_than_execute_at_once(project: Project) -> None:
    queue = open_queue(url := str(project.root / "runs.db"))
    queue.create()
    queue.add([New({"k": 1})])
    shown = str(submit("echo {k}", runs=url, on="kubernetes", workers=8, dry_run=True))
    assert "8 at once" in shown
    assert "all submitted" not in shown
    with pytest.raises(InvalidInput, match="would claim every run of the queue"):
        submit("echo {k}", runs=url, on="kubernetes", dry_run=True)


def test_on_this_machine_a_dry_run_writes_nothing(project: Project) -> None:
    submit("python", "train.py", dry_run=True)
    assert not (project.root / "build").exists()


def test_a_pod_that_stays_is_shown_too(project: Project) -> None:  # U13
    options = {"server_command": "jupyter lab", "environment": "conda:torch"}
    shown = str(submit(on="kubernetes", interactive=True, dry_run=True, n=3, **options))
    found = written(project)
    for one in found.values():
        check(one)
    (pod,) = of_kind(project, "Pod")
    assert list(found) == [f"{pod['metadata']['name']}-code.yaml", f"{pod['metadata']['name']}.yaml"]
    args = pod["spec"]["containers"][0]["args"]
    assert args == ["/opt/conda/bin/conda", "run", "--no-capture-output", "-n", "torch", "sh", "-c", "jupyter lab"]
    assert all(file in shown for file in found)


@pytest.mark.parametrize(
    ("words", "options", "problem"),
    [
        ((), {}, "on=local has nothing that stays"),
        (("python", "train.py"), {"on": "kubernetes"}, "takes no command"),
        ((), {"on": "kubernetes", "gpus": "0.5"}, "whole GPUs"),
    ],
)
def test_what_cannot_stay_is_said(
    project: Project, words: tuple[str, ...], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        submit(*words, interactive=True, **options)


def test_how_a_pod_is_entered_follows_its_environment(project: Project) -> None:
    from colab_magics.engines.kubernetes import interactive, settings
    from colab_magics.engines.kubernetes.options import Options

    options = Options(context="gpu farm", environment="uv", code="image", workdir="/my app", server_command="x")
    found = settings.read(project.root, options, project="net")
    lines = "\n".join(interactive.how(found, "net-1", "lab"))
    enter = "sh -c 'cd '\"'\"'/my app'\"'\"' && exec uv run bash'"
    assert f"kubectl --context 'gpu farm' --namespace lab exec -it net-1 -c run -- {enter}" in lines
    assert "attach net-1" in lines
    assert "port-forward pod/net-1 8888:8888" in lines


def test_values_of_secrets_are_left_out_whoever_hands_them_over(project: Project) -> None:
    from colab_magics.engines.kubernetes import interactive, settings

    found = settings.read(project.root, project="net")
    made = interactive.of(found, project.root, project.root, {"TOKEN": "s3cr3t-value"}, mark="a")
    assert "s3cr3t-value" in str(made.owned), "the cluster gets it"
    assert "s3cr3t-value" not in "".join(made.texts().values())
    assert "TOKEN: ''" in made.texts()[f"{made.name}-env"]
