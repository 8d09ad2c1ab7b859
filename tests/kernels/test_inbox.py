"""What a kernel says is read whole, in its order and as jupyter_client reads it; over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.session import Session

from colab_magics.kernels import inbox
from colab_magics.kernels.inbox import Inbox, message_of, until

KEY = b"a key"


def written(
    kind: str, content: dict[str, Any], *, key: bytes = KEY, version: str = "5.3", date: str = ""
) -> list[bytes]:
    """Return the frames of a message, as another program's session writes them."""
    session = Session(key=key)
    message = session.msg(kind, content, parent=session.msg("execute_request"))
    message["header"]["version"] = version
    if date:
        message["header"]["date"] = date
    frames: list[bytes] = session.serialize(message)
    return frames


class Kernel:
    """The other end of a channel of a real asynchronous client."""

    def __init__(self, context: zmq.asyncio.Context) -> None:
        self.client = AsyncKernelClient(context=context, session=Session(key=KEY))
        plain: zmq.Context[Any] = zmq.Context(context)
        self.socket = plain.socket(zmq.DEALER)
        self.client.shell_port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.channel = self.client.shell_channel
        self.taken: list[dict[str, Any]] = []
        self.problems: list[Exception] = []
        self.news = asyncio.Event()

    def say(self, *texts: str, key: bytes = KEY) -> None:
        """Send a message for each text."""
        for text in texts:
            self.socket.send_multipart(written("stream", {"name": "stdout", "text": text}, key=key))

    def inbox(self) -> Inbox:
        """Read here."""

        def take(message: dict[str, Any]) -> None:
            self.taken.append(message)
            self.news.set()

        def failed(problem: Exception) -> None:
            self.problems.append(problem)
            self.news.set()

        return Inbox(self.channel, take, failed)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until so much has come."""
        assert await until(condition, self.news, 20), (len(self.taken), self.problems)

    @property
    def texts(self) -> list[str]:
        """What has come."""
        return [message["content"]["text"] for message in self.taken]


@asynccontextmanager
async def a_kernel() -> AsyncIterator[Kernel]:
    context = zmq.asyncio.Context()
    kernel = Kernel(context)
    try:
        yield kernel
    finally:
        kernel.socket.close(0)
        kernel.channel.stop()
        context.destroy(0)


def test_all_that_comes_at_once_is_taken_in_its_order() -> None:
    async def body() -> None:
        async with a_kernel() as kernel:
            many = [f"{number}" for number in range(5 * inbox._BURST + 1)]
            kernel.say(*many)
            with kernel.inbox():
                await kernel.until(lambda: len(kernel.taken) == len(many))
            assert kernel.texts == many

    asyncio.run(body())


def test_what_came_while_something_was_sent_is_taken() -> None:
    async def body() -> None:
        async with a_kernel() as kernel:
            with kernel.inbox() as box:
                for number in range(50):
                    kernel.say(f"{number}")
                    await asyncio.to_thread(time.sleep, 0.001)  # it is here, and the loop has not looked
                    kernel.channel.send(kernel.client.session.msg("execute_request"))
                    box.soon()
                    await kernel.until(lambda number=number: len(kernel.taken) == number + 1)

    asyncio.run(body())


def test_another_socket_with_the_same_file_number_is_read_too() -> None:
    async def body() -> None:
        numbers = set()
        for _ in range(5):
            async with a_kernel() as kernel:
                with kernel.inbox() as box:
                    numbers.add(box._file)
                    await asyncio.sleep(0)
                    kernel.say("hello")
                    await kernel.until(lambda kernel=kernel: kernel.texts == ["hello"])
        assert len(numbers) < 5, "no number came again: this test shows nothing"

    asyncio.run(body())


def test_pyzmq_reads_before_and_after() -> None:
    async def stock(kernel: Kernel, text: str) -> None:
        coming = asyncio.ensure_future(kernel.channel.socket.recv_multipart())
        await asyncio.sleep(0)
        kernel.say(text)
        frames = await asyncio.wait_for(coming, 20)
        assert message_of(kernel.client.session, frames)["content"]["text"] == text

    async def body(*, before: bool) -> None:
        async with a_kernel() as kernel:
            if before:
                await stock(kernel, "before")
            with kernel.inbox():
                kernel.say("here")
                await kernel.until(lambda: kernel.taken)
            await stock(kernel, "after")

    asyncio.run(body(before=True))
    asyncio.run(body(before=False))


def test_a_message_of_another_key_is_refused_and_nothing_is_read_behind_it() -> None:
    async def body() -> None:
        async with a_kernel() as kernel:
            with kernel.inbox():
                kernel.say("mine")
                kernel.say("forged", key=b"another")
                kernel.say("mine too")
                await kernel.until(lambda: kernel.problems)
                await asyncio.sleep(0.05)
            assert kernel.texts == ["mine"]
            assert "Signature" in str(kernel.problems[0])

    asyncio.run(body())


def test_what_the_reader_raises_is_told() -> None:
    async def body() -> None:
        async with a_kernel() as kernel:
            problems: list[Exception] = []

            def take(message: dict[str, Any]) -> None:
                raise OSError("no room")

            def failed(problem: Exception) -> None:
                problems.append(problem)
                kernel.news.set()

            with Inbox(kernel.channel, take, failed):
                kernel.say("one", "two")
                await kernel.until(lambda: problems)
            assert [str(problem) for problem in problems] == ["no room"]

    asyncio.run(body())


@pytest.mark.parametrize(
    ("kind", "content", "version", "date"),
    [
        ("stream", {"name": "stdout", "text": "ü\n"}, "5.3", ""),
        ("status", {"execution_state": "idle"}, "5.0", "2026-11-23T09:08:07.654321+02:00"),
        ("execute_reply", {"status": "ok", "when": "2026-11-23T09:08:07Z"}, "5.4", "2026-11-23T09:08:07Z"),
        ("stream", {"name": "stdout", "text": ""}, "5.3", "some day"),
        # As kernels spoke before 2014.
        ("stream", {"name": "stdout", "data": "old"}, "4.1", ""),
    ],
)
def test_a_message_is_what_jupyter_client_makes_of_it(
    kind: str, content: dict[str, Any], version: str, date: str
) -> None:
    frames = written(kind, content, version=version, date=date)
    frames.append(b"a buffer")
    stock, ours = Session(key=KEY), Session(key=KEY)
    _, parts = stock.feed_identities(list(frames))
    expected, made = stock.deserialize(parts), message_of(ours, frames)
    # Nobody asks when a request was sent.
    for message in (expected, made):
        message["parent_header"].pop("date", None)
    assert made == expected
    assert [bytes(buffer) for buffer in made["buffers"]] == [b"a buffer"]


@pytest.mark.parametrize("frames", [[b"<IDS|MSG>", b""], [b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"], [b"no mark"]])
def test_what_is_no_message_is_refused(frames: list[bytes]) -> None:
    with pytest.raises((ValueError, TypeError)):
        message_of(Session(key=KEY), frames)


def test_until_ends_with_its_time_and_not_before_the_news() -> None:
    async def body() -> None:
        news, known = asyncio.Event(), list[int]()
        assert not await until(lambda: known, news, 0.01)
        assert not await until(lambda: known, news, -1)
        asyncio.get_running_loop().call_later(0.01, lambda: (known.append(1), news.set()))
        assert await until(lambda: known, news)
        assert await until(lambda: known, news, 0)

    asyncio.run(body())
