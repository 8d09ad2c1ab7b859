"""The grammar of a line, and the expansion of its words."""

from __future__ import annotations

import pytest

from colab_magics.errors import InvalidInput
from colab_magics.faces.expand import expand
from colab_magics.line import Token, split


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("   ", []),
        ("now", ["now"]),
        ("now  every=5m\t--delete", ["now", "every=5m", "--delete"]),
        ("now # a comment", ["now"]),
        ("# only a comment", []),
        ("a#b c", ["a#b", "c"]),
        ("now;", ["now"]),
        ("now ;", ["now"]),
        ("now; # quiet", ["now"]),
        ("a;b c;", ["a;b", "c"]),
        ("';'", [";"]),
        ("x=';'", ["x=;"]),
        ("don't stop, it's fine", ["don't", "stop,", "it's", "fine"]),
        ('\'two words\' "and \\"more\\" \\\\ \\n"', ["two words", 'and "more" \\ \\n']),
        ("to='my folder' --to=\"it's\"", ["to=my folder", "--to=it's"]),
        ("to='a'/b", ["to=a/b"]),
        ("'a'b'c", ["ab'c"]),
        ("''", [""]),
        ("x=", ["x="]),
        ("'# no comment'", ["# no comment"]),
        ("to={folder / 'a b'} n={ {1: 2}[1] }", ["to={folder / 'a b'}", "n={ {1: 2}[1] }"]),
        ("{{ a }}", ["{{", "a", "}}"]),
        ("{a b", ["{a", "b"]),
        ("{d['}']} x", ["{d['}']}", "x"]),
        ("https://host/x?a=1&b=2#part", ["https://host/x?a=1&b=2#part"]),
        ("C:\\new\\table", ["C:\\new\\table"]),
        ("ünï-日本 -rf", ["ünï-日本", "-rf"]),
    ],
)
def test_a_line_is_split(text: str, tokens: list[str]) -> None:
    line = split(text)
    assert [token.text for token in line.tokens] == tokens
    assert line.rest is None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("n=5 -- python train.py --lr=1 x=2", ["python", "train.py", "--lr=1", "x=2"]),
        ("n=5 --", []),
        ("n=5 -- a -- b", ["a", "--", "b"]),
        ("n=5 -- python -c 'print(1, 2)' # note", ["python", "-c", "print(1, 2)"]),
        ("n=5 -- echo {a b} $HOME", ["echo", "{a", "b}", "$HOME"]),
        ("n=5 -- find . -exec ls {} \\;", ["find", ".", "-exec", "ls", "{}", "\\;"]),
    ],
)
def test_two_dashes_end_options(text: str, rest: list[str]) -> None:
    line = split(text)
    assert [token.text for token in line.tokens] == ["n=5"]
    assert line.rest == rest


def test_quoted_dashes_end_nothing() -> None:
    assert split("'--' a").tokens == [Token("--", quoted=True), Token("a")]


@pytest.mark.parametrize("text", ["'abc", 'x="abc', "'twas", "a 'b c"])
def test_an_open_quote_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(InvalidInput, match="never closed"):
        split(text)


@pytest.mark.parametrize(
    ("word", "option"),
    [
        ("every=5m", "--every=5m"),
        ("max_failures=3", "--max-failures=3"),
        ("to=s3://a?b=c", "--to=s3://a?b=c"),
        ("to=", "--to="),
        ("https://x/?a=b", "https://x/?a=b"),
        ("a/b=c", "a/b=c"),
        ("3=4", "3=4"),
        ("numpy==2.1", "numpy==2.1"),
        ("now", "now"),
        ("--every=5m", "--every=5m"),
    ],
)
def test_a_word_that_starts_with_a_name_and_an_equals_sign_is_an_option(word: str, option: str) -> None:
    assert Token(word).as_option().text == option


def test_a_quoted_word_is_a_value() -> None:
    assert split("'a=b'").tokens[0].as_option().text == "a=b"


NAMES = {"x": 5, "name": "a b", "idx": [3, 7], "pair": (1, 2), "span": range(3), "none": None, "d": {"k": "v"}}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"),
        ("$x", "5"),
        ("job-$x.txt", "job-5.txt"),
        ("$name/$x", "a b/5"),
        ("$x.real", "5.real"),
        ("$$x", "$x"),
        ("5$ $5 $", "5$ $5 $"),
        ("{x + 1}", "6"),
        ("{d['k']}{x}", "v5"),
        ("{x != 5}", "False"),
        ("{f'{x:03d}'}", "005"),
        ("{repr(name)}", "'a b'"),
        ("{{x}}", "{x}"),
        ("{idx}", "3,7"),
        ("$idx", "3,7"),
        ("{pair}-{span}", "1,2-0,1,2"),
        ("{[i * x for i in idx][1:]}", "35"),
        ("{ {1: 2}[1] }", "2"),
        ("}", "}"),
    ],
)
def test_a_word_is_expanded(word: str, expected: str) -> None:
    assert expand(word, NAMES) == expected


def test_the_environment_comes_after_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("x", "of the environment")
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert expand("$x $SCRATCH/a", NAMES) == "5 /scratch/a"


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("a/$nope", "nope"),
        ("{nope + 1}", "nope"),
        ("{x + }", "{x + }"),
        ("{1/0}", "ZeroDivisionError"),
        ("{x", "brace"),
    ],
)
def test_what_cannot_be_expanded_is_an_error_that_names_it(word: str, named: str) -> None:
    # ✗ IPython expands the whole line at once: one failure, and nothing is expanded, in silence.
    with pytest.raises(InvalidInput) as caught:
        expand(word, NAMES)
    assert word in str(caught.value)
    assert named in str(caught.value)
    assert caught.value.mend
