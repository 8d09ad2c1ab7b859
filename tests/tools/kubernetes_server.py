"""A small API server of Kubernetes, with the controllers that runs need: jobs make pods, pods are processes here.

It speaks the calls that the engine uses, and no others: watches, too, with the versions, bookmarks and ends that a real
one gives them. What it is given passes Kubernetes' schemas and the client's models (`kubernetes_checks`), and so does
what it answers. ``faults`` says what goes wrong next.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
from kubernetes_checks import VERSION, check, expanded, of_models, same

KINDS = {"jobs": "Job", "pods": "Pod", "configmaps": "ConfigMap", "secrets": "Secret"}
PATH = re.compile(
    r"/(?:api/v1|apis/batch/v1)/namespaces/(?P<ns>[a-z0-9-]+)/(?P<kind>\w+)(?:/(?P<name>[^/]+))?(?P<log>/log)?"
)
INDEX = "batch.kubernetes.io/job-completion-index"
Object = dict[str, Any]


@dataclass
class Fault:
    """What goes wrong with the next call of a method and a kind; ``log`` is the kind of a pod's log, WATCH a method.

    ``status``: it is refused with this. ``lost``: it is done, and its answer does not come. ``cut``: half of it comes;
    of a watch half of its next event. ``error``: a watch begins, and its first event is this one's failure.
    """

    method: str
    kind: str
    status: int = 0
    lost: bool = False
    cut: bool = False
    error: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Running:
    """A container: a process, and what it has printed with the time of each line."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path, maps: list[tuple[Path, Object]]) -> None:
        self.lines: list[tuple[float, str]] = []
        self.maps = maps
        self.refresh()
        self.process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.kill_at = float("inf")
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append((time.time(), line.decode("utf-8", "replace").rstrip("\n")))

    def refresh(self) -> None:
        """Have what was added to a config map in the folder where it is mounted, as a kubelet does: each file whole."""
        for at, value in self.maps:
            for key, text in (value.get("data") or {}).items():
                if not (at / key).exists():
                    (at / f"..{key}").write_text(text)
                    (at / f"..{key}").rename(at / key)

    def ended(self) -> int | None:
        """Its exit status, once all that it printed was read; as a container runtime tells it."""
        code = self.process.poll()
        if code is None and time.monotonic() > self.kill_at:
            self.process.kill()
        if code is None or self.reader.is_alive():
            return None
        return code if code >= 0 else 128 - code

    def end(self, grace: float) -> None:
        if self.process.poll() is None and self.kill_at == float("inf"):
            self.process.send_signal(signal.SIGTERM)
            self.kill_at = time.monotonic() + grace


class KubernetesServer:
    """The server, and what it holds."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.running: dict[str, Running] = {}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.suspends_pods = False
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.history: list[tuple[int, str, str, Object]] = []
        """Version, kind, what happened, and to what: what a watch tells."""
        self.oldest = 0
        """What came up to this version no watch is told any more."""
        self.version = 1000
        self._published: dict[tuple[str, str, str], str] = {}
        self._over = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"server_": self}))
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        self._controller = threading.Thread(target=self._control, daemon=True)
        self._controller.start()

    def kubeconfig(self, path: Path) -> Path:
        url = f"http://127.0.0.1:{self.http.server_address[1]}"
        about = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "users": [{"name": "me", "user": {"token": "abc"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "lab"}}],
            "current-context": "here",
        }
        path.write_text(json.dumps(about))
        return path

    def close(self) -> None:
        self._over.set()
        self.http.shutdown()
        self.http.server_close()
        self._controller.join()
        for one in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
            one.reader.join(5)

    def of(self, kind: str) -> list[Object]:
        with self.lock:
            return [one for (known, _, _), one in self.objects.items() if known == kind]

    def claim(self, name: str) -> Path:
        """Where this machine has a volume."""
        folder = self.folder.parent / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def evict(self, *pods: Object) -> None:
        """End pods for others' sake: their jobs make new ones, and it is no failure of theirs."""
        for pod in pods:
            with self.lock:
                pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
                self.running[pod["metadata"]["uid"]].process.kill()

    # What the handler calls; all with the lock held.

    def create(self, kind: str, ns: str, value: Object, *, dry: bool = False) -> tuple[int, Object]:
        if KINDS[kind] != value.get("kind"):
            return 400, failure(400, "wrong kind")
        try:
            if kind == "secrets":
                kubernetes_validate.validate(value, VERSION, strict=True)
            else:
                check(value)
        except Exception as error:  # noqa: BLE001 - the engine must hear of it
            return 422, failure(422, f"{type(error).__name__}: {error}"[:2000])
        about = value["metadata"]
        if (kind, ns, about["name"]) in self.objects:
            return 409, failure(409, f'{kind} "{about["name"]}" already exists')
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about |= {"namespace": ns, "uid": str(uuid.uuid4()), "creationTimestamp": now}
        if kind in ("jobs", "pods"):
            value["status"] = {} if kind == "jobs" else {"phase": "Pending"}
        if not dry:
            self.objects[kind, ns, about["name"]] = value
        return 201, value

    def delete(self, kind: str, ns: str, name: str) -> tuple[int, Object]:
        found = self.objects.get((kind, ns, name))
        if found is None:
            return 404, failure(404, f'{kind} "{name}" not found')
        if kind == "pods":
            found["metadata"].setdefault("deletionTimestamp", found["metadata"]["creationTimestamp"])
            return 200, found
        del self.objects[kind, ns, name]
        for key, one in list(self.objects.items()):
            owners = [owner["uid"] for owner in one["metadata"].get("ownerReferences", ())]
            if found["metadata"]["uid"] in owners:
                self.delete(*key)
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def publish(self) -> None:
        """Give what has changed a new version, and tell the watches; with the lock held."""
        for key, one in self.objects.items():
            about = one["metadata"]
            said = json.dumps({**one, "metadata": {**about, "resourceVersion": ""}})
            if self._published.get(key) != said:
                self.version += 1
                about["resourceVersion"] = str(self.version)
                what = "MODIFIED" if key in self._published else "ADDED"
                self._published[key] = said
                self.history.append((self.version, key[0], what, json.loads(json.dumps(one))))
        for key in self._published.keys() - self.objects.keys():
            self.version += 1
            one = json.loads(self._published.pop(key))
            one["metadata"]["resourceVersion"] = str(self.version)
            self.history.append((self.version, key[0], "DELETED", one))
        self.changed.notify_all()

    def forget(self) -> None:
        """Know no more what happened up to now, as a cluster does after some minutes."""
        with self.lock:
            self.publish()
            self.oldest = self.version

    def log(self, ns: str, name: str, words: dict[str, list[str]]) -> tuple[int, str]:
        if ("pods", ns, name) not in self.objects:
            return 404, json.dumps(failure(404, "no such pod"))
        running = self.running.get(self.objects["pods", ns, name]["metadata"]["uid"])
        if running is None:
            return 400, json.dumps(failure(400, 'container "run" is waiting to start: ContainerCreating'))
        since = time.time() - float(words["sinceSeconds"][0]) if "sinceSeconds" in words else 0
        assert words["timestamps"][0].lower() == "true"  # as Go reads it, and as versions of the client write it
        return 200, "".join(f"{stamp(at)} {line}\n" for at, line in list(running.lines) if at >= since)

    # The controllers.

    def _control(self) -> None:
        while not self._over.wait(0.05):
            with self.lock:
                for job in self.of("jobs"):
                    self._tend(job)
                for pod in self.of("pods"):
                    self._attend(pod)
                self.publish()

    def _tend(self, job: Object) -> None:
        spec, status = job["spec"], job["status"]
        if spec.get("suspend"):
            return
        pods = [
            pod
            for pod in self.of("pods")
            if job["metadata"]["uid"] in [one["uid"] for one in pod["metadata"]["ownerReferences"]]
        ]
        over = {"Succeeded": set(), "Failed": set()}  # type: dict[str, set[int]]
        busy = set()
        for pod in pods:
            index = int(pod["metadata"]["annotations"][INDEX])
            phase = pod["status"]["phase"]
            if phase == "Failed" and pod["status"].get("conditions"):
                continue
            if phase in over:
                over[phase].add(index)
            else:
                busy.add(index)
        done, failed = over["Succeeded"], over["Failed"] - over["Succeeded"]
        status["completedIndexes"], status["failedIndexes"] = spans(done), spans(failed)
        status |= {"active": len(busy), "succeeded": len(done), "failed": len(failed)}
        if len(done | failed) == spec["completions"]:
            kind = "Failed" if failed else "Complete"
            status["conditions"] = [{"type": kind, "status": "True"}]
            return
        for index in range(spec["completions"]):
            if len(busy) < spec["parallelism"] and index not in busy | done | failed:
                busy.add(index)
                self._make_pod(job, index)

    def _make_pod(self, job: Object, index: int) -> None:
        template, about = job["spec"]["template"], job["metadata"]
        name = f"{about['name']}-{index}-{uuid.uuid4().hex[:5]}"
        spec = json.loads(json.dumps(template["spec"]))
        spec["containers"][0]["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": about["name"]},
                "annotations": {INDEX: str(index)},
                "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": about["name"], "uid": about["uid"]}
                ],
            },
            "spec": spec,
        }
        code, made = self.create("pods", about["namespace"], pod)
        assert code == 201, made

    def _attend(self, pod: Object) -> None:
        about, status = pod["metadata"], pod["status"]
        running = self.running.get(about["uid"])
        if status["phase"] == "Pending":
            if "deletionTimestamp" in about:
                del self.objects["pods", about["namespace"], about["name"]]
            elif not self.suspends_pods and (running := self._start(pod)) is not None:
                self.running[about["uid"]] = running
                status["phase"] = "Running"
        elif status["phase"] == "Running" and running is not None:
            running.refresh()
            if "deletionTimestamp" in about:
                running.end(pod["spec"]["terminationGracePeriodSeconds"])
            code = running.ended()
            if code is not None:
                status["phase"] = "Failed" if code else "Succeeded"
                ended = {"exitCode": code, "reason": "Error" if code else "Completed"}
                status["containerStatuses"] = [
                    {
                        "name": "run",
                        "image": "x",
                        "imageID": "x",
                        "ready": False,
                        "restartCount": 0,
                        "state": {"terminated": ended},
                    }
                ]

    def _start(self, pod: Object) -> Running | None:
        """Start a pod's container; None while something that it mounts is not there."""
        about, spec = pod["metadata"], pod["spec"]
        (container,) = spec["containers"]
        root, ns = self.folder / about["name"], about["namespace"]
        mounted: dict[str, Object] = {}
        for volume in spec["volumes"]:
            if "configMap" in volume:
                found = self.objects.get(("configmaps", ns, volume["configMap"]["name"]))
                if found is None:
                    return None
                mounted[volume["name"]] = found
        claims = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in spec["volumes"]
            if "persistentVolumeClaim" in volume
        }
        env = {name: os.environ[name] for name in ("LANG", "ELSEWHERE") if name in os.environ}
        for one in container.get("envFrom", ()):
            found = self.objects.get(("secrets", ns, one["secretRef"]["name"]))
            if found is None:
                return None
            env |= found.get("stringData") or {}
        for one in container["env"]:
            if "valueFrom" in one:
                ref = one["valueFrom"]["secretKeyRef"]
                found = self.objects.get(("secrets", ns, ref["name"]))
                if found is None:
                    return None
                env[one["name"]] = found["stringData"][ref["key"]]
        maps = []
        for mount in container["volumeMounts"]:
            if mount["name"] in claims:
                # A claim is one folder for all; where a test says it, pods have it under the very name that they say.
                at, claim = Path(mount["mountPath"]), self.claim(claims[mount["name"]])
                if at.is_relative_to(self.folder.parent) and not at.exists():
                    at.symlink_to(claim)
                continue
            at = root / mount["mountPath"].lstrip("/")
            at.mkdir(parents=True, exist_ok=True)
            value = mounted.get(mount["name"], {})
            maps.append((at, value))
            for key, text in (value.get("binaryData") or {}).items():
                (at / key).write_bytes(base64.b64decode(text))

        def here(text: str) -> str:
            return re.sub(r"(?<![\w/.$-])/(work|colab_magics)(?=/|\W|$)", lambda found: f"{root}/{found[1]}", text)

        values = {one["name"]: here(one["value"]) for one in container["env"] if "value" in one}
        env |= {name: expanded(value, values) for name, value in values.items()}
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        env = {"HOME": str(self.home), "IPYTHONDIR": str(self.home / "ipython"), **env, "PATH": path}
        command = [here(expanded(part, values)) for part in (*container["command"], *container["args"])]
        return Running(command, env, root, maps)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_: KubernetesServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        server, url = self.server_, urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size) or b"{}")
        found, words = PATH.fullmatch(url.path), parse_qs(url.query)
        kind = found["kind"] if found else ""
        method = "WATCH" if words.get("watch", [""])[0].lower() == "true" else self.command
        server.asked.append(f"{method} {url.path}")
        meant = (method, "log" if found and found["log"] else kind)
        fault = next((one for one in server.faults if (one.method, one.kind) == meant), None)
        if fault is not None:
            server.faults.remove(fault)
        if fault is not None and fault.status:
            self.reply(fault.status, json.dumps(failure(fault.status, "a fault")), fault.headers)
            return
        if method == "WATCH" and not (fault is not None and fault.lost):
            self.watch(kind, str(found and found["ns"]), words, fault)
            return
        with server.lock:
            if self.headers.get("Authorization") != "Bearer abc":
                code, said = 401, json.dumps(failure(401, "Unauthorized"))
            elif found is None or kind not in KINDS:
                code, said = 404, json.dumps(failure(404, f"no such path: {url.path}"))
            else:
                code, said = self.act(kind, found["ns"], found["name"], bool(found["log"]), words, body)
                server.publish()
        if fault is not None and fault.lost:
            self.close_connection = True
            self.connection.close()
            return
        self.reply(code, said, cut=fault is not None and fault.cut)

    def watch(self, kind: str, ns: str, words: dict[str, list[str]], fault: Fault | None) -> None:
        """Tell what happens, a line of JSON each, in chunks, until the time is over that the client says."""
        server, end = self.server_, time.monotonic() + float(words["timeoutSeconds"][0])
        at, told = int(words["resourceVersion"][0]), time.monotonic()
        assert at, "0 may be answered by anything"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        problem = 410 if at < server.oldest else fault.error if fault is not None else 0
        if problem:
            self.event("ERROR", failure(problem, "too old resource version"))
        while not problem and time.monotonic() < end and not server._over.is_set():
            with server.lock:
                if server.version <= at:
                    server.changed.wait(0.2)
                fresh = [(what, one) for version, known, what, one in server.history if version > at and known == kind]
                at = max(at, server.version)
            for what, one in fresh:
                if chosen(one, words) and one["metadata"]["namespace"] == ns:
                    told = time.monotonic()
                    if not self.event(what, one, cut=fault is not None and fault.cut):
                        return
            if time.monotonic() > told + 1 and "allowWatchBookmarks" in words:
                told, api = time.monotonic(), "batch/v1" if kind == "jobs" else "v1"
                mark = {"kind": KINDS[kind], "apiVersion": api, "metadata": {"resourceVersion": str(at)}}
                if not self.event("BOOKMARK", mark):
                    return
        with contextlib.suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")

    def event(self, what: str, one: Object, *, cut: bool = False) -> bool:
        """Send an event, in two pieces; whether there is somebody who takes it."""
        data = json.dumps({"type": what, "object": one}).encode() + b"\n"
        half = len(data) // 2
        try:
            for piece in (data[:half],) if cut else (data[:half], data[half:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        except OSError:
            cut = True
        self.close_connection = self.close_connection or cut
        return not cut

    def act(
        self, kind: str, ns: str, name: str | None, log: bool, words: dict[str, list[str]], body: Object
    ) -> tuple[int, str]:
        server = self.server_
        if log:
            return server.log(ns, str(name), words)
        if self.command == "POST":
            code, value = server.create(kind, ns, body, dry=words.get("dryRun") == ["All"])
        elif self.command == "DELETE":
            code, value = server.delete(kind, ns, str(name))
        elif self.command == "PATCH":
            value = server.objects.get((kind, ns, str(name))) or failure(404, "not found")
            code = 404 if value.get("code") == 404 else 200
            value.setdefault("data", {}).update(body["data"])
        elif name is not None:
            value = server.objects.get((kind, ns, name)) or failure(404, "not found")
            code = int(value.get("code", 200)) if value.get("kind") == "Status" else 200
        else:
            server.publish()
            items = [one for one in server.of(kind) if chosen(one, words) and one["metadata"]["namespace"] == ns]
            api = "batch/v1" if kind == "jobs" else "v1"
            value = {"kind": f"{KINDS[kind]}List", "apiVersion": api, "items": items}
            value["metadata"] = {"resourceVersion": str(server.version)}
            code = 200
        return code, json.dumps(value)

    def reply(self, code: int, said: str, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        data = said.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json" if said.startswith("{") else "text/plain")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    do_GET = do_POST = do_DELETE = do_PATCH = answer


def chosen(one: Object, words: dict[str, list[str]]) -> bool:
    """Whether an object has the labels that are asked for."""
    said, labels = ",".join(words.get("labelSelector", [])), one["metadata"].get("labels", {})
    if several := re.fullmatch(r"(\S+) in \(([^()]*)\)", said):
        return labels.get(several[1]) in several[2].split(",")
    wanted = [part.split("=", 1) for part in said.split(",") if part]
    return all(labels.get(key) == value for key, value in wanted)


def failure(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def spans(numbers: set[int]) -> str:
    """``1,3-5``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}-{last}" if first != last else str(first) for first, last in found)


def stamp(at: float) -> str:
    when = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{int(at % 1 * 1e9):09d}Z".replace(".000000000Z", "Z")


@contextlib.contextmanager
def kubernetes_server(folder: Path, home: Path) -> Iterator[KubernetesServer]:
    """A server for a test; its pods have this home, so that what they leave running is ended with the test."""
    server = KubernetesServer(folder, home)
    try:
        yield server
    finally:
        server.close()


def check_answers(server: KubernetesServer) -> None:
    """Fail when something that the server holds is nothing that a cluster would."""
    told = [(kind, one) for _, kind, _, one in server.history]
    for kind, value in (*((kind, value) for (kind, _, _), value in list(server.objects.items())), *told[-50:]):
        if kind == "secrets":
            continue
        plain = json.loads(json.dumps(value))
        for name in ("creationTimestamp", "deletionTimestamp"):  # of which the models make times
            plain["metadata"].pop(name, None)
        assert same(of_models(plain), plain), plain
