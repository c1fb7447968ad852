"""The Azure Arc agent: tokens of the machine for callers that can read its challenge file."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from keyferry.formats.private_files import write_private_file
from keyferry_devvault.http_types import HttpError, Request, Response

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry_devvault.machine.imds import Imds

ARC_HOST = "127.0.0.1:40342"
_API_VERSIONS = ("2019-08-15", "2019-11-01", "2020-06-01")
_MAX_CHALLENGES = 100


class Arc:
    """Serves 127.0.0.1:40342.

    Args:
        imds: issues the tokens of the machine.
        folder: the folder of the challenge files, which is created when needed.
    """

    def __init__(self, imds: Imds, folder: Path) -> None:
        self._imds = imds
        # The client, which reads the path, has another working directory.
        self._folder = folder.resolve()
        self._challenges: dict[str, Path] = {}

    def handle(self, request: Request) -> Response:
        """Handle one request: send a challenge, or accept the response to one, once.

        Raises:
            HttpError: the error response.
        """
        if request.headers.get("metadata", "").lower() != "true":
            raise HttpError(Response(400, {"error": "invalid_request"}))
        if request.query.get("api-version") not in _API_VERSIONS:
            raise HttpError(Response(400, {"error": "invalid_request"}, note="unknown api-version"))
        if any(key in request.query for key in ("client_id", "object_id", "msi_res_id")):
            note = "an Arc machine has a system-assigned identity only"
            raise HttpError(Response(400, {"error": "invalid_request"}, note=note))
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return self._challenge()
        path = self._challenges.pop(key, None)
        if path is None:
            raise HttpError(
                Response(403, {"error": "unauthorized"}, note="not the key of a challenge")
            )
        with suppress(OSError):
            path.unlink()
        return self._imds.token_response(request)

    def _challenge(self) -> Response:
        key, path = secrets.token_hex(32), self._folder / f"{secrets.token_hex(16)}.key"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            while len(self._challenges) >= _MAX_CHALLENGES:
                oldest = next(iter(self._challenges))
                self._challenges.pop(oldest).unlink(missing_ok=True)
            write_private_file(path, key.encode())
        except OSError as error:
            note = f"the challenge file {path} cannot be written: {error.strerror}"
            raise HttpError(Response(500, {"error": "server_error"}, note=note)) from error
        self._challenges[key] = path
        headers = {"WWW-Authenticate": f"Basic realm={path}"}
        return Response(401, headers=headers, note="a challenge; its file proves who asks")
