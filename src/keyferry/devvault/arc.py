"""The agent of Azure Arc: tokens of the machine for whoever can read a file that it just wrote."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from keyferry.devvault.exchange import Answer, Call, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.devvault.imds import Imds

ARC_HOST = "127.0.0.1:40342"
_VERSIONS = ("2019-08-15", "2019-11-01", "2020-06-01")
_MAX_PENDING = 100


class Arc:
    """Answers for 127.0.0.1:40342.

    Args:
        imds: knows the identities of the machine.
        folder: of the challenge files; made when it is first needed.
    """

    def __init__(self, imds: Imds, folder: Path) -> None:
        self._imds = imds
        # Whoever reads the path has another working directory.
        self._folder = folder.resolve()
        self._pending: dict[str, Path] = {}

    def answer(self, call: Call) -> Answer:
        """Handle one request: challenge it, or take the answer to a challenge, once.

        Raises:
            Refused: with the answer that says why.
        """
        if call.headers.get("metadata", "").lower() != "true":
            raise Refused(Answer(400, {"error": "invalid_request"}))
        if call.query.get("api-version") not in _VERSIONS:
            raise Refused(Answer(400, {"error": "invalid_request"}, note="unknown api-version"))
        if any(key in call.query for key in ("client_id", "object_id", "msi_res_id")):
            note = "an Arc machine has a system-assigned identity only"
            raise Refused(Answer(400, {"error": "invalid_request"}, note=note))
        scheme, _, key = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return self._challenge()
        path = self._pending.pop(key, None)
        if path is None:
            raise Refused(Answer(403, {"error": "unauthorized"}, note="not the key of a challenge"))
        path.unlink(missing_ok=True)
        return self._imds.token(call)

    def _challenge(self) -> Answer:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        while len(self._pending) >= _MAX_PENDING:
            oldest = next(iter(self._pending))
            self._pending.pop(oldest).unlink(missing_ok=True)
        key, path = secrets.token_hex(32), self._folder / f"{secrets.token_hex(16)}.key"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key)
        self._pending[key] = path
        headers = {"WWW-Authenticate": f"Basic realm={path}"}
        return Answer(401, headers=headers, note="a challenge; its file proves who asks")
