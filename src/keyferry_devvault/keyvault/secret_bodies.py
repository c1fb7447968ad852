"""Request and response bodies for secrets (Key Vault REST API 7.4). [pure]"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlencode

import msgspec

from keyferry_devvault.http_types import HttpError, Request, vault_error_response
from keyferry_devvault.model import DeletedSecret, SecretAttributes, SecretVersion

MAX_PAGE = 25
RECOVERY = {"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90}

Json = dict[str, object]


class _Attributes(msgspec.Struct, frozen=True):
    enabled: bool | None = None
    exp: int | None = None
    nbf: int | None = None


class _PatchBody(msgspec.Struct, frozen=True):
    contentType: str | None = None  # noqa: N815 - a name of the wire
    tags: dict[str, str] | None = None
    attributes: _Attributes | None = None


class _SetBody(_PatchBody, frozen=True, kw_only=True):
    value: str


def parse_set(body: bytes) -> tuple[str, SecretAttributes]:
    """Return the value and the attributes of a `PUT`.

    Raises:
        HttpError: the body is not valid JSON of this type.
    """
    try:
        parsed = msgspec.json.decode(body, type=_SetBody)
    except msgspec.DecodeError:
        # The text of this error can quote the body.
        raise _malformed_body() from None
    return parsed.value, _attributes(parsed)


def parse_patch(body: bytes) -> SecretAttributes:
    """Return the attributes of a `PATCH`.

    Raises:
        HttpError: the body is not valid JSON of this type.
    """
    try:
        return _attributes(msgspec.json.decode(body or b"{}", type=_PatchBody))
    except msgspec.DecodeError:
        raise _malformed_body() from None


def secret_body(host: str, row: SecretVersion, *, with_value: bool) -> Json:
    """Return a SecretBundle."""
    body: Json = {"value": row.value} if with_value else {}
    return body | secret_item(host, row, versioned=True)


def secret_item(host: str, row: SecretVersion, *, versioned: bool = False) -> Json:
    """Return a SecretItem, which has no value, for lists."""
    item: Json = {"contentType": row.content_type} if row.content_type is not None else {}
    item["id"] = f"https://{host}/secrets/{row.name}" + (f"/{row.version}" if versioned else "")
    if row.of_certificate:
        item["managed"] = True
        if versioned:
            item["kid"] = f"https://{host}/keys/{row.name}/{row.version}"
    attributes: Json = {"enabled": row.enabled}
    if row.not_before is not None:
        attributes["nbf"] = row.not_before
    if row.expires is not None:
        attributes["exp"] = row.expires
    item["attributes"] = attributes | {"created": row.created, "updated": row.updated} | RECOVERY
    if row.tags is not None:
        item["tags"] = dict(row.tags)
    return item


def deleted_secret_body(host: str, row: DeletedSecret) -> Json:
    """Return a DeletedSecretBundle without the value."""
    return secret_item(host, row.latest, versioned=True) | {
        "recoveryId": f"https://{host}/deletedsecrets/{row.latest.name}",
        "deletedDate": row.deleted_at,
        "scheduledPurgeDate": row.purge_at,
    }


def paginate(request: Request, items: list[Json]) -> Json:
    """Return a page of `items` as the query requests it, with the URL of the next page.

    Raises:
        HttpError: `maxresults` or the skip token is invalid.
    """
    size = _parse_page_size(request.query.get("maxresults"))
    start = _parse_skip_token(request.query.get("$skiptoken"))
    following = None
    if start + size < len(items):
        token = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        query = urlencode(
            {
                "api-version": request.query.get("api-version", ""),
                "$skiptoken": token,
                "maxresults": size,
            }
        )
        following = f"https://{request.host}{request.path}?{query}"
    return {"value": items[start : start + size], "nextLink": following}


def _parse_page_size(text: str | None) -> int:
    if text is None:
        return MAX_PAGE
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_PAGE):
        raise HttpError(
            vault_error_response(
                400, "BadParameter", f"maxresults must be between 1 and {MAX_PAGE}."
            )
        )
    return int(text)


def _parse_skip_token(token: str | None) -> int:
    if token is None:
        return 0
    try:
        return max(0, int(base64.urlsafe_b64decode(token)))
    except (ValueError, binascii.Error):
        raise HttpError(
            vault_error_response(400, "BadParameter", "The skip token is malformed.")
        ) from None


def _attributes(body: _PatchBody) -> SecretAttributes:
    attributes = body.attributes or _Attributes()
    return SecretAttributes(
        enabled=attributes.enabled,
        expires=attributes.exp,
        not_before=attributes.nbf,
        content_type=body.contentType,
        tags=body.tags,
    )


def _malformed_body() -> HttpError:
    return HttpError(
        vault_error_response(
            400, "BadParameter", "The request body is not the JSON that was expected."
        )
    )
