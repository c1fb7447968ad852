"""The file format in which a lease survives a restart of the process. [pure]

A record holds a secret and the token that it was created with, so it is stored in memory only
(`TmpfsDirectory`). Its times are those of the machine's monotonic clock, which all processes of one
boot share. A corrected wall clock therefore never extends the life of a secret.
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
from keyferry.providers.vault.http.server import Server  # noqa: TC001 - as below
from keyferry.providers.vault.leases.lease import Lease, LeaseOrigin, ReadResult
from keyferry.resilience.cache_key import CacheKey  # noqa: TC001 - msgspec reads the annotations
from keyferry.resilience.call_context import KEYFERRY, Caller

RECORD_FORMAT = 3
"""Raised whenever a field is renamed, also in `Server` and `TlsSettings`; others are dropped."""


class UnusableRecordError(ValueError):
    """The file is not a usable record; the text says why and quotes none of its content."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The content of one file. Times are in seconds of the machine's monotonic clock.

    Attributes:
        format: the value of `RECORD_FORMAT` when the record was written.
        boot_id: identifies the boot of the machine, and thereby the origin of its clock.
        key: the request that the secret answers, and the pod that it was created for.
        server: the vault that issued the secret.
        auth_mount: path of the auth method.
        mode: kind of the login.
        token_revocable: whether the token came from a login of Keyferry.
        from_kubernetes_auth: whether that login used Kubernetes auth.
        token: token that the lease depends on; "" for a secret without a lease.
        token_ttl: lifetime of the token in seconds; 0 for unlimited.
        token_issued_at: when the token was issued or last renewed.
        token_renewable: whether the vault would renew the token.
        response: response of the vault, JSON.
        ttl: lifetime in seconds with which the secret was created.
        expires_at: when the lease expires.
        renewable: whether the vault would still renew the lease.
        volumes: target paths of the volumes that use the secret; none if it is to be revoked.
        caller: on whose behalf the secret was created.
    """

    format: int
    boot_id: str
    key: CacheKey = field(repr=False)
    server: Server = field(repr=False)
    auth_mount: str
    mode: str
    token_revocable: bool
    from_kubernetes_auth: bool
    token: str = field(repr=False)
    token_ttl: float
    token_issued_at: float
    token_renewable: bool
    response: str = field(repr=False)
    ttl: float
    expires_at: float
    renewable: bool
    volumes: tuple[str, ...]
    caller: Caller = KEYFERRY


_decoder = msgspec.json.Decoder(LeaseRecord)


def encode_record(lease: Lease, *, boot_id: str) -> bytes:
    """Return the content of the file for `lease`.

    Args:
        lease: the lease to store.
        boot_id: identifies the boot of the machine.
    """
    result, token, origin = lease.result, lease.result.token, lease.result.origin
    needs_token = bool(lease.id)
    record = LeaseRecord(
        format=RECORD_FORMAT,
        boot_id=boot_id,
        key=lease.key,
        server=origin.server,
        auth_mount=origin.auth_mount,
        mode=origin.mode,
        token_revocable=origin.token_revocable,
        from_kubernetes_auth=token.from_kubernetes_auth,
        token=token.value if needs_token else "",
        token_ttl=token.ttl if needs_token else 0.0,
        token_issued_at=token.issued_at,
        token_renewable=token.renewable and needs_token,
        response=_response_json(result.response),
        ttl=lease.ttl,
        expires_at=lease.lease_expires_at,
        renewable=lease.renewable,
        volumes=tuple(sorted(lease.volumes)),
        caller=origin.caller,
    )
    return msgspec.json.encode(record)


def decode_record(body: bytes, *, boot_id: str, now: float) -> Lease:
    """Return the lease that a file holds.

    Args:
        body: content of the file.
        boot_id: identifies the current boot of the machine.
        now: current time in seconds of the machine's monotonic clock.

    Raises:
        UnusableRecordError: the file is damaged, of another format or boot, or implausible.
    """
    try:
        record = _decoder.decode(body)
        response = parse_response(record.response.encode())
    except (msgspec.DecodeError, UnicodeError, MalformedResponseError):
        raise UnusableRecordError("it is damaged or has another format") from None
    if record.format != RECORD_FORMAT:
        raise UnusableRecordError("it has another format")
    if record.boot_id != boot_id:
        raise UnusableRecordError("it was written before the machine was restarted")
    if record.token_issued_at > now or record.expires_at > now + record.ttl or not response.data:
        raise UnusableRecordError("its times or its content are implausible")
    token = VaultToken(
        record.token,
        record.token_ttl,
        record.token_issued_at,
        record.token_renewable,
        from_kubernetes_auth=record.from_kubernetes_auth,
    )
    origin = LeaseOrigin(
        record.server,
        record.auth_mount,
        record.mode,
        token_revocable=record.token_revocable,
        caller=record.caller,
    )
    result = ReadResult(response, token, origin, session=None, session_shared=False)
    return Lease(
        record.key, result, record.ttl, record.expires_at, record.renewable, set(record.volumes)
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
