"""Jobs, pods and config maps: what a cluster would take, and what people read in the YAML."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import HOSTILE_NAMES
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as how
from hypothesis import strategies as st
from kubernetes_checks import check, expanded
from ruamel.yaml import YAML

from colab_magics.engines.kubernetes import names, objects
from colab_magics.engines.kubernetes.objects import Clone, Task
from colab_magics.engines.kubernetes.settings import Settings
from colab_magics.errors import InvalidInput

PLAIN = Settings(project="net", image="python:3.12")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NAME = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
VARIABLE = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
LISTS = st.one_of(st.none(), st.lists(NAME, max_size=3))
SETTINGS = st.builds(
    Settings,
    project=TEXT.filter(bool),
    image=st.just("registry.example:5005/a/b:latest"),
    namespace=st.one_of(st.none(), NAME),
    gpus=st.integers(0, 8),
    cpus=st.sampled_from([None, "500m", "4", "1.5"]),
    memory=st.sampled_from([None, "512Mi", "1.5Gi"]),
    shm=st.sampled_from([None, "8Gi"]),
    gpu_whitelist=LISTS,
    hostname_blacklist=LISTS,
    tolerations=st.just([{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute"}]),
    volumes=st.dictionaries(NAME, st.from_regex(r"/mnt/[a-z]{8}", fullmatch=True), max_size=3),
    image_pull_secrets=st.lists(NAME, max_size=2, unique=True),
    env=st.dictionaries(VARIABLE, TEXT, max_size=3),
    secrets=st.dictionaries(VARIABLE, st.tuples(NAME, NAME), max_size=3),
    queue=st.one_of(st.none(), NAME),
    restarts=st.integers(0, 5),
    code=st.sampled_from(["configmap", "git"]),
    git_secret=st.one_of(st.none(), st.tuples(NAME, NAME)),
    environment=st.sampled_from(["image", "uv", "conda"]),
    conda=TEXT,
    setup=TEXT,
    server_command=TEXT,
    user=TEXT,
    prefix=TEXT,
)
TASKS = st.builds(
    Task,
    words=st.lists(TEXT, min_size=1, max_size=4),
    maps=st.dictionaries(st.sampled_from(["code", "runs"]), NAME),
    clone=st.one_of(st.none(), st.builds(Clone, TEXT, NAME)),
    env_secret=st.one_of(st.none(), NAME),
    env=st.dictionaries(VARIABLE, TEXT, max_size=2),
    packages=st.lists(TEXT, max_size=2),
)


def container(made: dict[str, Any]) -> dict[str, Any]:
    spec = made["spec"]["template"]["spec"] if made["kind"] == "Job" else made["spec"]
    return dict(spec["containers"][0])


@how(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.reuse, Phase.generate])
@given(SETTINGS, TASKS, st.lists(TEXT, min_size=1, max_size=3), st.integers(1, 100_000), st.integers(1, 50))
def test_whatever_is_said_the_cluster_takes_it(  # U12, U14
    settings: Settings, task: Task, words: list[str], runs: int, at_once: int
) -> None:
    name = names.name(words)
    labels = {"colab-magics/job": words[0]}
    made = objects.job(settings, name, task, labels=labels, annotations={"a": words[0]}, runs=runs, at_once=at_once)
    check(made)
    check(objects.pod(settings, name, task, labels=labels))
    text = objects.as_yaml([made], *words)
    assert YAML(typ="safe", pure=True).load(text) == json.loads(json.dumps(made))


@pytest.mark.parametrize("word", [*HOSTILE_NAMES, "$(PYTHONUNBUFFERED)", "$$", "$$(A)", "a$", "{x}"])
def test_words_reach_the_program_as_they_are(word: str, tmp_path: Path) -> None:
    made = objects.job(replace(PLAIN, env={"SAID": word}), "net", Task(["printf", "%s.", word, "$HOME"]))
    (one,) = made["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry["value"] for entry in one["env"]}
    env = {name: expanded(value, variables) for name, value in variables.items()}
    assert env["SAID"] == word
    command = [expanded(part, variables) for part in (*one["command"], *one["args"])]
    env |= {"COLAB_MAGICS_CODE": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    assert done.stdout.decode() == f"{word}.$HOME."


@given(TEXT, st.dictionaries(VARIABLE, TEXT, max_size=2))
def test_nothing_is_expanded_in_what_was_made_literal(text: str, variables: dict[str, str]) -> None:
    assert expanded(objects.literal(text), variables) == text


def test_code_that_comes_with_the_job_is_where_the_program_starts(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("train.py")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"x\n"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / objects.PACKED).write_bytes(packed.getvalue())
    made = objects.job(replace(PLAIN, setup="echo first\necho second"), "net", Task(["cat", "train.py"], {"code": "c"}))
    script = container(made)["command"][2]
    script = script.replace(objects.MOUNTED, str(tmp_path)).replace(objects.CODE, str(tmp_path / "work"))
    env = {"COLAB_MAGICS_CODE": str(tmp_path / "work"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script, "sh", "cat", "train.py"], env=env, capture_output=True, check=True)
    assert done.stdout == b"first\nsecond\nx\n"


def test_a_clone_is_made_at_the_commit_of_the_notebook(repository: Path, tmp_path: Path) -> None:  # U15
    from conftest import git

    commit = git("rev-parse", "HEAD", cwd=repository)
    (repository / "README.md").write_text("later\n")
    git("commit", "--quiet", "-a", "-m", "second", cwd=repository)
    made = objects.job(PLAIN, "net", Task(["true"], clone=Clone(str(repository), commit)))
    check(made)
    (init,) = made["spec"]["template"]["spec"]["initContainers"]
    words = [expanded(part, {}) for part in (*init["command"], *init["args"])]
    subprocess.run([*words[:-1], str(tmp_path / "code")], check=True)
    assert (tmp_path / "code/README.md").read_text() == "net\n"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ["python", "a.py"]),
        (
            {"environment": "conda", "conda": "net", "conda_home": "/opt/conda/"},
            ["/opt/conda/bin/conda", "run", "--no-capture-output", "-n", "net", "python", "a.py"],
        ),
        ({"environment": "uv"}, ["uv", "run", "--with", "papermill>=2", "python", "a.py"]),
    ],
)
def test_the_environment_of_a_run(environment: dict[str, Any], words: list[str]) -> None:
    made = objects.job(replace(PLAIN, **environment), "net", Task(["python", "a.py"], packages=["papermill>=2"]))
    assert container(made)["args"] == words


def test_gpus_are_asked_for_by_number_and_product() -> None:
    made = objects.job(replace(PLAIN, gpus=2, gpu_whitelist=["A10"], hostname_blacklist=["n1"]), "net", Task(["a"]))
    check(made)
    assert container(made)["resources"] == {"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}}
    rules = made["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    ((term,),) = [one["nodeSelectorTerms"] for one in rules.values()]
    assert term["matchExpressions"] == [
        {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["A10"]},
        {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1"]},
    ]


def test_a_pod_that_stays_gets_no_gpu_that_nobody_asked_for() -> None:  # U13, ✗ interactive forces a GPU
    made = objects.pod(replace(PLAIN, gpu_whitelist=["A10"]), "net", Task(["a"], {"code": "net-code"}))
    check(made)
    assert container(made)["resources"] == {}
    assert "affinity" not in made["spec"]
    assert made["spec"]["restartPolicy"] == "Never"
    assert "sleep infinity" in container(made)["args"][2]


def test_secrets_are_references_in_all_objects() -> None:  # ✗ secrets in plain text
    settings = replace(PLAIN, secrets={"TOKEN": ("wandb", "key")}, git_secret=("git", "token"))
    made = objects.job(settings, "net", Task(["a"], clone=Clone("https://a.example/b", "c"), env_secret="net-env"))
    check(made)
    (one,) = [entry for entry in container(made)["env"] if entry["name"] == "TOKEN"]
    assert one == {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}}}
    assert container(made)["envFrom"] == [{"secretRef": {"name": "net-env"}}]


def test_kueue_starts_what_is_in_its_queue() -> None:
    made = objects.job(replace(PLAIN, queue="lab-queue"), "net", Task(["a"]))
    check(made)
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lab-queue"
    assert "suspend" not in objects.job(PLAIN, "net", Task(["a"]))["spec"]


def test_a_config_map_holds_texts_and_files_and_not_too_much() -> None:
    made = objects.config_map(PLAIN, "net-code", texts={"runs.json": "[]"}, files={"code.tgz": b"\0\xff"})
    check(made)
    assert made["binaryData"] == {"code.tgz": "AP8="}
    with pytest.raises(InvalidInput, match=r"1\.0 MB.*\n→ Clone it"):
        objects.config_map(PLAIN, "net-code", files={"code.tgz": b"x" * (1 << 20)}, mend="Clone it.")


GOLDEN = """\
# net: python train.py
apiVersion: batch/v1
kind: Job
metadata:
  name: net-baseline
  namespace: lab
  labels:
    app.kubernetes.io/managed-by: colab-magics
    colab-magics/project: net
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  backoffLimitPerIndex: 0
  podReplacementPolicy: Failed
  podFailurePolicy:
    rules:
      - action: FailIndex
        onExitCodes:
          containerName: run
          operator: In
          values:
            - 1
            - 2
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: 'True'
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels:
        app.kubernetes.io/managed-by: colab-magics
        colab-magics/project: net
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      containers:
        - name: run
          image: python:3.12
          command:
            - sh
            - -c
            - |
              set -e
              mkdir -p /work/code
              tar -xzf /colab_magics/code/code.tgz -C /work/code
              cd "$COLAB_MAGICS_CODE"
              exec "$@"
            - sh
          args:
            - python
            - train.py
          env:
            - name: PYTHONUNBUFFERED
              value: '1'
            - name: COLAB_MAGICS_CODE
              value: /work/code
          resources:
            requests:
              memory: 8Gi
              nvidia.com/gpu: '1'
            limits:
              memory: 16Gi
              nvidia.com/gpu: '1'
          volumeMounts:
            - name: work
              mountPath: /work
            - name: shm
              mountPath: /dev/shm
            - name: map-code
              mountPath: /colab_magics/code
              readOnly: true
      volumes:
        - name: work
          emptyDir: {}
        - name: shm
          emptyDir:
            medium: Memory
        - name: map-code
          configMap:
            name: net-baseline-code
"""


def test_the_yaml_is_for_people() -> None:
    settings = replace(PLAIN, namespace="lab", memory="8Gi", gpus=1)
    task = Task(["python", "train.py"], {"code": "net-baseline-code"})
    made = objects.job(settings, "net-baseline", task, runs=3, at_once=2)
    assert objects.as_yaml([made], "net: python train.py") == GOLDEN
