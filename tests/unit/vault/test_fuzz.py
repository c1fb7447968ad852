"""Whatever a vault answers and a class says: files, or an error of ours that holds no value."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyferry.errors import KeyferryError
from keyferry.vault.answer import Answer, BadAnswerError, errors_of, read_answer
from keyferry.vault.delivery import deliver
from keyferry.vault.grant import Grant, read_grant
from keyferry.vault.lease import lifetime
from keyferry.vault.login import JwtLogin, Login, Pod
from keyferry.vault.login_refusals import login_error
from keyferry.vault.objects import ReadRequest, VaultObject, parse_objects
from keyferry.vault.params import parse_mount
from keyferry.vault.product import OPENBAO, VAULT
from keyferry.vault.read_refusals import Engine, read_error
from keyferry.vault.server import Server, parse_address
from keyferry.vault.unavailable import unavailable_error
from keyferry.vault_settings import VaultSettings

CANARY = "canary-value"
CASES = 5_000 if os.environ.get("CI") else 500
MANY = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.timeout(600)
KEYS = st.sampled_from(
    [
        "request_id", "lease_id", "lease_duration", "renewable", "data", "warnings", "auth",
        "wrap_info", "mount_type", "errors", "client_token", "metadata", "certificate",
        "expiration", "password", "a", "",
    ]
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just(CANARY)
    | st.text(max_size=20)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "lease_id": st.just("") | st.just("database/creds/x/1") | LEAVES,
        "lease_duration": st.integers(-5, 10**9) | LEAVES,
        "renewable": st.booleans() | LEAVES,
        "data": VALUES
        | st.dictionaries(KEYS, VALUES, max_size=4)
        | st.fixed_dictionaries({"data": st.dictionaries(KEYS, VALUES, max_size=4)}),
        "warnings": st.lists(st.text(max_size=20), max_size=3) | VALUES,
        "auth": st.dictionaries(KEYS, VALUES, max_size=4) | VALUES,
        "wrap_info": VALUES,
        "mount_type": LEAVES,
    },
)
BODIES = (
    (ENVELOPES | VALUES).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | st.just(b"[" * 50_000)
)
OBJECTS = parse_objects(
    "- {objectName: all, secretPath: a}\n"
    "- {objectName: key, secretPath: a, secretKey: password}\n"
    "- {objectName: pointer, secretPath: a, secretKey: /data/a/0}\n"
    "- {objectName: base64, secretPath: a, secretKey: a, encoding: base64}\n"
    "- {objectName: hex, secretPath: a, secretKey: a, encoding: hex}\n"
)
WRITE = ReadRequest(OBJECTS[0].request.path, "PUT", b"{}")
LOGIN = Login(
    Server(parse_address("https://vault.test")),
    "kubernetes",
    JwtLogin("app", "vault", CANARY),
    Pod("shop", "web-0", "u", "web"),
)


def answer_of(body: bytes) -> Answer | str:
    try:
        return read_answer(body)
    except BadAnswerError as error:
        return str(error)


def outcome(found: VaultObject, answer: Answer) -> str:
    """The text of the error, or "" when there are files."""
    try:
        result = deliver(
            [found],
            {found.request: answer},
            mode=0o644,
            product=VAULT if found.name == "all" else OPENBAO,
            version_key=b"k",
        )
    except KeyferryError as error:
        return f"{error} {error.__cause__} {error!r}"
    assert isinstance(result.files[0].contents, bytes)
    return ""


@given(BODIES)
@MANY
def test_no_answer_escapes_but_as_our_error_without_a_value(body: bytes) -> None:
    """Missing parts, wrong types, no JSON at all."""
    answer = answer_of(body)
    if isinstance(answer, str):
        assert CANARY not in answer
        return
    assert CANARY not in repr(answer) or CANARY in answer.lease_id + answer.mount_type
    for found in OBJECTS:
        assert CANARY not in outcome(found, answer)
    life = lifetime(answer, WRITE, wall=1.0)
    assert life is None or life > 0


@given(BODIES)
@MANY
def test_no_login_grants_what_is_no_token(body: bytes) -> None:
    """A token goes into a header, so it is printable, and not shown."""
    answer = answer_of(body)
    if isinstance(answer, str):
        return
    grant = grant_of(answer)
    if isinstance(grant, str):
        assert CANARY not in grant
        return
    assert grant.token.isprintable()
    assert grant.token not in repr(grant)
    assert grant.life >= 0


def grant_of(answer: Answer) -> Grant | str:
    try:
        return read_grant(answer, 0.0)
    except BadAnswerError as error:
        return str(error)


REFUSALS = (
    st.lists(
        st.sampled_from(
            [
                "permission denied", f"token {CANARY}", "invalid role name", "Vault is sealed",
                "invalid audience (aud) claim", "no handler for route", "standby", "unknown role",
                "Invalid path for a versioned K/V secrets engine",
            ]
        )
        | st.text(max_size=400),
        max_size=4,
    ).map(lambda errors: json.dumps({"errors": errors}).encode())
    | BODIES
)  # fmt: skip
ENGINES = st.none() | st.builds(
    Engine, st.sampled_from(["a", "kv", ""]), st.sampled_from(["kv", "pki", "x"]), st.integers(0, 2)
)


@given(REFUSALS, st.integers(400, 599), ENGINES, st.sampled_from(["a", "kv/data/x", "kv/x"]))
@MANY
def test_a_refusal_is_told_without_what_it_repeats(
    body: bytes, status: int, engine: Engine | None, path: str
) -> None:
    """A vault could be made to repeat the token that it got."""
    errors = errors_of(body)
    (found,) = parse_objects(f"- {{objectName: x, secretPath: {path}}}")
    texts = [
        str(login_error(status, errors, LOGIN, jwt=CANARY)),
        str(read_error(status, errors, found.request, LOGIN, engine=engine, token=CANARY)),
    ]
    for text in texts:
        assert CANARY not in text
        assert text.isprintable()
    assert str(unavailable_error(status, errors, LOGIN.server, "read", None)).isprintable()


PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            "roleName", "vaultAddress", "vaultNamespace", "vaultAuthMountPath", "audience",
            "vaultKubernetesMountPath", "vaultSkipTLSVerify", "vaultAuthMethod", "objects",
            "vaultTLSClientCertPath", "vaultTLSClientKeyPath", "vaultCACertPath", "baoAddress",
            "csi.storage.k8s.io/serviceAccount.tokens", "csi.storage.k8s.io/pod.namespace",
        ]
    ),
    st.text(max_size=30)
    | st.sampled_from(
        [
            "true", "https://v:1", "unix:///s", "kubernetes", "approle", "cert", "token", "a/b",
            '{"vault": {"token": "canary-value"}}', "- {objectName: a, secretPath: b}",
            "- {objectName: a, secretPath: b, secretArgs: {x: canary-value}}",
        ]
    ),
)  # fmt: skip


@given(PARAMETERS, st.none() | st.dictionaries(st.sampled_from(["token", "role_id"]), st.text()))
@MANY
def test_no_class_escapes_but_as_our_error(
    parameters: Mapping[str, str], secrets: Mapping[str, str] | None
) -> None:
    """Whatever it says, in either product; tokens and arguments are not shown."""
    kept_back = ("objects", "csi.storage.k8s.io/serviceAccount.tokens")
    shown = {key: value for key, value in parameters.items() if key not in kept_back}
    for product in (VAULT, OPENBAO):
        with suppress(KeyferryError):
            mount = parse_mount(
                parameters, secrets, target_path="/t", product=product, settings=VaultSettings()
            )
            assert CANARY not in repr(mount) or CANARY in "".join(shown.values())
            mount.login.identity(per_pod=True)
