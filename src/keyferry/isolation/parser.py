"""The program of the parser: runs one parse job after the other.

It has no event loop and no network. The driver ends it when a job uses too much CPU time; the limit
that the process sets for itself is the second line of defence.
"""

from __future__ import annotations

import math
import resource
from typing import TYPE_CHECKING, Any

import msgspec

from keyferry.isolation.messages import (
    LENGTH_BYTES,
    Kind,
    Message,
    decode_message,
    encode_body,
    encode_error,
    encode_frame,
    frame_length,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from keyferry.aio.jobs import ParseJob

JOB_CPU_SECONDS = 1.0
"""CPU time of one job. A PKCS#12 with the highest accepted iteration count needs less."""
_SPARE_SECONDS = 1


def run_parser(connection: socket.socket, jobs: Mapping[str, ParseJob[Any, Any]]) -> None:
    """Serve jobs until the driver closes the connection.

    Args:
        connection: to the driver.
        jobs: all jobs by name.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    stream = connection.makefile("rb")
    while header := stream.read(LENGTH_BYTES):
        message = decode_message(stream.read(frame_length(header)))
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = math.ceil(used.ru_utime + used.ru_stime + JOB_CPU_SECONDS) + _SPARE_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard_limit))
        connection.sendall(encode_frame(_answer(message, jobs[message.method])))


def _answer(message: Message, job: ParseJob[Any, Any]) -> Message:
    try:
        argument = msgspec.msgpack.decode(message.body, type=job.argument_type)
        return Message(Kind.RESULT, message.id, body=encode_body(job.function(argument)))
    except Exception as error:  # noqa: BLE001 (process boundary)
        return Message(Kind.FAILURE, message.id, body=encode_error(error))
