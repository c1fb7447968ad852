"""The table of the comparison: every kind of class, and the differences that docs/ lists."""

from __future__ import annotations

from keyferry.records import replace
from tests.compat.cases import (
    Case,
    Change,
    Difference,
    cert,
    key,
    secret,
)
from tests.compat.changes import delivered, refused
from tests.compat.outcome import Outcome
from tests.compat.refusal_table import identity_cases, refusal_cases
from tests.compat.secret_table import secret_cases
from tests.compat.vault_contents import Contents


def cases(contents: Contents) -> tuple[Case, ...]:
    """All of them; their names do not depend on `contents`."""
    return (
        *_secrets(contents),
        *_histories(contents),
        *_keys(contents),
        *_certificates(contents),
        *identity_cases(contents),
        *refusal_cases(),
        *secret_cases(),
    )


def _secrets(contents: Contents) -> tuple[Case, ...]:
    return (
        Case("plain", [secret("plain"), secret("other")]),
        Case("values", [secret(name) for name in ("empty", "letters", "lines", "big")]),
        Case("alias", [secret("plain", objectAlias="db"), secret("other", objectAlias="a/b/c")]),
        Case("twice", [secret("plain"), secret("plain", objectAlias="again")]),
        Case("spaces", [secret(" plain ", objectAlias=" db ", filePermission=" 0600 ")]),
        Case(
            "version",
            [
                secret("history", objectVersion=contents.versions["secret/history"][3]),
                secret("plain"),
            ],
        ),
        Case(
            "permission",
            [
                secret("plain", filePermission="0600"),
                secret("other", filePermission="755"),
                secret("letters", filePermission="0444"),
            ],
        ),
        Case(
            "encoding",
            [
                secret("plain", objectEncoding="utf-8"),
                secret("base64", objectEncoding="BasE64"),
                secret("base64-binary", objectEncoding="base64"),
                secret("hex", objectEncoding="hex"),
            ],
        ),
        Case("not-base64", [secret("no-base64", objectEncoding="base64")], says="base64"),
        Case("not-hex", [secret("plain", objectEncoding="hex")], says="hex"),
        Case(
            "permission-900",
            [secret("plain", filePermission="900")],
            differs=[Difference("a bad `filePermission` is an error", refused())],
        ),
        Case(
            "latest",
            [secret("plain", objectVersion="latest")],
            differs=[
                Difference(
                    "`objectVersion: latest` without a history",
                    delivered("latest", contents, plain=b"s3cret"),
                )
            ],
        ),
    )


def _histories(contents: Contents) -> tuple[Case, ...]:
    versions = contents.versions["secret/history"]
    return (
        Case("history-of-all", [secret("history", objectVersionHistory=10)]),
        Case("history-of-one", [secret("history", objectVersionHistory=1)]),
        Case(
            "history-from",
            [
                secret(
                    "history",
                    objectVersionHistory=9,
                    objectVersion=versions[1],
                    objectAlias="folder/old",
                )
            ],
        ),
        Case(
            "history-of-two",
            [secret("history", objectVersionHistory=2)],
            differs=[Difference("`objectVersionHistory: n`", _without("history", "2"))],
        ),
        Case(
            "history-from-nowhere",
            [secret("plain"), secret("history", objectVersionHistory=2, objectVersion="0" * 32)],
            differs=[
                Difference("an unknown or disabled `objectVersion` with a history", refused())
            ],
        ),
        Case("history-of-keys", [key("key-rsa", objectVersionHistory=5)]),
        Case("history-forbidden", [secret("nowhere", objectVersionHistory=5)], says="nowhere|404"),
    )


def _without(name: str, index: str) -> Change:
    """One version less of a history, in files and status."""

    def change(outcome: Outcome) -> Outcome:
        assert outcome.status is not None
        status = outcome.status["status"]
        left = [one for one in status["objects"] if one["id"] != f"secret/{name}/{index}"]
        files = {path: file for path, file in outcome.files.items() if path != f"{name}/{index}"}
        document = {**outcome.status, "status": {**status, "objects": left}}
        return replace(outcome, files=files, status=document)

    return change


def _keys(contents: Contents) -> tuple[Case, ...]:
    return (
        Case("keys", [key(f"key-{name}") for name in ("rsa", "hsm", "p-256", "p-384", "p-521")]),
        Case("key-version", [key("key-rsa", objectVersion=contents.versions["key/key-rsa"][1])]),
        Case(
            "key-p-256k",
            [key("key-p-256k")],
            differs=[
                Difference(
                    "curve P-256K",
                    delivered("key-p-256k", contents, key_p_256k=contents.p256k_pem),
                )
            ],
        ),
    )


def _pem_files(name: str, contents: Contents) -> dict[str, bytes]:
    """A certificate with its key as PEM, and its parts."""
    certificate, private_key = contents.parts[name]
    return {name: private_key + certificate, f"{name}.crt": certificate, f"{name}.key": private_key}


def _with_parts(name: str, contents: Contents) -> Change:
    """Keyferry writes the parts that upstream leaves empty."""
    certificate, private_key = contents.parts[name]
    parts = {f"{name}.crt": (0o644, certificate), f"{name}.key": (0o644, private_key)}
    return lambda outcome: replace(outcome, files={**outcome.files, **parts})


def _certificates(contents: Contents) -> tuple[Case, ...]:
    names = ("pem-rsa", "pem-ec")
    return (
        Case("certificates", [cert(name) for name in names]),
        Case(
            "three-types",
            [
                *(cert(name, objectAlias=f"{name}/cert") for name in names),
                *(key(name, objectAlias=f"{name}/key") for name in names),
                *(secret(name, objectAlias=f"{name}/secret") for name in names),
            ],
        ),
        Case("pkcs12-as-pem", [secret("pfx-rsa"), secret("pfx-ec")]),
        Case("chain", [secret("chain")]),
        Case("chain-broken", [secret("chain-broken")]),
        Case("format-of-pem", [secret("pem-rsa", objectFormat="pfx")]),
        Case(
            "pfx",
            [secret("pfx-rsa", objectFormat="pfx")],
            differs=[Difference("`.crt` and `.key` with pfx", _with_parts("pfx-rsa", contents))],
        ),
        Case(
            "pfx-base64",
            [secret("pfx-rsa", objectFormat="PFX", objectEncoding="base64")],
            differs=[
                Difference(
                    "`.crt` and `.key` with pfx and `objectEncoding: base64`",
                    _with_parts("pfx-rsa", contents),
                )
            ],
        ),
        Case(
            "pfx-modern",
            [secret("pfx-modern")],
            differs=[
                Difference(
                    "PKCS#12 with modern ciphers",
                    delivered("pfx-modern", contents, **_pem_files("pfx-modern", contents)),
                )
            ],
        ),
    )
