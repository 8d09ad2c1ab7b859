"""What a line says to ``on=kubernetes`` alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Options:
    """Options of pods; what a line leaves out is taken from the project's ``config/kube.yaml``.

    Parameters
    ----------
    image : str, optional
        The container's image. By default ``REGISTRY_HOST/USER/PROJECT:latest`` of ``config/kube.yaml``.
    namespace, context : str, optional
        Where pods are made; by default what the kubeconfig says.
    cpus : str, optional
        Cores that each run is sure of (``4``, ``500m``); twice as many are its limit.
    memory : str, optional
        Memory that each run is sure of (``16Gi``, ``16GB``; a bare number counts GiB); twice as much is its limit.
    shm : str, optional
        The most that /dev/shm takes; by default what the memory's limit allows.
    gpu_whitelist, gpu_blacklist : str, optional
        GPU products that are allowed, or those that are not, with commas between them; one of both at most.
    hostname_whitelist, hostname_blacklist : str, optional
        The same of nodes, by their names.
    gpu_resource : str, optional
        How the cluster calls a GPU, ``nvidia.com/gpu`` by default.
    tolerations : str, optional
        Keys of taints that runs tolerate, with commas: ``KEY``, ``KEY=VALUE`` or ``KEY=VALUE:EFFECT``; without an
        effect it is NoSchedule.
    volumes.CLAIM : str
        Where a persistent volume claim is mounted: ``volumes.datasets=/data``.
    results : str, optional
        How what runs have written comes home: a folder of pods on one of ``volumes.`` that this machine has, too; a
        bucket, ``s3://BUCKET/FOLDER``; or ``log``, the container's log, for up to 4 MB a run. By default the project's
        Place where that is a bucket of S3, else the log.
    results_here : str, optional
        Where the folder of ``results=`` is on this machine; by default it has the same name.
    image_pull_secrets : str, optional
        Secrets to pull the image with.
    env.NAME : str
        Environment variables that anybody may read.
    secrets.NAME : str
        Environment variables out of secrets of the cluster: ``secrets.WANDB_API_KEY=wandb/key``.
    queue : str, optional
        The Kueue queue that the job waits in.
    restarts : int, optional
        How often the cluster starts a run again that was lost, as for want of memory; 0 by default. A run that failed
        by itself is none of those: that is ``retries=``. One that gave way to others, or to the node's end, is started
        again in any case.
    ttl : str, optional
        How long the job is kept when it has ended: ``2h``; a day by default.
    code : {"configmap", "git", "image"}, optional
        Where the code comes from: with the job, as it is here (up to 1 MB); a clone at the commit that is checked out
        here; or the image, in the folder that ``workdir=`` names. By default with the job.
    git_secret : str, optional
        With ``code=git``: ``SECRET/KEY`` of a token for a private repository.
    environment : str, optional
        What runs are executed with: ``image`` (its python), ``uv`` (the project's uv.lock or pyproject.toml), or
        ``conda:NAME``. By default conda with the project's name where there is a ``conda_home``, else ``image``.
    conda_home : str, optional
        Folder of conda in the image.
    workdir : str, optional
        With ``code=image``: the project's folder in the image.
    setup : str, optional
        A shell command that is executed before.
    server_command : str, optional
        What an interactive pod executes, in place of waiting.
    user, prefix : str, optional
        A label of all objects, and what their names begin with.
    """

    image: str | None = None
    namespace: str | None = None
    context: str | None = None
    cpus: str | None = None
    memory: str | None = None
    shm: str | None = None
    gpu_whitelist: tuple[str, ...] | None = None
    gpu_blacklist: tuple[str, ...] | None = None
    hostname_whitelist: tuple[str, ...] | None = None
    hostname_blacklist: tuple[str, ...] | None = None
    gpu_resource: str | None = None
    tolerations: tuple[str, ...] | None = None
    volumes: dict[str, str] = field(default_factory=dict)
    results: str | None = None
    results_here: str | None = None
    image_pull_secrets: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    queue: str | None = None
    restarts: int | None = None
    ttl: str | None = None
    code: Literal["configmap", "git", "image"] | None = None
    git_secret: str | None = None
    environment: str | None = None
    conda_home: str | None = None
    workdir: str | None = None
    setup: str | None = None
    server_command: str | None = None
    user: str | None = None
    prefix: str | None = None
