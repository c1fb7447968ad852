"""What is kept of a held secret for the next process, and its form in a file. [pure]

It holds the secret and the token that it hangs on, so it belongs into memory alone (see
`lease_folder`). Times are those of the machine's clock that only goes forward, which every process
of one boot reads alike: a clock on the wall that is put right makes no secret live longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from keyferry.economy.key import FetchKey  # noqa: TC001 - msgspec reads the annotations
from keyferry.go_json import write_json
from keyferry.vault.answer import Answer, BadAnswerError, read_answer
from keyferry.vault.grant import Grant
from keyferry.vault.lease import Issued, Lease, Origin
from keyferry.vault.server import Server  # noqa: TC001 - as above

FORMAT = 1
"""Of the records; one of another format is of no use."""


class BadRecordError(ValueError):
    """It is no record that can be used; the text says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """One file. Times as in `Lease` and `Grant`.

    Attributes:
        format: see `FORMAT`.
        boot: of the machine, which started the clock.
        key: what the secret is the answer to, and for which pod.
        server: whom it came from.
        mount: of the auth method.
        mode: the kind of the login.
        own_token: whether the token came of a login of ours.
        kubernetes: whether that was by Kubernetes auth.
        token: that the secret hangs on; "" for what hangs on none.
        token_life: seconds.
        token_since: when it was granted or last renewed.
        token_renewable: whether it would be renewed.
        answer: of the vault, JSON.
        life: seconds that the secret was made for.
        expires: when it ends.
        renewable: whether it would be renewed still.
        volumes: the target paths that use it; none for what is to be revoked.
    """

    format: int
    boot: str
    key: FetchKey = field(repr=False)
    server: Server = field(repr=False)
    mount: str
    mode: str
    own_token: bool
    kubernetes: bool
    token: str = field(repr=False)
    token_life: float
    token_since: float
    token_renewable: bool
    answer: str = field(repr=False)
    life: float
    expires: float
    renewable: bool
    volumes: tuple[str, ...]


_decoder = msgspec.json.Decoder(LeaseRecord)


def write_record(lease: Lease, *, boot: str) -> bytes:
    """The file for a lease.

    Args:
        lease: it.
        boot: of the machine.
    """
    issued, grant, origin = lease.issued, lease.issued.grant, lease.issued.origin
    hangs = bool(lease.id)
    record = LeaseRecord(
        FORMAT,
        boot,
        lease.key,
        origin.server,
        origin.mount,
        origin.mode,
        origin.own_token,
        grant.kubernetes,
        grant.token if hangs else "",
        grant.life if hangs else 0.0,
        grant.since,
        grant.renewable and hangs,
        _answer_text(issued.answer),
        lease.life,
        lease.expires,
        lease.renewable,
        tuple(sorted(lease.volumes)),
    )
    return msgspec.json.encode(record)


def read_record(body: bytes, *, boot: str, now: float) -> Lease:
    """The lease in a file.

    Args:
        body: of the file.
        boot: of the machine.
        now: by the clock of the machine.

    Raises:
        BadRecordError: there is none that can be used.
    """
    try:
        record = _decoder.decode(body)
        answer = read_answer(record.answer.encode())
    except (msgspec.DecodeError, UnicodeError, BadAnswerError):
        raise BadRecordError("it is damaged, or of another format") from None
    if record.format != FORMAT:
        raise BadRecordError("it is of another format")
    if record.boot != boot:
        raise BadRecordError("it is of an earlier start of the machine")
    if record.token_since > now or record.expires > now + record.life or not answer.data:
        raise BadRecordError("its times or its content cannot be")
    grant = Grant(
        record.token,
        record.token_life,
        record.token_since,
        record.token_renewable,
        kubernetes=record.kubernetes,
    )
    origin = Origin(record.server, record.mount, record.mode, own_token=record.own_token)
    issued = Issued(answer, grant, origin, session=None, shared=False)
    return Lease(
        record.key, issued, record.life, record.expires, record.renewable, set(record.volumes)
    )


def _answer_text(answer: Answer) -> str:
    return write_json(
        {
            "lease_id": answer.lease_id,
            "lease_duration": answer.lease_duration,
            "renewable": answer.renewable,
            "data": answer.data,
            "warnings": answer.warnings,
            "auth": answer.auth,
            "wrap_info": answer.wrap_info,
            "mount_type": answer.mount_type,
        }
    ).decode()
