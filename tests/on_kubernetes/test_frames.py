"""What a run tells through its container's log."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from colab_magics.engines.kubernetes import frames
from colab_magics.engines.kubernetes.frames import Reader


def stamped(lines: list[str], first: int = 0) -> str:
    """Lines as the API gives them; each three have the same time."""
    return "".join(f"2026-01-02T03:04:05.{(first + n) // 3:09d}Z {line}\n" for n, line in enumerate(lines))


@given(st.lists(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode), st.just(b"\n"))))
def test_whatever_is_printed_arrives_as_it_is(parts: list[bytes]) -> None:
    lines = [line for part in parts for line in frames.of_log(part)]
    assert all("\n" not in line and "\r" not in line for line in lines)
    reader = Reader()
    reader.feed(stamped(lines))
    assert bytes(reader.log) == b"".join(parts)


@given(st.lists(st.integers(0, 30), max_size=6))
def test_what_is_read_twice_is_taken_once(cuts: list[int]) -> None:
    lines = [f"line {number}" for number in range(30)]
    reader, text = Reader(), stamped(lines)
    whole = text.splitlines(keepends=True)
    before = 0
    for cut in sorted(cuts):
        # From a time on that was there before: never from the middle of lines that have the same time.
        reader.feed("".join(whole[max(0, before // 3 * 3 - 6) : cut]))
        before = cut
    reader.feed(text)
    assert reader.log.decode() == "".join(f"{line}\n" for line in lines)


def test_plain_lines_are_there_for_people() -> None:
    assert list(frames.of_log("epoch 1: ü\n\n".encode())) == ["epoch 1: ü", ""]
    assert all(line.startswith(frames.MARK) for line in frames.of_log(b"50%\rno end"))
    assert all(line.startswith(frames.MARK) for line in frames.of_log(f"{frames.MARK}log AAAA\n".encode()))


def test_long_things_come_in_pieces() -> None:
    data = bytes(range(256)) * 100
    lines = [
        *frames.frames(frames.STATE, b"{}"),
        *frames.frames(frames.STATE, data),
        *frames.frames(frames.FILES, data),
    ]
    assert max(map(len, lines)) < 9000
    reader = Reader()
    reader.feed(stamped([*lines, *frames.frames(frames.END, b"")]))
    assert (reader.state, bytes(reader.files), reader.ended) == (data, data, True)


def test_what_the_cluster_did_not_keep_is_counted() -> None:
    sizes = list(frames.frames(frames.SIZES, json.dumps({"log": 300}).encode()))
    reader = Reader()
    reader.feed(stamped([*frames.of_log(b"x" * 99 + b"\n"), *sizes, *frames.of_log(b"more\n"), "cut off"]))
    assert reader.lost == 200
    assert reader.log.endswith(b"more\ncut off\n")


def test_lines_that_are_none_of_ours_do_no_harm() -> None:
    reader = Reader()
    reader.feed("no time\n2026-01-02T03:04:05Z \n2026-01-02T03:04:06Z " + frames.MARK + "state !!\nrubbish\n\n")
    reader.feed(stamped([f"{frames.MARK}sizes e30=", f"{frames.MARK}unknown AAAA", frames.MARK]))
    assert bytes(reader.log) == b"\n"
    assert reader.state == b""
