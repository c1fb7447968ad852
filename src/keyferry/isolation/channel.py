"""Calls between two processes over a socket, in both directions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from keyferry.isolation.messages import (
    LENGTH_BYTES,
    Kind,
    Message,
    Method,
    decode_error,
    decode_message,
    encode_body,
    encode_error,
    encode_frame,
    frame_length,
)
from keyferry.telemetry.logs import ObjectName, current_log_context, get_logger, log_context

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

A = TypeVar("A")
R = TypeVar("R")

_log = get_logger("isolation")


class ChannelClosedError(Exception):
    """The other process has ended, or sent what is not a message."""


class Channel:
    """One end of a connection between two processes.

    Args:
        handlers: the methods that the other process may call.
    """

    def __init__(
        self,
        handlers: Mapping[str, tuple[Method[Any, Any], Callable[[Any], Awaitable[Any]]]],
    ) -> None:
        self._handlers = handlers
        self._writer: asyncio.StreamWriter | None = None
        self._next_id = 0
        self._is_called = asyncio.Event()
        """Set while there are calls in flight."""
        self._calls: dict[int, asyncio.Future[Message]] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._serving: asyncio.Task[None] | None = None

    async def open(self, connection: socket.socket) -> None:
        """Serve `connection`, which this channel closes."""
        reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        self._serving = asyncio.create_task(self._serve(reader), name="channel")

    async def wait_closed(self) -> None:
        """Wait until the other process ends the connection."""
        if self._serving is not None:
            await asyncio.wait((self._serving,))

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._serving is None or self._serving.done()

    async def wait_for_call(self) -> None:
        """Wait until a call waits for the other process."""
        await self._is_called.wait()

    @property
    def calls_in_flight(self) -> int:
        """The number of calls that wait for the other process."""
        return len(self._calls)

    async def call(self, method: Method[A, R], argument: A) -> R:
        """Call a method of the other process.

        Raises:
            KeyferryError: what the method raised.
            ChannelClosedError: the other process ended before it answered.
        """
        body = await self.call_encoded(method.name, encode_body(argument))
        try:
            return method.decode_result(body)
        except msgspec.DecodeError as error:
            raise self._broken(error) from None

    async def call_encoded(self, name: str, body: bytes) -> bytes:
        """Call a method with an encoded argument, and return its encoded result; see `call`."""
        self._next_id += 1
        number = self._next_id
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        self._is_called.set()
        try:
            context = _encode_context(current_log_context())
            await self._send(Message(Kind.CALL, number, name, body, context))
            message = await answer
        except asyncio.CancelledError:
            self._send_soon(Message(Kind.CANCEL, number))
            raise
        finally:
            del self._calls[number]
            if not self._calls:
                self._is_called.clear()
        if message.kind is not Kind.FAILURE:
            return message.body
        try:
            error = decode_error(message.body)
        except (msgspec.DecodeError, ValueError) as problem:
            raise self._broken(problem) from None
        raise error

    def notify(self, method: Method[A, None], argument: A) -> None:
        """Call a method that returns nothing; does not wait, and is lost without a peer."""
        self._send_soon(Message(Kind.NOTICE, 0, method.name, encode_body(argument)))

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait((self._serving,))

    async def _send(self, message: Message) -> None:
        self._send_soon(message)
        if self._writer is not None:
            try:
                await self._writer.drain()
            except OSError as error:
                raise ChannelClosedError(str(error)) from error

    def _send_soon(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode_frame(message))
        elif message.kind is Kind.CALL:
            raise ChannelClosedError("the connection is closed")

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = frame_length(await reader.readexactly(LENGTH_BYTES))
                self._dispatch(decode_message(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except (msgspec.DecodeError, ValueError) as error:
            self._broken(error)
        finally:
            self._end()

    def _dispatch(self, message: Message) -> None:
        match message.kind:
            case Kind.CALL | Kind.NOTICE:
                task = asyncio.create_task(self._answer(message))
                if message.kind is Kind.CALL:
                    self._running[message.id] = task
                    task.add_done_callback(lambda _: self._running.pop(message.id, None))
                else:
                    self._running[-id(task)] = task
                    task.add_done_callback(lambda done: self._running.pop(-id(done), None))
            case Kind.CANCEL:
                if running := self._running.get(message.id):
                    running.cancel()
            case Kind.RESULT | Kind.FAILURE:
                answer = self._calls.get(message.id)
                if answer is not None and not answer.done():
                    answer.set_result(message)

    async def _answer(self, message: Message) -> None:
        """Run the handler of a call and send its result."""
        try:
            method, handler = self._handlers[message.method]
            with log_context(**_decode_context(message.context)):
                result = await handler(method.decode_argument(message.body))
            answer = Message(Kind.RESULT, message.id, body=encode_body(result))
        except Exception as error:  # noqa: BLE001 (process boundary)
            answer = Message(Kind.FAILURE, message.id, body=encode_error(error))
        if message.kind is Kind.CALL:
            with suppress(ChannelClosedError):  # then nobody waits for the answer
                await self._send(answer)

    def _broken(self, error: Exception) -> ChannelClosedError:
        """Close the connection: the other process does not follow the protocol."""
        # The text of the exception may quote a value.
        _log.error("a process sent an invalid message", type=type(error).__name__)
        self._end()
        return ChannelClosedError("invalid message")

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(ChannelClosedError("the process ended"))
        for task in list(self._running.values()):
            task.cancel()


def _encode_context(pairs: dict[str, object]) -> dict[str, str | tuple[str, str]]:
    """Return a log context as it is sent."""
    return {
        key: (value.namespace, value.name) if isinstance(value, ObjectName) else str(value)
        for key, value in pairs.items()
    }


def _decode_context(pairs: dict[str, str | tuple[str, str]]) -> dict[str, object]:
    """Undo `_encode_context`."""
    return {
        key: ObjectName(*value) if isinstance(value, tuple) else value
        for key, value in pairs.items()
    }
