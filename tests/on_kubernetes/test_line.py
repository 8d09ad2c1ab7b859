"""What a line says to ``on=kubernetes``, and a file of a clone that counts after a yes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import git

from colab_magics import submit, trust
from colab_magics.engines import engine_class, open_engine, options
from colab_magics.engines.kubernetes import settings
from colab_magics.engines.kubernetes.options import Options
from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.faces import engine_options

LINE = """--image=python:3.12 --gpu-whitelist=A10,A40 --memory=16GB --code=git --volumes.data=/data --env.EPOCHS=3
--secrets.TOKEN=wandb/key --restarts=2 --hostname-blacklist=n1"""


def test_the_words_of_a_line_are_options_of_the_engine() -> None:
    known = engine_options.known(submit, ["--on=kubernetes"])
    others, said = engine_options.take([*LINE.split(), "--workers=2"], known)
    assert others == ["--workers=2"]
    found = options.read(Options, said, on="kubernetes")
    assert found == Options(
        image="python:3.12",
        gpu_whitelist=("A10", "A40"),
        hostname_blacklist=("n1",),
        memory="16GB",
        code="git",
        volumes={"data": "/data"},
        env={"EPOCHS": "3"},
        secrets={"TOKEN": "wandb/key"},
        restarts=2,
    )


def test_every_option_is_explained() -> None:
    text = Options.__doc__ or ""
    for name in options.fields(Options):
        assert name.rstrip(".") in text, name


def test_without_the_client_or_a_kubeconfig_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert "there is no kubeconfig" in engine_class("kubernetes").why_not()
    with pytest.raises(Unavailable, match=r"no kubeconfig.*\n→ See: kubectl"):
        open_engine("kubernetes").available()
    with pytest.raises(InvalidInput, match=r"kubernetes: not here: there is no kubeconfig"):
        engine_class("kubernetis")
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    assert engine_class("kubernetes").why_not().endswith("(pip install 'colab-magics[kubernetes]')")


def test_trust_shows_a_file_of_a_clone_and_lets_it_count(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/kube.yaml").write_text("image: evil.example/image\n")
    git("init", "--quiet", str(tmp_path))
    git("add", ".", cwd=tmp_path)
    assert "evil.example/image" in str(trust(str(tmp_path), yes=True))
    assert settings.read(tmp_path, project="net", warn=pytest.fail).image == "evil.example/image"
    (tmp_path / "config/kube.yaml").write_text("image: worse.example/image\n")
    with pytest.raises(InvalidInput, match="which image"):
        settings.read(tmp_path, project="net")
