"""What is read from what the cluster says of jobs and pods."""

from __future__ import annotations

from typing import Any

import pytest

from colab_magics.engines.kubernetes import pods
from colab_magics.engines.kubernetes.objects import QUEUE

JOB: dict[str, Any] = {"metadata": {"labels": {QUEUE: "lab"}}, "spec": {"suspend": True}, "status": {}}


def pod(index: int = 0, **status: Any) -> dict[str, Any]:
    about = {"annotations": {"batch.kubernetes.io/job-completion-index": str(index)}, "creationTimestamp": "2026"}
    return {"metadata": about, "status": {"phase": "Pending", **status}}


def waiting(reason: str, message: str = "") -> list[dict[str, Any]]:
    about = {"reason": reason, **({"message": message} if message else {})}
    return [{"name": "run", "state": {"waiting": about}}]


NO_NODE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, ""),
        ({"containerStatuses": waiting("ContainerCreating")}, ""),
        ({"containerStatuses": waiting("PodInitializing"), "initContainerStatuses": waiting("PodInitializing")}, ""),
        (
            {"containerStatuses": waiting("ImagePullBackOff", 'Back-off pulling image "a:b"')},
            'ImagePullBackOff: Back-off pulling image "a:b"',
        ),
        ({"containerStatuses": waiting("ErrImagePull")}, "ErrImagePull"),
        (
            {"containerStatuses": waiting("CreateContainerConfigError", 'secret "wandb" not found')},
            'CreateContainerConfigError: secret "wandb" not found',
        ),
        (
            {"containerStatuses": waiting("PodInitializing"), "initContainerStatuses": waiting("ImagePullBackOff")},
            "ImagePullBackOff",
        ),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_NODE}
                ]
            },
            f"Unschedulable: {NO_NODE}",
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, ""),
    ],
)
def test_why_a_run_waits_is_what_the_cluster_says(status: dict[str, Any], said: str) -> None:
    assert pods.why_queued(JOB, [pod(1), pod(0, **status)], 0) == said


def test_a_job_that_waits_in_a_queue_says_so() -> None:
    assert pods.why_queued(JOB, [], 0) == "in the queue lab"
    assert pods.why_queued({**JOB, "spec": {}}, [], 0) == ""
    assert pods.why_queued(None, [], 0) == ""


def test_why_a_pod_ended_is_what_its_containers_say() -> None:
    ended = {"terminated": {"exitCode": 128, "reason": "Error", "message": "fatal: could not read Username\n"}}
    cloned = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    killed = [{"name": "run", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]
    clone = [{"name": "clone", "state": ended}]
    assert pods.why(pod(initContainerStatuses=clone)) == "Error, fatal: could not read Username, exit code 128"
    done = [{"name": "clone", "state": cloned}]
    assert pods.why(pod(initContainerStatuses=done, containerStatuses=killed)) == "OOMKilled, exit code 137"
    assert pods.why(pod(reason="Evicted", message="disk")) == "Evicted, disk"


@pytest.mark.parametrize(("code", "own"), [(0, True), (1, True), (2, True), (127, False), (137, False)])
def test_an_end_of_its_own_is_told_from_others(code: int, own: bool) -> None:
    ended = [{"name": "run", "state": {"terminated": {"exitCode": code}}}]
    assert pods.ended_by_itself(pod(containerStatuses=ended)) is own
    assert not pods.ended_by_itself(pod())
