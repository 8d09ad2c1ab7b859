"""A stand-in for Colab: its folders, and a small ``google.colab`` whose page the test plays.

Google's own package cannot be had outside of Colab. The names, arguments and errors of the stand-in are those of the
published one (googlecolab/colabtools).
"""

from __future__ import annotations

import importlib
import io
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from colab_magics import session
from colab_magics.ui import TerminalUI


@dataclass
class Page:
    """What stands on the other side of Colab's messages.

    Parameters
    ----------
    drive : Path
        Where the user's Drive is mounted.
    secrets : dict
        Name → value; None for one that the notebook may not read.
    notebooks : list
        Answers to ``get_ipynb``, one a request; an exception is raised.
    mount_error, flush_error : BaseException, optional
        What `mount` and `flush_and_unmount` raise.
    asked : list of str
        Every request that reached the page.
    sign_in_error : str, default ""
        What `authenticate_user` fails with.
    seconds : float, default 0
        How long the notebook takes to arrive.
    """

    drive: Path
    mounts: Path
    secrets: dict[str, str | None] = field(default_factory=dict)
    notebooks: list[Any] = field(default_factory=list)
    mount_error: BaseException | None = None
    flush_error: BaseException | None = None
    asked: list[str] = field(default_factory=list)
    sign_in_error: str = ""
    seconds: float = 0.0

    @property
    def cloud(self) -> Path:
        """Where Drive's files are while it is not mounted."""
        return self.drive.with_name("drive in the cloud")

    def ask(self, what: str) -> None:
        assert threading.current_thread() is threading.main_thread(), "Colab's messages are not thread-safe"
        self.asked.append(what)

    def mount(self, mountpoint: str, force_remount: bool = False, timeout_ms: int = 120000) -> None:
        self.ask(f"mount {mountpoint} {force_remount}")
        if self.mount_error is not None:
            raise self.mount_error
        if Path(mountpoint).is_dir() and any(Path(mountpoint).iterdir()) and not force_remount:
            raise ValueError("Mountpoint must not already contain files")
        if self.cloud.is_dir():
            Path(mountpoint).rmdir()
            self.cloud.rename(mountpoint)
        else:
            (Path(mountpoint) / "MyDrive").mkdir(parents=True)
        self.mounts.write_text(f"drive {mountpoint} fuse.drive rw 0 0\n")

    def unmount(self) -> None:
        """Leave an empty folder, as Colab does; what was on Drive is there again when it is mounted."""
        self.mounts.write_text("")
        self.drive.rename(self.cloud)
        self.drive.mkdir()

    def flush_and_unmount(self, timeout_ms: int = 24 * 60 * 60 * 1000) -> None:
        self.asked.append(f"flush {timeout_ms}")
        if self.flush_error is not None:
            raise self.flush_error
        if self.mounts.read_text():
            self.unmount()


@dataclass
class ColabUI(TerminalUI):
    """The face of a notebook on Colab."""

    out: Any = field(default_factory=io.StringIO)
    where: str = "colab"
    variables: dict[str, Any] = field(default_factory=dict)

    def set_variables(self, values: Mapping[str, Any]) -> None:
        self.variables.update(values)


def _google(page: Page) -> dict[str, ModuleType]:
    """Build the modules."""
    names = (
        "google",
        "google.colab",
        *(f"google.colab.{n}" for n in ("_message", "auth", "drive", "userdata", "runtime")),
    )
    found = {name: ModuleType(name) for name in names}
    for name in ("google", "google.colab"):
        found[name].__path__ = []  # type: ignore[attr-defined]
    for name, module in found.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(found[parent], last, module)

    class MessageError(Exception):
        pass

    class SecretNotFoundError(Exception):
        pass

    class NotebookAccessError(Exception):
        pass

    class TimeoutException(Exception):
        pass

    def blocking_request(
        request_type: str, request: Any = "", timeout_sec: float | None = 5, parent: Any = None
    ) -> Any:
        page.ask(request_type)
        if timeout_sec is not None and timeout_sec < page.seconds:
            return None
        answer = page.notebooks.pop(0)
        if isinstance(answer, str):
            raise MessageError(answer)
        return answer

    def get(key: str) -> str:
        page.ask(f"secret {key}")
        if key not in page.secrets:
            raise SecretNotFoundError(key)
        value = page.secrets[key]
        if value is None:
            raise NotebookAccessError(key)
        if value == "no answer":
            raise TimeoutException(key)
        return value

    found["google.colab._message"].__dict__.update(MessageError=MessageError, blocking_request=blocking_request)
    found["google.colab.userdata"].__dict__.update(
        get=get,
        SecretNotFoundError=SecretNotFoundError,
        NotebookAccessError=NotebookAccessError,
        TimeoutException=TimeoutException,
    )
    found["google.colab.drive"].__dict__.update(mount=page.mount, flush_and_unmount=page.flush_and_unmount)

    def authenticate_user(clear_output: bool = True, project_id: str | None = None) -> None:
        page.ask("authenticate")
        if page.sign_in_error:
            raise MessageError(page.sign_in_error)

    found["google.colab.auth"].__dict__.update(authenticate_user=authenticate_user)
    found["google.colab.runtime"].__dict__.update(unassign=lambda: page.ask("unassign"))
    return found


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """Return the folder that stands for ``/content``."""
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


@pytest.fixture
def page(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """Be a notebook on Colab."""
    page = Page(drive=content / "drive", mounts=tmp_path / "mounts")
    page.mounts.touch()
    for name, module in _google(page).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260801")
    monkeypatch.setenv("COLAB_MAGICS_CONTENT", str(content))
    monkeypatch.setenv("COLAB_MAGICS_DRIVE", str(page.drive))
    monkeypatch.setenv("COLAB_MAGICS_MOUNTS", str(page.mounts))
    monkeypatch.chdir(content)
    monkeypatch.setattr(sys, "path", list(sys.path))
    session.activate(session.Session(ui=ColabUI(), start_folder=content))
    yield page
    importlib.invalidate_caches()


@pytest.fixture
def ui(page: Page) -> ColabUI:
    """Return the notebook's face."""
    face = session.current().ui
    assert isinstance(face, ColabUI)
    return face
