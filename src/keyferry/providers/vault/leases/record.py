"""What is kept of a held secret for the next process, and its form in a file. [pure]

It holds the secret and the token that it hangs on, so it belongs into memory alone (see
`lease_folder`). Times are those of the machine's clock that only goes forward, which every process
of one boot reads alike: a clock on the wall that is put right makes no secret live longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from keyferry.formats.go_json import write_json
from keyferry.providers.vault.auth.token import VaultToken
from keyferry.providers.vault.http.response import (
    MalformedResponseError,
    VaultResponse,
    parse_response,
)
from keyferry.providers.vault.http.server import Server  # noqa: TC001 - as above
from keyferry.providers.vault.leases.lease import Lease, LeaseOrigin, ReadResult
from keyferry.resilience.cache_key import CacheKey  # noqa: TC001 - msgspec reads the annotations

RECORD_FORMAT = 1
"""Of the records; one of another format is of no use."""


class UnusableRecordError(ValueError):
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
    key: CacheKey = field(repr=False)
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


def encode_record(lease: Lease, *, boot_id: str) -> bytes:
    """The file for a lease.

    Args:
        lease: it.
        boot_id: of the machine.
    """
    issued, grant, origin = lease.result, lease.result.token, lease.result.origin
    hangs = bool(lease.id)
    record = LeaseRecord(
        RECORD_FORMAT,
        boot_id,
        lease.key,
        origin.server,
        origin.auth_mount,
        origin.mode,
        origin.token_revocable,
        grant.from_kubernetes_auth,
        grant.value if hangs else "",
        grant.ttl if hangs else 0.0,
        grant.issued_at,
        grant.renewable and hangs,
        _response_json(issued.response),
        lease.ttl,
        lease.lease_expires_at,
        lease.renewable,
        tuple(sorted(lease.volumes)),
    )
    return msgspec.json.encode(record)


def decode_record(body: bytes, *, boot_id: str, now: float) -> Lease:
    """The lease in a file.

    Args:
        body: of the file.
        boot_id: of the machine.
        now: by the clock of the machine.

    Raises:
        BadRecordError: there is none that can be used.
    """
    try:
        record = _decoder.decode(body)
        answer = parse_response(record.answer.encode())
    except (msgspec.DecodeError, UnicodeError, MalformedResponseError):
        raise UnusableRecordError("it is damaged, or of another format") from None
    if record.format != RECORD_FORMAT:
        raise UnusableRecordError("it is of another format")
    if record.boot != boot_id:
        raise UnusableRecordError("it is of an earlier start of the machine")
    if record.token_since > now or record.expires > now + record.life or not answer.data:
        raise UnusableRecordError("its times or its content cannot be")
    grant = VaultToken(
        record.token,
        record.token_life,
        record.token_since,
        record.token_renewable,
        from_kubernetes_auth=record.kubernetes,
    )
    origin = LeaseOrigin(record.server, record.mount, record.mode, token_revocable=record.own_token)
    issued = ReadResult(answer, grant, origin, session=None, session_shared=False)
    return Lease(
        record.key, issued, record.life, record.expires, record.renewable, set(record.volumes)
    )


def _response_json(response: VaultResponse) -> str:
    return write_json(
        {
            "lease_id": response.lease_id,
            "lease_duration": response.lease_duration,
            "renewable": response.renewable,
            "data": response.data,
            "warnings": response.warnings,
            "auth": response.auth,
            "wrap_info": response.wrap_info,
            "mount_type": response.mount_type,
        }
    ).decode()
