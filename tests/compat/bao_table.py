"""The table of the comparison for Vault and OpenBao: engines, auth methods, refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tests.compat.bao_contents import READER, BaoContents
from tests.compat.cases import Case, kubernetes_secret
from tests.e2e.vault.classes import Entry, entry

TLS = "kubernetes.io/tls"


def bao_cases(contents: BaoContents) -> tuple[Case, ...]:
    """All of them; their names do not depend on `contents`."""
    return (
        *_kv(contents),
        *_made(contents),
        *_logins(contents),
        *_refused_logins(contents),
        *_refused_reads(contents),
        *_bad_classes(contents),
        *_secrets(contents),
    )


def bao_case(
    contents: BaoContents,
    name: str,
    objects: Sequence[Entry] | str,
    parameters: Mapping[str, str | None] | None = None,
    *,
    provider: str = "vault",
    token_for: str | None = None,
    secrets: Mapping[str, str] | None = None,
    secret_objects: Sequence[Mapping[str, object]] = (),
    says: str = "",
) -> Case:
    """A case that reads as `READER` through auth/kubernetes, if its parameters say nothing else."""
    return Case(
        name,
        objects if isinstance(objects, str) else json.dumps(objects),
        parameters or {},
        vault=contents.parameters(provider),
        provider=provider,
        token_for=provider if token_for is None else token_for,
        secrets=secrets or {},
        secret_objects=secret_objects,
        says=says,
    )


PASSWORD = entry("password", "kv2/data/db", "password")


def _kv(contents: BaoContents) -> tuple[Case, ...]:
    def case(name: str, *objects: Entry, provider: str = "vault") -> Case:
        return bao_case(contents, name, objects, provider=provider)

    return (
        case("kv1", entry("a", "kv1/db", "username"), entry("b", "/v1/kv1/db", "password")),
        case("kv2", entry("a", "kv2/data/db", "username"), entry("b/c", "kv2/data/db", "password")),
        case("kv2-version", PASSWORD, entry("old", "kv2/data/db?version=1", "password")),
        case("whole", entry("one", "kv1/db"), entry("two", "kv2/data/db")),
        case("list", entry("names", "kv2/metadata/deep", "keys", method="LIST")),
        case("deep", entry("text", "kv2/data/deep/er/one", "value")),
        case(
            "json",
            *(
                entry(key, "kv2/data/odd", key)
                for key in ("number", "large", "part", "yes", "hosts", "empty")
            ),
            entry("all", "kv2/data/odd"),
            entry("name", "kv2/data/odd", "/hosts/1/name"),
        ),
        case(
            "encoding",
            entry("base64", "kv2/data/encoded", "base64", encoding="base64"),
            entry("hex", "kv2/data/encoded", "hex", encoding="hex"),
            entry("plain", "kv2/data/encoded", "hex", encoding="utf-8"),
        ),
        bao_case(
            contents,
            "modes",
            '[{objectName: a, secretPath: kv1/db, secretKey: username, filePermission: 0600},'
            " {objectName: b, secretPath: kv1/db, secretKey: username, filePermission: 292},"
            " {objectName: c, secretPath: kv1/db, secretKey: username, filePermission: 0}]",
        ),
        bao_case(
            contents,
            "openbao",
            [PASSWORD],
            {"roleName": None, "baoRoleName": f"{READER}-openbao"},
            provider="openbao",
        ),
    )  # fmt: skip


def _made(contents: BaoContents) -> tuple[Case, ...]:
    """What is made for one pod: its values are compared by `of_pod`, not with each other."""
    arguments = {"common_name": "web.example.com", "ttl": "24h"}
    return (
        bao_case(
            contents,
            "pki",
            [
                entry(
                    "web.json", "pki/issue/web", method="PUT", secretArgs=arguments,
                    filePermission=0o600,
                ),
                entry(
                    "web.pem", "pki/issue/web", "certificate", method="PUT", secretArgs=arguments
                ),
            ],
        ),
        bao_case(
            contents,
            "database",
            [
                entry("user", "database/creds/app", "username"),
                entry("password", "database/creds/app", "password"),
            ],
        ),
    )  # fmt: skip


MADE_FOR_A_POD = ("pki", "database")


def _logins(contents: BaoContents) -> tuple[Case, ...]:
    jwt = {"vaultAuthMountPath": "jwt"}
    return (
        bao_case(contents, "jwt", [PASSWORD], jwt),
        bao_case(contents, "jwt-method", [PASSWORD], {"vaultAuthMethod": "jwt"}),
        bao_case(contents, "older-mount", [PASSWORD], {"vaultKubernetesMountPath": "kubernetes"}),
        bao_case(
            contents,
            "approle",
            [PASSWORD],
            {"vaultAuthMethod": "approle", "roleName": None},
            token_for="",
            secrets=contents.approle,
        ),
    )


def _refused_logins(contents: BaoContents) -> tuple[Case, ...]:
    def case(name: str, says: str, token_for: str | None = None, **parameters: str | None) -> Case:
        return bao_case(contents, name, [PASSWORD], parameters, token_for=token_for, says=says)

    return (
        case("role-of-another", "service account name not authorized", roleName="stranger"),
        case("no-such-role", "invalid role name", roleName="nobody"),
        case("audience-of-another", "audience", roleName=f"{READER}-openbao"),
        case("no-such-mount", "permission denied", vaultAuthMountPath="nowhere"),
        case("jwt-no-such-role", "role", roleName="nobody", vaultAuthMountPath="jwt"),
        case("no-token", "audience|token", token_for=""),
        case("approle-no-secret", "role_id", token_for="", vaultAuthMethod="approle"),
    )


def _refused_reads(contents: BaoContents) -> tuple[Case, ...]:
    def case(name: str, says: str, *objects: Entry) -> Case:
        return bao_case(contents, name, objects, says=says)

    return (
        case("closed", "permission denied", entry("a", "kv2/data/closed", "value")),
        case("one-of-two", "permission denied", PASSWORD, entry("a", "kv2/data/closed", "value")),
        case("no-such-secret", "kv2/data/none", entry("a", "kv2/data/none", "value")),
        case("deleted", "kv2/data/deleted", entry("a", "kv2/data/deleted", "value")),
        case("no-such-key", "nokey", entry("a", "kv2/data/db", "nokey")),
        case("kv2-without-data", "data/", entry("a", "kv2/db", "password")),
        case(
            "not-base64", "base64", entry("a", "kv2/data/encoded", "not_base64", encoding="base64")
        ),
        case("no-such-role-of-pki", "nobody", entry("a", "pki/issue/nobody", method="PUT")),
    )  # fmt: skip


def _bad_classes(contents: BaoContents) -> tuple[Case, ...]:
    def case(
        name: str, says: str, objects: Sequence[Entry] | str, **parameters: str | None
    ) -> Case:
        return bao_case(contents, name, objects, parameters, says=says)

    return (
        case("no-role", "roleName", [PASSWORD], roleName=None),
        bao_case(contents, "no-objects", "", {"objects": None}, says="objects"),
        case("not-yaml", "objects", "{"),
        case("empty", "objects", "[]"),
        case("quoted-mode", "filePermission", [{**PASSWORD, "filePermission": "0600"}]),
        case("twice", "password", [PASSWORD, PASSWORD]),
        case("way-out", r"\.\.", [entry("../a", "kv1/db", "password")]),
        case(
            "two-mounts", "vaultKubernetesMountPath", [PASSWORD],
            vaultKubernetesMountPath="kubernetes", vaultAuthMountPath="kubernetes",
        ),
        case("bad-address", "vaultAddress", [PASSWORD], vaultAddress="nowhere"),
        case("nobody-listens", "could not be reached", [PASSWORD], vaultAddress="https://127.0.0.1:1"),
        case("no-ca", "nowhere.pem", [PASSWORD], vaultCACertPath="/nowhere.pem"),
    )  # fmt: skip


def _secrets(contents: BaoContents) -> tuple[Case, ...]:
    objects = [entry("user", "kv1/db", "username"), entry("folder/password", "kv1/db", "password")]
    both = {"username": "user", "password": "folder/password"}

    def case(name: str, *secret_objects: Mapping[str, object]) -> Case:
        return bao_case(contents, name, objects, secret_objects=secret_objects)

    return (
        case("opaque", kubernetes_secret("opaque", both)),
        case("basic-auth", kubernetes_secret("basic-auth", both, "kubernetes.io/basic-auth")),
        case(
            "several",
            kubernetes_secret("several-1", {"a": "user"}, labels={"team": "shop"}),
            kubernetes_secret("several-2", {"b": "folder/password"}),
        ),
    )
