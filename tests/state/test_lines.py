"""A line to Redis, against a server that says what a test wants: order, cuts, refusals, and how it breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import NoScriptError

from gateway.state.lines import Line, LineBroken

BOUND_SECONDS = 10.0

Say = Callable[[asyncio.StreamWriter, list[bytes]], None]


class Server:
    """Greets as Redis does; every other command goes to `say`. `reads`: the commands that came in together."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.reads: list[list[list[bytes]]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.heard = asyncio.Event()
        self.left = asyncio.Event()  # its client has hung up

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader(notEnoughData=None)
        self.writers.append(writer)
        while data := await reader.read(1 << 20):
            parser.feed(data)
            commands: list[list[bytes]] = []
            while (command := parser.gets()) is not None:
                commands.append(command)
            for command in commands:
                if command[0] == b"CLIENT":
                    writer.write(b"+OK\r\n")
                else:
                    self._say(writer, command)
            if asked := [command for command in commands if command[0] != b"CLIENT"]:
                self.reads.append(asked)
                self.heard.set()
        self.left.set()
        writer.close()


@asynccontextmanager
async def line_to(say: Say) -> AsyncIterator[tuple[Line, Server]]:
    server = Server(say)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    async def dial() -> Connection:
        connection = Connection(host="127.0.0.1", port=port, protocol=2)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        line = Line(dial, group.create_task)
        try:
            yield line, server
        finally:
            line.close()
            listening.close()
            for writer in server.writers:
                writer.transport.abort()


def echo(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
    writer.write(b"$%d\r\n%b\r\n" % (len(command[1]), command[1]))


def say(answer: bytes) -> Say:
    return lambda writer, _command: writer.write(answer)


async def test_answers_come_in_the_order_of_the_questions_also_of_those_asked_before_it_was_connected() -> None:
    async with line_to(echo) as (line, _):
        assert not line.has_connected
        assert await asyncio.gather(*(line.ask(("ECHO", str(n))) for n in range(3))) == [b"0", b"1", b"2"]
        assert await asyncio.gather(*(line.ask(("ECHO", str(n))) for n in range(3))) == [b"0", b"1", b"2"]


async def test_what_is_asked_within_one_turn_leaves_in_one_write() -> None:
    async with line_to(echo) as (line, server):
        await line.ask(("ECHO", "first"))
        server.reads.clear()
        await asyncio.gather(*(line.ask(("ECHO", str(n))) for n in range(20)))
        assert [len(commands) for commands in server.reads] == [20]


async def test_an_answer_that_comes_in_pieces_is_whole() -> None:
    def say_slowly(writer: asyncio.StreamWriter, _: list[bytes]) -> None:
        answer = b"*2\r\n$5\r\nabcde\r\n:42\r\n"
        for n, byte in enumerate(answer):
            asyncio.get_running_loop().call_later(n / 1000, writer.write, bytes([byte]))

    async with line_to(say_slowly) as (line, _):
        assert await line.ask(("LRANGE",)) == [b"abcde", 42]


async def test_a_refusal_is_its_questions_alone() -> None:
    def refuse_some(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        writer.write(b"-NOSCRIPT No matching script.\r\n" if command[0] == b"EVALSHA" else b"+OK\r\n")

    async with line_to(refuse_some) as (line, _):
        refused, fine = line.ask(("EVALSHA", "a", 0)), line.ask(("PING",))
        with pytest.raises(NoScriptError):
            await refused
        assert await fine == b"OK"
        assert not line.is_broken


async def test_the_answer_to_a_question_that_nobody_waits_for_is_thrown_away() -> None:
    async with line_to(echo) as (line, _):
        given_up, kept = line.ask(("ECHO", "a")), line.ask(("ECHO", "b"), before=("ECHO", "asking"))
        given_up.cancel()
        assert await kept == b"b"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", LineBroken),
        (b"nonsense\r\n", LineBroken),
        (b"+OK\r\n+one too many\r\n", bytes),
    ],
)
async def test_what_is_no_answer_to_a_question_breaks_the_line(answer: bytes, kind: type) -> None:
    async with line_to(say(answer)) as (line, server):
        asked = line.ask(("PING",))
        await server.left.wait()
        assert [type(result) for result in await asyncio.gather(asked, return_exceptions=True)] == [kind]
        assert line.is_broken


async def test_a_server_that_hangs_up_breaks_the_line_for_all_who_wait() -> None:
    def hang_up(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        if command[0] == b"QUIT":
            writer.close()

    async with line_to(hang_up) as (line, _):
        asked = [line.ask(("GET", "a")), line.ask(("QUIT",)), line.ask(("GET", "b"))]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(result) for result in results] == [LineBroken] * 3
        assert line.is_broken
        with pytest.raises(LineBroken):
            await line.ask(("PING",))


async def test_a_line_that_is_closed_tells_all_who_wait() -> None:
    async with line_to(lambda _writer, _command: None) as (line, server):
        asked = line.ask(("GET", "a"))
        await server.heard.wait()
        line.close()
        with pytest.raises(LineBroken):
            await asked
