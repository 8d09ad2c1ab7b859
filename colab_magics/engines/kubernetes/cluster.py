"""A cluster's API by the official client: the few calls that runs need, on plain mappings.

What a server refuses for a moment (429, 5xx) is asked again, as long as it says; what nobody answers is Unavailable.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from ...errors import InvalidInput, Unavailable
from .objects import Object

_SECONDS = (5.0, 30.0)
"""To connect, and between two pieces of an answer."""
WATCH = 60
"""Seconds that a watch lasts; so long nobody notices that a connection is dead."""
_TRIES, _LONGEST = 4, 10.0
_BUSY = frozenset({429, 500, 502, 503, 504})
MEND = "pip install 'colab-magics[kubernetes]'"


class Refused(Unavailable):
    """The server answers that it does not do what it was asked for: nothing was changed."""


class Gone(Refused):
    """What came since then is not known any more: it has to be listed anew."""


class Conflict(Refused):
    """There is one of that name already."""


def why_not() -> str:
    """Say what is missing to reach any cluster."""
    try:
        from kubernetes import config
    except ImportError as error:
        return f"the package {error.name} is not installed ({MEND})"
    files = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
    if any(os.path.exists(os.path.expanduser(one)) for one in files.split(os.pathsep)):
        return ""
    inside = os.environ.get("KUBERNETES_SERVICE_HOST")
    return "" if inside else "there is no kubeconfig: KUBECONFIG, or ~/.kube/config"


class Cluster:
    """A namespace of a cluster.

    Parameters
    ----------
    context, namespace : str, optional
        By default what the kubeconfig says.

    Raises
    ------
    Unavailable
        When there is no client, or no kubeconfig that can be read.
    """

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        try:
            from kubernetes import client, config
            from urllib3 import Retry
        except ImportError as error:
            raise Unavailable(f"on=kubernetes needs the package {error.name}.", MEND) from error
        made = client.Configuration()
        # A connection that was dropped meanwhile is made anew. What a busy server says is read here: urllib3 would wait
        # as long as it is told to, be it an hour.
        made.retries = Retry(2, respect_retry_after_header=False)
        try:
            if why_not() or not os.environ.get("KUBERNETES_SERVICE_HOST") or os.environ.get("KUBECONFIG"):
                # The client's own default is that of the moment when it was imported.
                file = os.environ.get("KUBECONFIG")
                config.load_kube_config(config_file=file, context=context, client_configuration=made)
                contexts, active = config.list_kube_config_contexts(config_file=file)
                known = next((one for one in contexts if one["name"] == context), active) or {}
                found = (known.get("context") or {}).get("namespace")
            else:
                config.load_incluster_config(client_configuration=made)
                found = None
        except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"The kubeconfig cannot be used: {error}.", "Try it: kubectl get jobs") from None
        api = client.ApiClient(made)
        self.context, self.namespace = context, str(namespace or found or "default")
        self._core, self._batch = client.CoreV1Api(api), client.BatchV1Api(api)
        self._lists = {"Job": self._batch.list_namespaced_job, "Pod": self._core.list_namespaced_pod}

    def create(self, made: Object, *, dry_run: bool = False) -> Object:
        """Make an object; returns it as the server has it, or with `dry_run` would have it.

        Raises
        ------
        Conflict
            When there is one of its name.
        Refused
            When the server does not take it, with its reason.
        Unavailable
            When nobody knows.
        """
        kind = made["kind"]
        calls: dict[str, Callable[..., Any]] = {
            "Job": self._batch.create_namespaced_job,
            "ConfigMap": self._core.create_namespaced_config_map,
            "Secret": self._core.create_namespaced_secret,
            "Pod": self._core.create_namespaced_pod,
        }
        # Not twice by itself: the first may have arrived.
        return self._read(calls[kind], self.namespace, made, tries=1, **({"dry_run": "All"} if dry_run else {})) or {}

    def job(self, name: str) -> Object | None:
        """Return a job; None when it is not there."""
        return self._read(self._batch.read_namespaced_job, name, self.namespace)

    def jobs(self, selector: str) -> list[Object]:
        """Return jobs by their labels."""
        found = self._read(self._batch.list_namespaced_job, self.namespace, label_selector=selector)
        return list((found or {}).get("items") or ())

    def pods(self, selector: str) -> list[Object]:
        """Return pods by their labels."""
        found = self._read(self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return list((found or {}).get("items") or ())

    def listed(self, kind: str, selector: str) -> tuple[list[Object], str]:
        """Return objects of a kind by their labels, and the version from which they can be watched."""
        found = self._read(self._lists[kind], self.namespace, label_selector=selector) or {}
        return list(found.get("items") or ()), str((found.get("metadata") or {}).get("resourceVersion") or "0")

    def watch(self, kind: str, selector: str, version: str) -> Iterator[Object | None]:
        """Yield what happens to objects of a kind, from a version on: None when the watch begins, then events.

        Raises
        ------
        Gone
            When that version is not known any more.
        Unavailable
            When the watch is cut, or there is none.
        """
        answer = self._answer(
            self._lists[kind],
            self.namespace,
            label_selector=selector,
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=version,
            timeout_seconds=WATCH,
            _request_timeout=(_SECONDS[0], WATCH + 15.0),
        )
        if answer is None:
            raise Unavailable("The cluster knows no such list.", "Try it: kubectl get jobs")
        yield None
        rest = b""
        try:
            for data in _pieces(answer):
                *lines, rest = (rest + data).split(b"\n")
                yield from (_event(line) for line in lines if line.strip())
        finally:
            answer.close()

    def has_map(self, name: str) -> bool:
        """Whether there is a config map of a name."""
        return self._read(self._core.read_namespaced_config_map, name, self.namespace) is not None

    def change_map(self, name: str, texts: dict[str, str]) -> None:
        """Change texts of a config map."""
        self._read(self._core.patch_namespaced_config_map, name, self.namespace, {"data": texts})

    def log(self, pod: str, container: str, since: int | None = None) -> str | None:
        """Return a container's log with the time of each line; None when there is none yet, or no more."""
        words = {"since_seconds": since} if since is not None else {}
        data = self._call(
            self._core.read_namespaced_pod_log, pod, self.namespace, container=container, timestamps=True, **words
        )
        return None if data is None else data.decode("utf-8", "replace")

    def delete_job(self, name: str) -> None:
        """Delete a job with its pods and all that it owns."""
        self._call(self._batch.delete_namespaced_job, name, self.namespace, propagation_policy="Background")

    def delete_pod(self, name: str) -> None:
        """Delete a pod: its program is told to end."""
        self._call(self._core.delete_namespaced_pod, name, self.namespace)

    def _read(self, call: Callable[..., Any], *words: Any, tries: int = _TRIES, **more: Any) -> Object | None:
        data = self._call(call, *words, tries=tries, **more)
        try:
            return None if data is None else dict(json.loads(data))
        except (ValueError, TypeError):
            raise Unavailable("The cluster answers what is no JSON.", "Is it the one you mean? kubectl cluster-info")

    def _call(self, call: Callable[..., Any], *words: Any, tries: int = _TRIES, **more: Any) -> bytes | None:
        """Ask the server; returns its answer as it is, None when there is no such thing (or not yet: 400 for a log)."""
        answer = self._answer(call, *words, tries=tries, **more)
        return None if answer is None else b"".join(_pieces(answer))

    def _answer(self, call: Callable[..., Any], *words: Any, tries: int = _TRIES, **more: Any) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        more.setdefault("_request_timeout", _SECONDS)
        for left in reversed(range(tries)):
            try:
                answer = call(*words, _preload_content=False, **more)
                if answer.status < 400:
                    return answer
                problem, status, headers = answer.data, answer.status, answer.headers
            except ApiException as error:
                problem, status, headers = error.body, error.status, error.headers
            except (HTTPError, OSError) as error:
                raise _unanswered(error) from None
            if status == 404 or (status == 400 and call.__name__ == "read_namespaced_pod_log"):
                return None
            if status not in _BUSY or not left:
                raise _error(status, problem)
            time.sleep(min(_seconds((headers or {}).get("Retry-After")), _LONGEST))
        raise Unavailable("The cluster is too busy.", "It is asked again by itself.")


def _pieces(answer: Any) -> Iterator[bytes]:
    """Yield what the server says, as it comes."""
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.stream(1 << 20)
        answer.release_conn()
    except (HTTPError, OSError, ValueError) as error:
        raise _unanswered(error) from None


def _event(line: bytes) -> Object:
    try:
        event = dict(json.loads(line))
        about = event["object"]
        if event["type"] == "ERROR":
            raise _error(int(about.get("code") or 0), json.dumps(about))
        about["metadata"]["resourceVersion"]
    except (ValueError, TypeError, KeyError):
        raise Unavailable(
            "The cluster tells what is no event.", "Is it the one you mean? kubectl cluster-info"
        ) from None
    return event


def _unanswered(error: Exception) -> Unavailable:
    return Unavailable(f"The cluster does not answer: {error}.", "Try it: kubectl get jobs")


def _seconds(text: Any) -> float:
    try:
        return max(0.05, float(text))
    except (TypeError, ValueError):
        return 1.0


def _error(status: int, body: Any) -> Unavailable | InvalidInput:
    try:
        said = str(json.loads(body or "")["message"])
    except (ValueError, KeyError, TypeError):
        said = f"status {status}"
    if status in _BUSY:
        return Unavailable(f"The cluster is too busy: {said}.", "It is asked again by itself.")
    if status == 410:
        return Gone(f"The cluster refuses it: {said}.", "It is asked again by itself.")
    if status == 409:
        return Conflict(f"The cluster has it already: {said}.")
    mend = "kubectl auth can-i --list shows what you may." if status in (401, 403) else "Mend it in the line's options."
    return Refused(f"The cluster refuses it: {said}.", mend)
