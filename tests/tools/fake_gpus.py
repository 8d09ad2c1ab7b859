"""GPUs that are none: a program ``nvidia-smi`` on the PATH that prints what the real one would, from a JSON file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAM = """#!{python} -IS
import json, sys, time
with open({state!r}) as stream:
    state = json.load(stream)
with open({calls!r}, "a") as stream:
    stream.write(" ".join(sys.argv[1:]) + "\\n")
if state["mode"] == "hang":
    time.sleep(300)
if state["mode"] == "fail":
    print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\\n")
    sys.exit(9)
if sys.argv[1] == "-L":
    for i, gpu in enumerate(state["gpus"]):
        print(f"GPU {{i}}: {{gpu['name']}} (UUID: {{gpu['uuid']}})")
        for j, part in enumerate(gpu.get("mig", [])):
            print(f"  MIG {{part['name']:<14}}  Device {{j:>2}}: (UUID: {{part['uuid']}})")
elif sys.argv[1] == "--query-gpu=index,uuid,memory.total,memory.used,name":
    for i, gpu in enumerate(state["gpus"]):
        print(f"{{i}}, {{gpu['uuid']}}, {{gpu['memory']}}, 3, {{gpu['name']}}")
    if not state["gpus"]:
        print("No devices were found")
        sys.exit(6)
elif sys.argv[1] == "--query-gpu=index,uuid,memory.total,memory.free,utilization.gpu,name":
    for i, gpu in enumerate(state["gpus"]):
        print(f"{{i}}, {{gpu['uuid']}}, {{gpu['memory']}}, {{gpu['free']}}, {{gpu['percent']}}, {{gpu['name']}}")
    if not state["gpus"]:
        print("No devices were found")
        sys.exit(6)
elif sys.argv[1] == "--query-compute-apps=gpu_uuid,pid,used_memory":
    for pid, uuid, memory in state["apps"]:
        print(f"{{uuid}}, {{pid}}, {{memory}}")
elif sys.argv[1] == "--query-compute-apps=pid,gpu_uuid,used_memory":
    for pid, uuid, memory in state["apps"]:
        print(f"{{pid}}, {{uuid}}, {{memory}}")
else:
    sys.exit(2)
"""


class FakeGpus:
    """The fake program and what it says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.calls = folder / "gpus.json", folder / "calls"
        self.calls.touch()
        self.say(0)
        program = folder / "bin" / "nvidia-smi"
        self.path = str(program.parent)
        program.parent.mkdir()
        program.write_text(PROGRAM.format(python=sys.executable, state=str(self.state), calls=str(self.calls)))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)

    def say(
        self,
        count: int,
        *,
        apps: Sequence[tuple[int, str, int]] = (),
        mode: str = "ok",
        mig: Sequence[Sequence[str]] = (),
        free: Sequence[int] = (),
        percent: Sequence[int] = (),
    ) -> list[str]:
        """Have it show so many GPUs, cut into parts of these names; return the UUIDs that can be given out."""
        gpus = []
        for i in range(count):
            parts = [
                {"name": name, "uuid": f"MIG-{i}{j}00-abcd"} for j, name in enumerate(mig[i] if i < len(mig) else ())
            ]
            gpu = {"uuid": f"GPU-{i}00f-dead-beef", "name": "NVIDIA T4", "memory": 15360, "mig": parts}
            gpu.update(free=free[i] if i < len(free) else 15357, percent=percent[i] if i < len(percent) else 0)
            gpus.append(gpu)
        fresh = self.state.with_suffix(".new")
        fresh.write_text(json.dumps({"gpus": gpus, "apps": apps, "mode": mode}))
        fresh.replace(self.state)
        return [part["uuid"] for gpu in gpus for part in (gpu["mig"] or [gpu])]


@pytest.fixture
def gpus(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    """A machine with the fake program; the GPUs are to be set by `say`."""
    return FakeGpus(tmp_path_factory.mktemp("gpus"), monkeypatch)
