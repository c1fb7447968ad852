"""keyferry.vault.environment and the flags beside it."""

from __future__ import annotations

import pytest

from keyferry.cli.goflags import parse_flags
from keyferry.cli.vault_flags import vault_flags, vault_settings
from keyferry.errors import PlatformError
from keyferry.vault.environment import WITHOUT_MEANING, read_environment
from keyferry.vault.product import OPENBAO, VAULT
from keyferry.vault_settings import TlsLayer, VaultSettings


def test_without_variables_and_flags_everything_is_the_default() -> None:
    """That of the client library."""
    assert VaultSettings() == vault_settings(VAULT, {}, parse_flags([], vault_flags(VAULT)).values)


def test_flags_count_before_variables() -> None:
    """And what only one of them says counts."""
    environ = {"VAULT_ADDR": "https://env:8200", "VAULT_NAMESPACE": "team", "VAULT_CACERT": "/ca"}
    flags = parse_flags(
        ["-vault-addr=https://flag:8200", "--vault-tls-server-name=x", "-vault-mount", "k8s"],
        vault_flags(VAULT),
    )
    found = vault_settings(VAULT, environ, flags.values)
    assert ("https://flag:8200", "team", "k8s") == (
        found.address,
        found.namespace,
        found.auth_mount,
    )
    assert (TlsLayer(ca_file="/ca"), TlsLayer(server_name="x")) == found.tls


def test_openbao_reads_its_own_variables_first() -> None:
    """Even empty ones; Vault's count where it has none."""
    environ = {"BAO_ADDR": "", "VAULT_ADDR": "https://v", "VAULT_NAMESPACE": "n"}
    assert "" == read_environment(environ, OPENBAO).address
    assert "n" == read_environment(environ, OPENBAO).namespace
    assert "https://v" == read_environment(environ, VAULT).address
    assert "" == read_environment({"BAO_ADDR": "https://b"}, VAULT).address


def test_every_variable_has_its_meaning() -> None:
    """The proxy of PROXY_ADDR counts before the other."""
    found = read_environment(
        {
            "VAULT_AGENT_ADDR": "unix:///agent.sock",
            "VAULT_CACERT_BYTES": "PEM",
            "VAULT_CAPATH": "/cas",
            "VAULT_CLIENT_CERT": "/c",
            "VAULT_CLIENT_KEY": "/k",
            "VAULT_TLS_SERVER_NAME": "name",
            "VAULT_SKIP_VERIFY": "T",
            "VAULT_HTTP_PROXY": "http://a",
            "VAULT_PROXY_ADDR": "http://b",
            "VAULT_DISABLE_REDIRECTS": "1",
            "VAULT_HEADERS": '{"X-Team": "shop"}',
        },
        VAULT,
    )
    assert TlsLayer("", "PEM", "/cas", "name", "/c", "/k", skip_verify=True) == found.tls
    assert ("unix:///agent.sock", "http://b") == (found.agent_address, found.proxy)
    assert (False, (("X-Team", "shop"),)) == (found.redirects, found.headers)


def test_the_token_of_the_process_is_no_pods() -> None:
    """It is named with a reason, like all that has no effect."""
    found = read_environment({f"VAULT_{name}": "canary" for name in WITHOUT_MEANING}, VAULT)
    assert {f"VAULT_{name}" for name in WITHOUT_MEANING} == {name for name, _ in found.ignored}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VAULT_ADDR", "canary:8200"),
        ("VAULT_AGENT_ADDR", "unix://canary"),
        ("VAULT_SKIP_VERIFY", "canary"),
        ("VAULT_DISABLE_REDIRECTS", "canary"),
        ("VAULT_HEADERS", "canary"),
        ("VAULT_HEADERS", '{"X-Vault-Token": "canary"}'),
        ("VAULT_HEADERS", '{"A": 1}'),
        ("VAULT_HEADERS", '{"A": "canary\\n"}'),
    ],
)
def test_what_cannot_be_understood_is_named_and_not_quoted(name: str, value: str) -> None:
    """At the start, not with each mount."""
    with pytest.raises(PlatformError, match=name) as caught:
        read_environment({name: value}, VAULT)
    assert "canary" not in str(caught.value)
