"""The Kubernetes engine keeps to what all engines do, over the tests' API server, whose pods are processes here."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES, poll, set_up
from kubernetes_server import Fault, KubernetesServer

from colab_magics import jobs, process, session, submit
from colab_magics.checkout.project import Project
from colab_magics.engines.kubernetes import cluster
from colab_magics.engines.kubernetes.cluster import Cluster, Conflict, Refused
from colab_magics.engines.kubernetes.engine import KubernetesEngine
from colab_magics.engines.kubernetes.watched import Watched
from colab_magics.errors import InvalidInput, RunsFailed, Unavailable
from colab_magics.records.names import LOG, SCHEDULER
from colab_magics.records.run import runs_of
from colab_magics.runs import scheduler
from colab_magics.runs.select import select

from .engine_suite import EngineSuite


@pytest.fixture
def server(kubernetes: KubernetesServer) -> KubernetesServer:
    return kubernetes


@pytest.mark.long
@pytest.mark.timeout(300)
class TestKubernetesEngine(EngineSuite):
    @pytest.fixture
    def on(self, server: KubernetesServer) -> str:
        return "kubernetes"

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        made = set_up(tmp_path / "a'; echo foo $(touch gone)")
        (made.root / "config").mkdir()
        (made.root / "config/kube.yaml").write_text("image: python:3.12\n")
        return made


class TestAsking:
    """One call of the API, and what may go wrong with it."""

    def test_who_is_too_busy_is_asked_again_when_it_says_so(self, server: KubernetesServer) -> None:
        server.faults.append(Fault("GET", "jobs", 429, headers={"Retry-After": "0.3"}))
        began = time.monotonic()
        assert Cluster().jobs("a=b") == []
        assert time.monotonic() - began >= 0.3
        assert len(server.asked) == 2
        server.faults += [Fault("GET", "jobs", 503, headers={"Retry-After": "0"})] * 9
        with pytest.raises(Unavailable, match="too busy: a fault"):
            Cluster().jobs("a=b")
        assert len(server.asked) == 2 + 4, "not for ever"

    def test_what_makes_something_is_asked_once(self, server: KubernetesServer) -> None:
        about = {"name": "a", "labels": {"app.kubernetes.io/managed-by": "colab-magics"}}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"a": "b"}}
        server.faults.append(Fault("POST", "configmaps", 429, headers={"Retry-After": "0"}))
        with pytest.raises(Unavailable, match="too busy"):
            Cluster().create(dict(made))
        assert len(server.asked) == 1
        Cluster().create(dict(made))
        with pytest.raises(Conflict, match=r"has it already: .*already exists"):
            Cluster().create(dict(made))

    def test_who_says_to_come_back_in_an_hour_is_not_waited_for_that_long(
        self, server: KubernetesServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cluster, "_LONGEST", 0.1)
        server.faults.append(Fault("GET", "jobs", 429, headers={"Retry-After": "3600"}))
        assert Cluster().jobs("a=b") == []

    def test_a_connection_that_broke_is_made_anew(self, server: KubernetesServer) -> None:
        server.faults.append(Fault("GET", "pods", lost=True))
        assert Cluster().pods("a=b") == []

    def test_half_an_answer_is_none(self, server: KubernetesServer) -> None:
        server.faults.append(Fault("GET", "pods", cut=True))
        with pytest.raises(Unavailable):
            Cluster().pods("a=b")
        assert Cluster().pods("a=b") == []

    def test_what_is_gone_is_refused_with_its_reason(self, server: KubernetesServer) -> None:
        server.faults.append(Fault("GET", "pods", 410))
        with pytest.raises(Refused, match="refuses it: a fault"):
            Cluster().pods("a=b")


class TestDryRun:
    """What the cluster itself says of what it would get."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        made = set_up(tmp_path / "net")
        os.chdir(made.root)
        return made

    def test_the_server_is_asked_and_makes_nothing(self, project: Project, server: KubernetesServer) -> None:
        shown = str(submit("true", on="kubernetes", image="a", dry_run=True))
        assert "The cluster would take net-baseline-" in shown
        assert "POST /apis/batch/v1/namespaces/lab/jobs" in server.asked
        stays = str(submit(on="kubernetes", interactive=True, image="a", dry_run=True))
        assert "The cluster would take net-interactive-" in stays
        assert server.objects == {}

    def test_what_the_server_refuses_is_shown(self, project: Project, server: KubernetesServer) -> None:
        server.faults.append(Fault("POST", "jobs", 403))
        shown = str(submit("true", on="kubernetes", image="a", dry_run=True))
        assert re.search(r"would not take Job net-baseline-\S+: The cluster refuses it: a fault", shown)
        server.close()
        shown = str(submit("true", on="kubernetes", image="a", dry_run=True))
        assert "The cluster was not asked: The cluster does not answer" in shown

    if os.environ.get("KUBECONFIG"):

        def test_a_real_cluster_would_take_it(self, project: Project) -> None:
            options = {"gpus": "1", "memory": "1GB", "cpus": "1", "gpu_blacklist": "none", "tolerations": "a=b"}
            shown = str(submit("true", n=3, on="kubernetes", image="python:3.12", dry_run=True, **options))
            assert "The cluster would take net-baseline-" in shown


class TestWatching:
    """What is seen of pods without asking for them."""

    @pytest.fixture
    def watched(self, server: KubernetesServer) -> Iterator[Watched]:
        server.suspends_pods = True
        self.make(server, "first")
        made = Watched(Cluster(), "Pod", "of")
        yield made
        made.end()

    def make(self, server: KubernetesServer, name: str, of: str = "mine") -> None:
        labels = {"of": of}
        container = {"name": "run", "image": "a", "volumeMounts": []}
        spec = {"containers": [container], "volumes": [], "restartPolicy": "Never"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        with server.lock:
            code, said = server.create("pods", "lab", pod)
            assert code == 201, said
            server.publish()

    def names(self, watched: Watched) -> list[str]:
        return [pod["metadata"]["name"] for pod in watched.of(["mine"])["mine"]]

    def asked(self, server: KubernetesServer) -> list[str]:
        return [word.partition(" ")[0] for word in server.asked]

    def test_a_look_costs_no_request_and_shows_what_has_changed(
        self, server: KubernetesServer, watched: Watched
    ) -> None:
        assert self.names(watched) == ["first"]
        self.make(server, "second")
        self.make(server, "another", of="others")
        poll(lambda: self.names(watched) == ["first", "second"])
        with server.lock:
            server.of("pods")[0]["status"]["phase"] = "Running"
        poll(lambda: watched.of(["mine"])["mine"][0]["status"]["phase"] == "Running")
        with server.lock:
            server.delete("pods", "lab", "second")
        poll(lambda: self.names(watched) == ["first"])
        assert self.asked(server) == ["GET", "WATCH"]
        assert [one["metadata"]["name"] for one in watched.of(["mine", "others"])["others"]] == ["another"]

    @pytest.mark.parametrize(
        ("fault", "lists"),
        [
            (Fault("WATCH", "pods", cut=True), 1),
            (Fault("WATCH", "pods", lost=True), 1),
            (Fault("WATCH", "pods", 429, headers={"Retry-After": "0.1"}), 1),
            (Fault("WATCH", "pods", 503, headers={"Retry-After": "0.1"}), 1),
            (Fault("WATCH", "pods", 410), 2),
            (Fault("WATCH", "pods", error=410), 2),
            (Fault("WATCH", "pods", error=500), 1),
        ],
        ids=["cut", "lost", "429", "503", "410", "error-410", "error-500"],
    )
    def test_a_watch_that_ends_too_soon_loses_nothing(
        self, server: KubernetesServer, watched: Watched, fault: Fault, lists: int
    ) -> None:
        server.faults.append(fault)
        assert self.names(watched) == ["first"]
        self.make(server, "second")
        poll(lambda: self.names(watched) == ["first", "second"])
        self.make(server, "third")
        poll(lambda: self.names(watched) == ["first", "second", "third"])
        assert server.faults == []
        assert self.asked(server).count("GET") == lists

    def test_who_was_away_for_so_long_that_nobody_knows_lists_again(
        self, server: KubernetesServer, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cluster, "WATCH", 1)
        assert self.names(watched) == ["first"]
        server.forget()
        self.make(server, "second")
        poll(lambda: self.names(watched) == ["first", "second"])
        poll(lambda: self.asked(server).count("WATCH") > 2, what="each lasts a second")
        assert self.asked(server).count("GET") < 3

    def test_who_may_list_but_not_watch_lists(self, server: KubernetesServer, watched: Watched) -> None:
        server.faults += [Fault("WATCH", "pods", 403)] * 100
        assert self.names(watched) == ["first"]
        self.make(server, "second")
        poll(lambda: self.names(watched) == ["first", "second"])

    def test_as_long_as_nobody_answers_nobody_can_tell(
        self, server: KubernetesServer, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cluster, "WATCH", 1)
        assert self.names(watched) == ["first"]
        server.faults += [Fault("WATCH", "pods", lost=True)] * 1000
        self.make(server, "second")

        def is_told() -> bool:
            try:
                return not self.names(watched)
            except Unavailable:
                return True

        poll(is_told)
        server.faults.clear()
        poll(lambda: not is_told() and self.names(watched) == ["first", "second"], timeout=60)


@pytest.mark.long
@pytest.mark.timeout(300)
class TestFaults:
    """What goes wrong between a scheduler and the cluster: nothing is lost, and nothing executed twice."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        made = set_up(tmp_path / "net")
        os.chdir(made.root)
        (made.root / "config").mkdir()
        (made.root / "config/kube.yaml").write_text("image: python:3.12\n")
        return made

    @pytest.mark.parametrize(
        "faults",
        [
            [
                Fault("POST", "jobs", 429, headers={"Retry-After": "0"}),
                Fault("POST", "jobs", 503),
                Fault("POST", "jobs", 409),
                Fault("POST", "jobs", cut=True),
                Fault("POST", "jobs", lost=True),
            ],
            [
                Fault("POST", "configmaps", 500),
                Fault("POST", "configmaps", 403),
                Fault("POST", "configmaps", 409),
                Fault("POST", "configmaps", lost=True),
            ],
            [
                Fault("GET", "jobs", 410),
                Fault("GET", "jobs", lost=True),
                Fault("WATCH", "jobs", error=410),
                Fault("GET", "pods", 429, headers={"Retry-After": "0"}),
                Fault("GET", "pods", 410),
                Fault("GET", "pods", cut=True),
                Fault("WATCH", "pods", 429, headers={"Retry-After": "0"}),
                Fault("WATCH", "pods", lost=True),
                Fault("WATCH", "pods", error=410),
                Fault("GET", "log", 410),
                Fault("GET", "log", 429, headers={"Retry-After": "1"}),
                Fault("GET", "log", lost=True),
                Fault("GET", "log", cut=True),
            ],
        ],
        ids=["jobs", "maps", "asking"],
    )
    def test_faults_one_after_the_other_cost_no_run_and_double_none(
        self, project: Project, server: KubernetesServer, faults: list[Fault]
    ) -> None:
        server.faults += faults
        count, go = project.root.parent / "count", project.root.parent / "go"
        line = f'echo x >> "{count}"; echo said; while ! test -e "{go}"; do sleep 0.1; done'
        submit("sh", "-c", line, on="kubernetes")
        poll(lambda: not server.faults and count.exists(), timeout=120)
        server.faults += [Fault("GET", "pods", 410), Fault("GET", "log", lost=True), Fault("GET", "log", cut=True)]
        go.touch()
        (run,) = runs_of(project.data_job)
        poll(lambda: run.status().phase == "done", timeout=60)
        assert not server.faults, "all of them happened"
        assert "said\n" in (project.data_job / "sub_job_000" / LOG).read_text()
        assert count.read_text().split() == ["x"]
        assert len(server.of("pods")) == 1

    def test_a_job_that_the_cluster_refuses_is_told_and_the_run_waits(
        self, project: Project, server: KubernetesServer
    ) -> None:
        server.faults += [Fault("POST", "jobs", 403)] * 1000
        submit("true", on="kubernetes")
        state = project.data_job / SCHEDULER / "state.json"
        poll(lambda: "refuses it: a fault" in (process.read_json(state) or {}).get("problem", ""))
        assert server.of("pods") == []
        server.faults.clear()
        poll(lambda: [run.status().phase for run in runs_of(project.data_job)] == ["done"], timeout=60)

    def test_a_run_that_is_killed_while_others_go_on(self, project: Project, server: KubernetesServer) -> None:
        go = project.root.parent / "go"
        line = f'while ! test -e "{go}"; do sleep 0.1; done'
        submit("sh", "-c", line, n=3, on="kubernetes", workers="2")
        runs = runs_of(project.data_job)
        poll(lambda: [run.status().phase for run in runs] == ["running", "running", "waiting"], timeout=60)
        scheduler.kill([runs[0], runs[2]])
        poll(lambda: runs[0].status().phase == "killed" and not runs[0].is_out(), timeout=60)
        assert runs[1].status().phase == "running"
        poll(lambda: runs[2].status().phase == "killed" and not runs[2].is_out(), timeout=60)
        go.touch()
        poll(lambda: runs[1].status().phase == "done", timeout=60)

    def test_a_pod_that_vanishes_is_a_lost_run_with_what_the_cluster_says(
        self, project: Project, server: KubernetesServer
    ) -> None:
        submit("sleep", "100", on="kubernetes")
        (run,) = runs_of(project.data_job)
        poll(lambda: run.status().phase == "running", timeout=60)
        with server.lock:
            (pod,) = server.of("pods")
            server.running[pod["metadata"]["uid"]].process.kill()
        poll(lambda: run.status().phase == "interrupted" and not run.is_out(), timeout=60)
        assert "exit code 137" in (run.verdict() or {})["reason"]

    def test_a_pod_that_gives_way_is_followed_by_another_and_both_logs_come_home(
        self, project: Project, server: KubernetesServer
    ) -> None:
        go = project.root.parent / "go"
        line = f'echo begun; while ! test -e "{go}"; do sleep 0.1; done; echo ended; echo x > "$data_job/out"'
        submit("sh", "-c", line, on="kubernetes")
        (run,) = runs_of(project.data_job)
        poll(lambda: run.log.exists() and "\nbegun\n" in run.log.read_text(), timeout=60)
        server.evict(*server.of("pods"))
        poll(lambda: run.log.read_text().count("\nbegun\n") == 2, timeout=60)
        go.touch()
        poll(lambda: run.status().phase == "done", timeout=60)
        assert run.log.read_text().count("\nended\n") == 1
        assert (run.folder / "out").read_text() == "x\n"
        assert len(server.of("pods")) == 2

    def test_results_that_are_too_large_for_the_log_are_no_success(
        self, project: Project, server: KubernetesServer
    ) -> None:
        with pytest.raises(RunsFailed, match=r"ResultsLost"):
            submit("sh", "-c", 'head -c 5000000 /dev/urandom > "$data_job/big"', on="kubernetes", wait=True)
        (run,) = runs_of(project.data_job)
        said = run.status().error["evalue"]
        assert "results=/data volumes.CLAIM=/data" in said
        assert "results=s3://BUCKET/FOLDER" in said

    def test_files_of_any_name_come_home_and_those_of_before_go_there(
        self, project: Project, server: KubernetesServer
    ) -> None:
        names = [name for name in HOSTILE_NAMES if "/" not in name]
        code = "import os, sys; [open(os.path.join(os.environ['data_job'], n), 'a').write('x') for n in sys.argv[1:]]"
        with pytest.raises(RunsFailed):
            submit("python", "-c", f"{code}; sys.exit(3)", *names, on="kubernetes", wait=True, retries=1)
        found = {name: (project.data_job / "sub_job_000" / name).read_text() for name in names}
        assert found == dict.fromkeys(names, "xx")

    def test_gpus_secrets_and_options_of_the_line_are_in_the_job(
        self, project: Project, server: KubernetesServer
    ) -> None:
        options = {"gpu_whitelist": "A10", "memory": "2GB", "secrets.TOKEN": "wandb/key", "queue": "lab"}
        submit("true", on="kubernetes", gpus="2", **options)
        (job,) = poll(lambda: server.of("jobs"))
        assert job["spec"]["suspend"] is True
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"] == {"memory": "4G", "nvidia.com/gpu": "2"}
        poll(
            lambda: (
                [run.status().text for run in runs_of(project.data_job)] == ["queued on kubernetes (in the queue lab)"]
            )
        )
        jobs.kill("baseline")
        poll(lambda: server.of("jobs") == [])

    def test_a_run_whose_image_cannot_be_pulled_says_so_while_it_waits(
        self, project: Project, server: KubernetesServer
    ) -> None:
        server.suspends_pods = True
        submit("true", on="kubernetes", image="nowhere.example/a:b")
        (run,) = runs_of(project.data_job)
        (pod,) = poll(lambda: server.of("pods"), timeout=60)
        poll(lambda: run.status().text == "queued on kubernetes", timeout=60)
        about = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
        state = {"name": "run", "image": "a", "imageID": "", "ready": False, "restartCount": 0}
        with server.lock:
            pod["status"]["containerStatuses"] = [{**state, "state": {"waiting": about}}]
        said = "queued on kubernetes (ImagePullBackOff: Back-off pulling image)"
        poll(lambda: run.status().text == said, timeout=60)
        with server.lock:
            del pod["status"]["containerStatuses"]
            server.suspends_pods = False
        poll(lambda: run.status().phase == "done", timeout=60)

    def test_a_file_of_launches_is_executed_and_kept(self, project: Project, server: KubernetesServer) -> None:
        (project.root / "config/launch.yaml").write_text(
            "model:\n"
            "  a: {command: 'echo <name> <hp> > \"$data_job/out\"', hparam: {hp: [1, 2]}, gpu_count: 1}\n"
            "  b: {command: 'echo <name> > \"$data_job/out\"'}\n"
            "dataset: {d: {hparam: {name: AB}}}\n"
        )
        board = submit("launch.yaml", wait=True)
        folders = [run.folder for run in board.runs]  # type: ignore[union-attr]
        assert [(folder / "out").read_text() for folder in folders] == ["AB 1\n", "AB 2\n", "AB\n"]
        names = [run.name for run in runs_of(project.data_job)]
        (found,) = select(project.data_job.parent, [names[1]], job="baseline")
        assert found.index == 1, "%jobs show takes the name, too"
        called = [name.rpartition("-")[0] for name in names]
        assert called == ["a-d-1-ab", "a-d-2-ab", "b-d-ab"]
        assert sorted(job["spec"]["completions"] for job in server.of("jobs")) == [1, 2]
        asked = len(server.asked)
        submit("launch.yaml", wait=True)
        assert len(server.asked) == asked, "all of them are kept"

    def test_a_pod_that_stays_has_the_code_and_says_how_it_is_entered_and_deleted(  # U13
        self, project: Project, server: KubernetesServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project.root / "train.py").write_text("print(1)\n")
        monkeypatch.setenv("TOKEN", "s3cr3t")
        session.current().secrets.append("TOKEN")
        said = str(submit(on="kubernetes", interactive=True, cpus="1"))
        (pod,) = server.of("pods")
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        assert f"kubectl --namespace lab exec -it {name} -c run -- sh -c 'cd /work/code && exec bash'" in said
        assert f"kubectl --namespace lab delete pod {name}" in said
        poll(lambda: (server.folder / name / "work/code/train.py").exists())
        assert pod["status"]["phase"] == "Running"
        assert pod["spec"]["restartPolicy"] == "Never"
        owned = [one["metadata"] for kind in ("configmaps", "secrets") for one in server.of(kind)]
        assert [one["name"] for one in owned] == [f"{name}-code", f"{name}-env"]
        assert {one["ownerReferences"][0]["uid"] for one in owned} == {uid}, "they go with the pod"
        assert "s3cr3t" not in str(pod)
        assert runs_of(project.data_job) == []
        submit(on="kubernetes", interactive=True)
        assert len(server.of("pods")) == 2, "each call makes its own"

    @pytest.mark.parametrize("fault", [Fault("POST", "configmaps", 403), Fault("POST", "pods", lost=True)], ids=str)
    def test_a_pod_that_could_not_be_made_whole_does_not_stay(
        self, project: Project, server: KubernetesServer, fault: Fault
    ) -> None:
        server.faults.append(fault)
        with pytest.raises(Unavailable):
            submit(on="kubernetes", interactive=True)
        poll(lambda: server.of("pods") == [])

    def test_what_cannot_be_is_told_before_anything_starts(
        self, project: Project, server: KubernetesServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(InvalidInput, match="contradict"):
            submit("true", on="kubernetes", gpu_whitelist="a", gpu_blacklist="b")
        with pytest.raises(InvalidInput, match="whole GPUs"):
            submit("true", on="kubernetes", gpus="0.5")
        with pytest.raises(InvalidInput, match="takes no more words"):
            submit("true", on="kubernetes:here")
        monkeypatch.setenv("KUBECONFIG", "/nowhere")
        with pytest.raises(Unavailable, match="kubeconfig"):
            submit("true", on="kubernetes")
        assert KubernetesEngine.why_not() == "there is no kubeconfig: KUBECONFIG, or ~/.kube/config"
        assert server.asked == []
        assert runs_of(project.data_job) == []
