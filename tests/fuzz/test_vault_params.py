"""Arbitrary SecretProviderClass parameters and environment variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import yaml
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from keyferry.errors import ClassInvalidError, KeyferryError, PlatformError
from keyferry.formats.go_json import read_json
from keyferry.formats.volume_paths import path_problem
from keyferry.providers.settings import VaultSettings
from keyferry.providers.vault.api_path import ApiPath, parse_api_path
from keyferry.providers.vault.environment import read_environment
from keyferry.providers.vault.http.server import Address, parse_address
from keyferry.providers.vault.objects import VaultObject, named_files, parse_objects
from keyferry.providers.vault.params import parse_mount
from keyferry.providers.vault.product import OPENBAO, VAULT
from tests.fuzz.messages import check_message

CANARY = "canary-value"

FIELDS = [
    "objectName", "secretPath", "secretKey", "method", "secretArgs", "filePermission", "encoding",
    "objectname", "extra",
]  # fmt: skip
WORDS = st.sampled_from([
    "db", "a/b", "../x", "/etc", "a..b", ".", "..data", "", " db ", "secret/data/db?version=3",
    "/v1/secret/x", "v1//../x", "v1/../sys", "x?a=%zz", "x?%", "x?a=%ff", "x?a;b", "?", "GET",
    "put", "LIST", "GE T", "/a/0", "~1", "base64", "HEX", "utf-16", "0640", "0o644", "900", "+7",
    "-7", "0x1A4", "1e3", "true", "null", "~", "0", "1_0", "9" * 400, "a" * 128, "a" * 5000,
    "x\ny", "\x00", "\u202e", "\ud7ff", "\u0130", "{}", "[]", "*a", "&a b", "<<", "%", "|", ">-",
    "!!python/object:os.system x", "!!binary eA==", "# x", "'", '"', "@", "`", "\t", ".inf", ".nan",
])  # fmt: skip
VALUES = WORDS | st.text(max_size=12) | st.integers() | st.floats() | st.booleans() | st.none()
DEEP = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VALUES, inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), VALUES | DEEP)
GOOD = {"objectName": "db", "secretPath": "secret/data/db"}
LISTS = st.lists(ENTRIES | ENTRIES.map(lambda entry: GOOD | entry), max_size=4)
DOCUMENTS = st.one_of(
    LISTS.map(lambda entries: yaml.safe_dump(entries, allow_unicode=True)),
    LISTS.map(lambda entries: yaml.safe_dump(entries, default_style='"')),
    ENTRIES.map(lambda entry: json.dumps([GOOD | entry])),
    st.lists(WORDS, min_size=1).map(
        lambda words: "".join(f"- {{objectName: {word}, secretPath: a}}\n" for word in words)
    ),
    DEEP.map(yaml.safe_dump),
    st.text(st.sampled_from("-?:,[]{}#&*!|>'\"%@` \n\tab0~<")),
    st.text(),
    st.sampled_from(
        [
            f"- {{objectName: {'a' * 90}, secretPath: b}}\n" * 2_000,
            '- {objectName: "\\ud800", secretPath: "\\udfff"}',
            "- &a [*a]", "- &a {objectName: a, secretArgs: *a}", "[" * 5000, "a: " * 5000,
            "- {objectName: a, secretPath: b, secretArgs: {1: 2, 1.0: 3}}",
            "- {objectName: a, secretPath: b, secretArgs: {[a]: b}}",
            "- {objectName: a, secretPath: b, secretArgs: {t: 2001-01-01}}",
            "- {objectName: a, secretPath: b, filePermission: \"0644\"}",
        ]
    ),
)  # fmt: skip


@given(DOCUMENTS)
def test_objects_text_is_a_list_of_objects_or_an_author_error(text: str) -> None:
    """No other exception. The message is one short line."""
    try:
        objects = parse_objects(text)
    except ClassInvalidError as error:
        check_message(error)
        return
    check_rules(objects)
    named = named_files({"objects": text})
    assert [vault_object.name for vault_object in objects] == [file.path for file in named]


def check_rules(objects: tuple[VaultObject, ...]) -> None:
    """Check what all later code relies on."""
    names = [vault_object.name for vault_object in objects]
    assert 0 < len(names) == len(set(names))
    for vault_object in objects:
        assert path_problem(vault_object.name) is None
        assert vault_object.mode is None or 0 < vault_object.mode <= 0o777
        assert vault_object.request.method.isascii()
        assert vault_object.request.method == vault_object.request.method.upper()
        assert str(vault_object).isprintable()
        assert str(vault_object.request).isprintable()
        assert isinstance(read_json(vault_object.canonical_json), dict)
        arguments = vault_object.request.arguments
        assert arguments is None or isinstance(read_json(arguments), dict)
        check_path(vault_object.request.path)


def check_path(path: ApiPath) -> None:
    """Check that a path stays below /v1/ however often it is decoded."""
    base = "https://vault.test:8200/team"
    url = URL(base + path.encoded, encoded=True)
    assert url.host == "vault.test"
    assert url.fragment == ""
    assert path.encoded.isascii()
    assert path.encoded.isprintable()
    assert url.raw_path.startswith("/team/v1/")
    assert not {"", ".", ".."} & set(url.path.split("/")[1:])


@given(WORDS | st.text() | st.text(st.sampled_from("a/.?%2eEvV1=&;+ \\#")))
def test_api_path_never_leaves_the_api(text: str) -> None:
    """With dots, percent escapes and queries. Parsing it again changes nothing."""
    try:
        path = parse_api_path(text)
    except ValueError as error:
        said = str(error)
        assert said.isprintable()
        return
    check_path(path)
    assert parse_api_path(f"/v1/{path.path}").path == path.path or "?" in path.path


@given(st.text() | st.text(st.sampled_from("htps:/unix.@[]:0189a%?#\\ _-")) | st.sampled_from([
    "https://a:99999", "http://[::1]:1/x", "https://[::1", "https://a@b", "https://:80", "unix://",
    "https://a/../b", "https://a:+1", "https://a:\u0661", "https://\u0661", "HTTPS://A", "http://a:",
    "https://a\n.b", "https://a.b./", "https://127.1", "https://a:1/%2e%2e", "https://[fe80::1%25e]",
]))  # fmt: skip
def test_address_is_usable_or_an_error(text: str) -> None:
    """It cannot contain a user name, a query or another host."""
    try:
        address = parse_address(text)
    except ValueError as error:
        said = str(error)
        assert said.isprintable()
        return
    assert isinstance(address, Address)
    url = URL(address.base + "/v1/x", encoded=True)
    assert url.user is None
    assert url.port
    assert url.raw_path.endswith("/v1/x")
    assert url.query_string == ""
    assert address.host.isprintable() or address.socket


PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            "roleName", "vaultAddress", "vaultNamespace", "vaultAuthMountPath", "audience",
            "vaultKubernetesMountPath", "vaultSkipTLSVerify", "vaultAuthMethod", "objects",
            "vaultTLSClientCertPath", "vaultTLSClientKeyPath", "vaultCACertPath", "baoAddress",
            "vaultTLSServerName", "vaultCADirectory", "openbaoRoleName",
            "csi.storage.k8s.io/serviceAccount.tokens", "csi.storage.k8s.io/pod.namespace",
            "csi.storage.k8s.io/serviceAccount.name",
        ]
    ),
    st.text(max_size=30)
    | st.sampled_from(
        [
            "true", "https://v:1", "unix:///s", "kubernetes", "approle", "cert", "token", "a/b",
            '{"vault": {"token": "canary-value"}}', "- {objectName: a, secretPath: b}",
            "- {objectName: a, secretPath: b, secretArgs: {x: canary-value}}", "auth/", "a/../b",
            "\u0130" * 300, "x\ny", '{"vault": {"token": "a.Y2FuYXJ5.b"}}', "[" * 4000,
        ]
    ),
)  # fmt: skip
WHOLE = {
    "roleName": "app",
    "vaultAddress": "https://v:1",
    "objects": "- {objectName: a, secretPath: b, secretArgs: {x: canary-value}}",
}


@given(
    PARAMETERS | PARAMETERS.map(lambda given: WHOLE | given),
    st.none() | st.dictionaries(st.sampled_from(["token", "role_id", "secret_id"]), st.text()),
)
def test_any_parameters_are_valid_or_a_keyferry_error(
    parameters: Mapping[str, str], secrets: Mapping[str, str] | None
) -> None:
    """For either product. Tokens and arguments are not quoted."""
    kept_back = ("objects", "csi.storage.k8s.io/serviceAccount.tokens")
    shown = {key: value for key, value in parameters.items() if key not in kept_back}
    for product in (VAULT, OPENBAO):
        try:
            mount = parse_mount(
                parameters, secrets, target_path="/t", product=product, settings=VaultSettings()
            )
        except KeyferryError as error:
            check_message(error)
            said = str(error)
            assert CANARY not in said or CANARY in "".join(shown.values())
            continue
        assert CANARY not in repr(mount) or CANARY in "".join(shown.values())
        assert mount.logins[0].identity_parts(per_pod=True) != mount.logins[0].identity_parts(
            per_pod=False
        )


VARIABLES = [
    "ADDR", "AGENT_ADDR", "NAMESPACE", "CACERT", "CACERT_BYTES", "CAPATH", "SKIP_VERIFY", "HEADERS",
    "DISABLE_REDIRECTS", "PROXY_ADDR", "HTTP_PROXY", "TOKEN", "WRAP_TTL", "SRV_LOOKUP",
    "RATE_LIMIT", "MAX_RETRIES", "CLIENT_TIMEOUT", "TLS_SERVER_NAME", "CLIENT_CERT", "CLIENT_KEY",
]  # fmt: skip
HEADERS = st.dictionaries(st.text(max_size=8), VALUES).map(json.dumps)


@given(
    st.dictionaries(
        st.sampled_from([start + name for start in ("VAULT_", "BAO_") for name in VARIABLES]),
        VALUES.map(str) | HEADERS | st.sampled_from(
            [f'{{"A": "{CANARY}\\n"}}', f'{{"X-Vault-Token": "{CANARY}"}}', '{"A": 1}', "[" * 5000,
             '{"": ""}', '{"a b": ""}', f"http://u:{CANARY}@p:1", "10:20", "1e999", "\udcff"]
        ),
    )
)  # fmt: skip
def test_environment_is_valid_or_the_error_names_the_variable(
    environ: Mapping[str, str],
) -> None:
    """A variable may contain a password, so no value is quoted."""
    for product in (VAULT, OPENBAO):
        try:
            environment = read_environment(environ, product)
        except PlatformError as error:
            said = str(error)
            assert CANARY not in said
            assert said.isprintable()
            assert any(name in said for name in environ)
            continue
        assert CANARY not in repr(environment.headers)
        assert CANARY not in str(environment.ignored)
        for name, value in environment.headers:
            assert name.isascii()
            assert value.isprintable()
    with suppress(PlatformError):
        read_environment({"VAULT_HEADERS": json.dumps(dict(environ))}, VAULT)
