"""The job and the parameters of an uploaded copy: set where the notebook says them, and nothing else is touched."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from conftest import HOSTILE_NAMES
from fronts import notebook

from colab_magics.colab.metadata import device, with_runtime
from colab_magics.errors import InvalidInput
from colab_magics.line import split, with_option
from colab_magics.payloads.leaks import in_outputs, in_sources, known
from colab_magics.payloads.preset import job_of, with_job, with_parameters, without_uploads


def named(*sources: str, job: str = "new", tag: int | None = None) -> list[str]:
    """Set the job of a notebook of these cells; returns their sources."""
    content = notebook(*sources)
    if tag is not None:
        content.cells[tag].metadata["tags"] = ["parameters"]
    made = with_job(content, job)
    assert content.cells[0].source == sources[0], "it is a copy"
    return [cell["source"] for cell in made["cells"]]


# B19, ✗ "a backslash breaks the replacement"
class TestB19TheJobIsSet:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ('job_name = "old"', "job_name = 'new'"),
            ("job_name='old'  # mine", "job_name='new'  # mine"),
            ('job_name = """old"""', "job_name = 'new'"),
            ('job_name = """o\nl\nd"""\nx = 1', "job_name = 'new'\nx = 1"),
            ('job_name = (\n    "o"\n    "ld"\n)', "job_name = (\n    'new'\n)"),
            ("job_name = r'o\\ld'; x = '\\n'", "job_name = 'new'; x = '\\n'"),
            ('ü = "日本"; job_name = "old"; é = "本"', "ü = \"日本\"; job_name = 'new'; é = \"本\""),
            ('job_name: str = "old"', "job_name: str = 'new'"),
            ('!ls "a"\njob_name = "old"\n%time x = 1', "!ls \"a\"\njob_name = 'new'\n%time x = 1"),
            ('# job_name = "other"\njob_name = "old"', "# job_name = \"other\"\njob_name = 'new'"),
            ("%project git=x job=old --force", "%project git=x job=new --force"),
            ("x = 1\nnet = %project job='o l d' # job=a", "x = 1\nnet = %project job=new # job=a"),
            ("%project git=x \\\n  job=old \\\n  every=3s", "%project git=x \\\n  job=new \\\n  every=3s"),
            ("%project job=$name;", "%project job=new"),
            ("%%project job=old\nname = 'x'", "%%project job=new\nname = 'x'"),
            ("%%project\nname = 'x'\njob = 'old'\n", "%%project\nname = 'x'\njob = \"new\"\n"),
            ("%project git=x", "%project git=x job=new"),
            ("%project git=x;", "%project git=x job=new;"),
            ("%project git=x  # job=a", "%project git=x job=new  # job=a"),
            ("%project", "%project job=new"),
            ("%%project\nname = 'x'", "%%project job=new\nname = 'x'"),
        ],
    )  # fmt: skip
    def test_where_the_cell_says_it(self, before: str, after: str) -> None:
        assert named(before) == [after]

    def test_in_the_first_code_cell_that_has_one(self) -> None:
        cells = ["import os", "%project git=x", 'job_name = "a"', 'job_name = "b"']
        assert named(*cells) == [*cells[:2], "job_name = 'new'", cells[3]]

    # ✗ "silent when cell 0 is markdown"
    def test_a_markdown_cell_in_front_is_no_code(self) -> None:
        content = notebook('job_name = "old"', 'job_name = "old"')
        content.cells[0].cell_type = "markdown"
        assert [cell["source"] for cell in with_job(content, "new")["cells"]] == [
            'job_name = "old"',
            "job_name = 'new'",
        ]

    def test_in_the_cell_of_parameters(self) -> None:
        assert named("import os", 'job = "old"\nlr = 0.1', tag=1) == ["import os", "job = 'new'\nlr = 0.1"]

    def test_sources_that_are_lists_stay_lists(self) -> None:
        content = {"cells": [{"cell_type": "code", "metadata": {}, "source": ["x = 1\n", 'job_name = "a"\n', "y = 2"]}]}
        assert with_job(content, "b")["cells"][0]["source"] == ["x = 1\n", "job_name = 'b'\n", "y = 2"]

    @pytest.mark.parametrize(
        "source", ["x = 1", "job_name = f()", 'job = "a"', 'text = """\n%project job=x\n"""', "# x"]
    )
    def test_none_that_says_it_is_an_error(self, source: str) -> None:
        with pytest.raises(InvalidInput, match="No cell of the notebook says which job it is"):
            named(source)

    @pytest.mark.parametrize("job", [*HOSTILE_NAMES[:-1], "a\\b\\1", "$x", "{y}", "a;", "#a", "--", "-x", "'"])
    def test_any_name_arrives_as_it_is(self, job: str) -> None:
        (source,) = named('job_name = "old"', job=job)
        found: dict[str, Any] = {}
        exec(source, found)
        assert found["job_name"] == job
        (source,) = named("%%project\njob = 'old'", job=job)
        assert tomllib.loads(source.partition("\n")[2]) == {"job": job}

    @pytest.mark.parametrize("job", [*HOSTILE_NAMES[:-1], "a\\b", "$x", "{y}", "a;", "#a", "--", "'"])
    def test_any_name_in_a_line(self, job: str, tmp_path: Any) -> None:
        from colab_magics.faces.expand import expand

        for text in (" git=x job=old -- job=z", " git=x -- job=z"):
            line = split(with_option(text, "job", job))
            (word,) = [token.as_option().text for token in line.tokens if token.text.startswith("job=")]
            assert expand(word.removeprefix("--job="), {}) == job
            assert line.rest == ["job=z"]
        assert job_of(with_job(notebook("%project"), job)) == job

    def test_the_job_that_it_names_itself(self) -> None:
        assert job_of(notebook("x = 1", "%project git=x job='a b'")) == "a b"
        assert job_of(notebook('job_name = "a"')) == "a"
        assert job_of(notebook("%project job=$name")) is None
        assert job_of(notebook("x = 1")) is None


class TestParameters:
    def test_they_are_set_where_they_stand(self) -> None:
        content = notebook("import os", "lr = 0.1  # rate\nsize: str = 'small'\nlist = [\n  1,\n]\nlr = lr")
        content.cells[1].metadata["tags"] = ["parameters"]
        made = with_parameters(content, {"lr": 1e-3, "size": "bi'g", "list": [1, 2]})
        assert made["cells"][1]["source"] == ('lr = 0.1  # rate\nsize: str = "bi\'g"\nlist = [1, 2]\nlr = 0.001'), (
            "the last assignment is the one that counts"
        )

    def test_an_unknown_one_and_a_missing_cell(self) -> None:
        content = notebook("epochs = 3")
        with pytest.raises(InvalidInput, match="no cell with the tag parameters"):
            with_parameters(content, {"epochs": 4})
        content.cells[0].metadata["tags"] = ["parameters"]
        with pytest.raises(InvalidInput, match="did you mean epochs"):
            with_parameters(content, {"epoch": 4})


def test_what_uploads_does_not_go_along() -> None:
    sources = ["x = %upload job=a \\\n  gpu=T4\ny = 1", "if x:\n    %upload\n", "%%upload job=a\nlr: 1", "'%upload'"]
    assert [cell["source"] for cell in without_uploads(notebook(*sources))["cells"]] == [
        "# x = %upload job=a \\\n#   gpu=T4\ny = 1",
        "if x:\n    pass  # %upload\n",
        "# %%upload job=a\n# lr: 1",
        "'%upload'",
    ]


# B18, B19
class TestTheRuntimeItAsksFor:
    @pytest.mark.parametrize(
        ("gpu", "accelerator", "metadata", "colab"),
        [
            ("T4", None, {"accelerator": "GPU"}, {"gpuType": "T4"}),
            ("v5e1", None, {"accelerator": "TPU"}, {"gpuType": "V5E1"}),
            (None, "gpu", {"accelerator": "GPU"}, {}),
            (None, "none", {}, {}),
            ("H100", "GPU", {"accelerator": "GPU"}, {"gpuType": "H100"}),
        ],
    )
    def test_devices(self, gpu: Any, accelerator: Any, metadata: dict[str, str], colab: dict[str, str]) -> None:
        content = notebook("1")
        content.metadata |= {"accelerator": "TPU", "colab": {"gpuType": "V28", "toc_visible": True}, "own": 1}
        kind, model = device(gpu, accelerator)
        made = with_runtime(content, "a.ipynb", kind=kind, model=model)["metadata"]
        assert {key: made[key] for key in ("accelerator",) if key in made} == metadata
        assert {key: made["colab"][key] for key in ("gpuType",) if key in made["colab"]} == colab
        assert made["own"] == 1
        assert made["colab"]["toc_visible"] is True
        assert made["colab"]["name"] == "a.ipynb"
        assert "machine_shape" not in made["colab"]

    def test_what_is_not_asked_for_stays(self) -> None:
        content = notebook("1")
        content.metadata |= {"accelerator": "GPU", "colab": {"gpuType": "L4"}}
        made = with_runtime(content, "a.ipynb", high_ram=True, background=True)["metadata"]
        assert made["accelerator"] == "GPU"
        assert made["colab"]["gpuType"] == "L4"
        assert made["colab"]["machine_shape"] == "hm"
        assert made["colab"]["background_execution"] == "on"

    def test_what_does_not_go_together(self) -> None:
        with pytest.raises(InvalidInput, match="gpu=V6E1 is a TPU"):
            device("V6E1", "GPU")
        with pytest.raises(InvalidInput, match="Known: A100"):
            device("P100", None)


def printed(*texts: Any) -> Any:
    content = notebook("1", "2")
    content.cells[1].outputs = list(texts)
    return content


class TestSecretsInOutputs:
    SECRETS = known({"MY_TOKEN": "abcdefgh", "HOME": "/root/abc", "PASSWORD": "short", "OTHER": "otherwise"}, ["OTHER"])

    @pytest.mark.parametrize(
        "output",
        [
            {"output_type": "stream", "name": "stdout", "text": "it is abcdefgh\n"},
            {"output_type": "stream", "name": "stdout", "text": ["it is abcd", "efgh\n"]},
            {"output_type": "display_data", "data": {"text/html": ["<b>", "abcdefgh</b>"]}, "metadata": {}},
            {"output_type": "display_data", "data": {"application/json": {"a": [{"abcdefgh": 1}]}}, "metadata": {}},
            {"output_type": "error", "ename": "E", "evalue": "x", "traceback": ["\x1b[0;31mabc\x1b[0mdefgh"]},
        ],
    )
    def test_known_values(self, output: Any) -> None:
        assert in_outputs(printed(output), self.SECRETS) == ["cell 2: the value of MY_TOKEN"]

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("hf_" + "a" * 34, "Hugging Face"),
            ("ghp_" + "a1" * 18, "GitHub"),
            ("AKIA" + "A1" * 8, "Amazon"),
            ("AIza" + "x" * 35, "Google"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            ("https://me:pass-word@host/x", "password in a URL"),
            ("otherwise", "the value of OTHER"),
        ],
    )
    def test_forms_of_keys(self, text: str, what: str) -> None:
        (told,) = in_outputs(printed({"output_type": "stream", "name": "stdout", "text": f"a {text} b"}), self.SECRETS)
        assert what in told
        assert text not in told, "it is named and not shown"

    def test_what_is_none(self) -> None:
        text = "short /root/abc https://host:80/x@y https://me@host hf_short sk-1 loss 0.3"
        picture = {"output_type": "display_data", "data": {"image/png": "hf_" + "a" * 40}, "metadata": {}}
        assert (
            in_outputs(printed({"output_type": "stream", "name": "stdout", "text": text}, picture), self.SECRETS) == []
        )

    def test_in_cells(self) -> None:
        assert in_sources(notebook("x = 'abcdefgh'"), self.SECRETS) == ["cell 1: the value of MY_TOKEN"]
