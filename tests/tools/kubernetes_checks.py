"""What a cluster would say of an object, as far as that can be known without one.

Kubernetes' own schemas in their strict form (unknown keys, types, what is missing), the official client's models (what
these do not know is lost on the way), and the rules that no schema holds: names, labels, variables, what refers to
what. Where KUBECONFIG names a real API server and COLAB_MAGICS_REAL_CLUSTER is set, it is asked, too, by a dry run.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import kubernetes
import kubernetes_validate

VERSION = "1.33"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def of_models(value: dict[str, Any]) -> dict[str, Any]:
    """Return what the client's models keep of an object."""
    api = kubernetes.client.ApiClient(kubernetes.client.Configuration())
    # What the client does with an answer; how it is called differs between its versions.
    made = api._ApiClient__deserialize(json.loads(json.dumps(value)), f"V1{value['kind']}")
    return dict(api.sanitize_for_serialization(made))


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same but for keys that hold nothing."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = {key for one in (first, second) for key, value in one.items() if value not in (None, {}, [])}
        return all(same(first.get(key), second.get(key)) for key in keys)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and bool(first == second)


def check(value: dict[str, Any]) -> None:
    """Fail when a cluster would not take an object."""
    kubernetes_validate.validate(value, VERSION, strict=True)
    assert same(of_models(value), value), "the client's models lose something"
    about = value["metadata"]
    assert NAME.fullmatch(about["name"]), about["name"]
    check_labels(about["labels"])
    if value["kind"] == "Job":
        # "<job>-<index>" is a host name.
        assert len(f"{about['name']}-{value['spec']['completions']}") <= 63
        check_labels(value["spec"]["template"]["metadata"]["labels"])
        check_job(value["spec"])
        check_pod(value["spec"]["template"]["spec"])
    if value["kind"] == "Pod":
        check_pod(value["spec"])
    if value["kind"] == "ConfigMap":
        assert not value.get("data", {}).keys() & value.get("binaryData", {}).keys()
    if os.environ.get("COLAB_MAGICS_REAL_CLUSTER"):
        ask_a_real_one(value)


def check_labels(labels: dict[str, str]) -> None:
    assert all(KEY.fullmatch(key) and VALUE.fullmatch(text) for key, text in labels.items()), labels


def check_job(spec: dict[str, Any]) -> None:
    """The rules of batch/v1 that the schema leaves to the server."""
    assert spec["completionMode"] == "Indexed"
    assert 1 <= spec["parallelism"] <= spec["completions"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy needs it"
    containers = {one["name"] for one in spec["template"]["spec"]["containers"]}
    for rule in spec["podFailurePolicy"]["rules"]:
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        codes = rule.get("onExitCodes")
        if codes:
            assert codes["containerName"] in containers
            assert codes["values"] == sorted(set(codes["values"]))
            assert 0 not in codes["values"] or codes["operator"] != "In"
        if rule["action"] == "FailIndex":
            assert "backoffLimitPerIndex" in spec
    assert spec["podReplacementPolicy"] == "Failed", "the only one with a podFailurePolicy"


def check_pod(spec: dict[str, Any]) -> None:
    volumes = [one["name"] for one in spec["volumes"]]
    assert len(set(volumes)) == len(volumes)
    assert all(NAME.fullmatch(name) for name in volumes)
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        mounts = container["volumeMounts"]
        assert {one["name"] for one in mounts} <= set(volumes)
        assert len({one["mountPath"].rstrip("/") for one in mounts}) == len(mounts)
        names = [one["name"] for one in container.get("env", ())]
        assert len(set(names)) == len(names)
        resources = container.get("resources", {})
        for name, amount in resources.get("limits", {}).items():
            least = resources["requests"][name]
            assert number(least) <= number(amount)
            assert "/" not in name or least == amount, "extended resources are not overcommitted"


def number(amount: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", amount)
    assert found, amount
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(found[1]) * (units[found[2]] if found[2] else 1)


def ask_a_real_one(value: dict[str, Any]) -> None:
    api = kubernetes.config.new_client_from_config()
    namespace = value["metadata"].get("namespace", "default")
    kubernetes.utils.create_from_dict(api, value, namespace=namespace, dry_run="All")


def expanded(text: str, variables: dict[str, str]) -> str:
    """Expand ``$(NAME)`` as a kubelet does."""
    out, at = "", 0
    while at < len(text):
        if text[at] == "$" and at + 1 < len(text):
            follows = text[at + 1]
            end = text.find(")", at) if follows == "(" else -1
            if follows == "$":
                out, at = out + "$", at + 2
            elif end > 0:
                name = text[at + 2 : end]
                out, at = out + variables.get(name, f"$({name})"), end + 1
            else:
                out, at = out + text[at : at + 2], at + 2
        else:
            out, at = out + text[at], at + 1
    return out
