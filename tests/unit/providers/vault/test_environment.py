"""keyferry.providers.vault.environment and the corresponding flags."""

from __future__ import annotations

import pytest

from keyferry.cli.flags.go_flags import parse_flags
from keyferry.cli.flags.vault import vault_flags, vault_settings, warn_ignored_variables
from keyferry.errors import PlatformError
from keyferry.providers.settings import TlsLayer, VaultSettings
from keyferry.providers.vault.environment import IGNORED_VARIABLES, read_environment
from keyferry.providers.vault.product import OPENBAO, VAULT
from keyferry.resilience.settings import CallLimits, ResilienceSettings
from tests.fakes.log import captured_log

FLAG = "--vault-tls-client"


def test_settings_without_variables_and_flags_are_defaults() -> None:
    """The defaults are those of HashiCorp's client library."""
    assert VaultSettings() == vault_settings(VAULT, {}, parse_flags([], vault_flags(VAULT)).values)


def test_flags_take_precedence_over_variables() -> None:
    """A variable applies if the flag is not set."""
    environ = {"VAULT_ADDR": "https://env:8200", "VAULT_NAMESPACE": "team", "VAULT_CACERT": "/ca"}
    flags = parse_flags(
        ["-vault-addr=https://flag:8200", "--vault-tls-server-name=x", "-vault-mount", "k8s"],
        vault_flags(VAULT),
    )
    settings = vault_settings(VAULT, environ, flags.values)
    assert ("https://flag:8200", "team", "k8s") == (
        settings.address,
        settings.namespace,
        settings.auth_mount,
    )
    assert (TlsLayer(ca_file="/ca"), TlsLayer(server_name="x")) == settings.tls


def test_openbao_variables_take_precedence_over_vault_variables() -> None:
    """An empty OpenBao variable also takes precedence."""
    environ = {"BAO_ADDR": "", "VAULT_ADDR": "https://v", "VAULT_NAMESPACE": "n"}
    assert "" == read_environment(environ, OPENBAO).address
    assert "n" == read_environment(environ, OPENBAO).namespace
    assert "https://v" == read_environment(environ, VAULT).address
    assert "" == read_environment({"BAO_ADDR": "https://b"}, VAULT).address


def test_every_variable_sets_its_setting() -> None:
    """PROXY_ADDR takes precedence over HTTP_PROXY."""
    environment = read_environment(
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
    assert TlsLayer("", "PEM", "/cas", "name", "/c", "/k", skip_verify=True) == environment.tls
    assert ("unix:///agent.sock", "http://b") == (environment.agent_address, environment.proxy)
    assert (False, (("X-Team", "shop"),)) == (environment.follow_redirects, environment.headers)


def test_token_variable_is_ignored_with_reason() -> None:
    """Every ignored variable is reported with a reason, unless it turns nothing on."""
    environ = {f"VAULT_{name}": "1" for name in IGNORED_VARIABLES}
    assert dict(read_environment(environ, VAULT).ignored) == {
        f"VAULT_{name}": why for name, why in IGNORED_VARIABLES.items()
    }
    environ = {"VAULT_TOKEN": "", "VAULT_SRV_LOOKUP": "false"}
    assert () == read_environment(environ, VAULT).ignored


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("VAULT_ADRR", "did you mean VAULT_ADDR?"),
        ("VAULT_ADDRESS", "did you mean VAULT_ADDR?"),
        ("VAULT_CA_CERT", "did you mean VAULT_CACERT?"),
        ("VAULT_NAMESPCE", "did you mean VAULT_NAMESPACE?"),
        ("VAULT_TLS_SKIP_VERIFY", "did you mean VAULT_SKIP_VERIFY?"),
        ("BAO_CLIENT_CERTS", "did you mean BAO_CLIENT_CERT?"),
    ],
)
def test_misspelled_variable_is_reported(name: str, question: str) -> None:
    """With the variable that was meant."""
    assert ((name, question),) == read_environment({name: "x"}, OPENBAO).ignored


def test_variables_of_services_and_of_the_server_are_not_reported() -> None:
    """Kubernetes and the charts of Vault set them."""
    names = (
        "PORT SERVICE_HOST SERVICE_PORT SERVICE_PORT_HTTPS PORT_8200_TCP PORT_8200_TCP_ADDR"
        " PORT_8200_TCP_PORT API_ADDR CLUSTER_ADDR REDIRECT_ADDR K8S_POD_NAME K8S_NAMESPACE"
        " LOG_LEVEL LOG_FORMAT RAFT_NODE_ID DISABLE_USER_LOCKOUT FORMAT CLI_NO_COLOR"
        " SERVICE_PORT_HTTP AGENT_INJECTOR_SVC_PORT AGENT_INJECTOR_SVC_SERVICE_HOST"
    )
    environ = {f"VAULT_{name}": "x" for name in names.split()}
    assert () == read_environment(environ, VAULT).ignored


def test_ignored_variable_is_logged_once() -> None:
    """OpenBao also reads Vault's variables, but logs its own ones only once."""
    environ = {"VAULT_TOKEN": "canary", "BAO_WRAP_TTL": "5m", "BAO_CLIENT_KEY_BYTES": "canary"}
    with captured_log() as log:
        warn_ignored_variables(environ, VAULT, OPENBAO)
    assert 1 == log.getvalue().count("VAULT_TOKEN")
    assert "nodePublishSecretRef" in log.getvalue()
    assert 1 == log.getvalue().count("BAO_WRAP_TTL")
    assert 1 == log.getvalue().count("BAO_CLIENT_KEY_BYTES")
    assert "canary" not in log.getvalue()


@pytest.mark.parametrize(
    ("name", "value", "limits"),
    [
        ("CLIENT_TIMEOUT", "45", CallLimits(call_timeout=45)),
        ("CLIENT_TIMEOUT", "1m30s", CallLimits(call_timeout=90)),
        ("CLIENT_TIMEOUT", "0", CallLimits(call_timeout=120)),
        ("MAX_RETRIES", "0", CallLimits(tries=1)),
        ("MAX_RETRIES", "5", CallLimits(tries=6)),
        ("RATE_LIMIT", "10", CallLimits(qps=10, burst=10)),
        ("RATE_LIMIT", "0.5", CallLimits(qps=0.5, burst=1)),
        ("RATE_LIMIT", "2.5:7", CallLimits(qps=2.5, burst=7)),
        ("RATE_LIMIT", "", CallLimits()),
    ],
)
def test_rate_limit_retries_and_timeout_are_parsed(
    name: str, value: str, limits: CallLimits
) -> None:
    """They are parsed like in the client library. OpenBao's variable takes precedence."""
    assert limits == read_environment({f"VAULT_{name}": value}, VAULT).limits
    assert limits == read_environment({f"VAULT_{name}": value}, OPENBAO).limits
    both = {f"BAO_{name}": value, f"VAULT_{name}": "3"}
    assert limits == read_environment(both, OPENBAO).limits
    settings = vault_settings(VAULT, {f"VAULT_{name}": value}, {})
    assert limits == settings.limits


def test_provider_limits_override_global_limits() -> None:
    """Limits that are not set remain."""
    all_of_them = ResilienceSettings()
    assert all_of_them == all_of_them.with_limits(CallLimits())
    limited = all_of_them.with_limits(CallLimits(qps=5, burst=6, tries=7, call_timeout=8))
    actual = (limited.qps, limited.burst, limited.retry.tries, limited.call_timeout)
    assert (5, 6, 7, 8) == actual
    assert all_of_them.retry.base == limited.retry.base


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VAULT_ADDR", "canary:8200"),
        ("VAULT_AGENT_ADDR", "unix://canary"),
        ("VAULT_SKIP_VERIFY", "canary"),
        ("VAULT_DISABLE_REDIRECTS", "canary"),
        ("VAULT_SRV_LOOKUP", "canary"),
        ("VAULT_CLIENT_TIMEOUT", "canary"),
        ("VAULT_CLIENT_TIMEOUT", "1.5"),
        ("VAULT_CLIENT_TIMEOUT", "-5s"),
        ("VAULT_MAX_RETRIES", "canary"),
        ("VAULT_MAX_RETRIES", "-1"),
        ("VAULT_MAX_RETRIES", "1.0"),
        ("VAULT_RATE_LIMIT", "canary"),
        ("VAULT_RATE_LIMIT", "10:canary"),
        ("VAULT_RATE_LIMIT", "-1"),
        ("VAULT_RATE_LIMIT", "nan"),
        ("VAULT_RATE_LIMIT", "0"),
        ("VAULT_RATE_LIMIT", "10:0"),
        ("VAULT_HEADERS", "canary"),
        ("VAULT_HEADERS", '{"X-Vault-Token": "canary"}'),
        ("VAULT_HEADERS", '{"A": 1}'),
        ("VAULT_HEADERS", '{"A": "canary\\n"}'),
    ],
)
def test_invalid_variable_is_named_without_its_value(name: str, value: str) -> None:
    """The error occurs at the start, not at a mount."""
    with pytest.raises(PlatformError, match=name) as caught:
        read_environment({name: value}, VAULT)
    assert "canary" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("words", "environ", "configured", "missing"),
    [
        (["-vault-tls-client-cert=/c"], {}, f"{FLAG}-cert", f"{FLAG}-key"),
        (["-vault-tls-client-key=/k"], {}, f"{FLAG}-key", f"{FLAG}-cert"),
        ([], {"VAULT_CLIENT_CERT": "/c"}, "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY"),
        (
            ["-vault-tls-client-cert=/c"],
            {"VAULT_CLIENT_KEY": "/k"},
            "VAULT_CLIENT_KEY",
            "VAULT_CLIENT_CERT",
        ),
    ],
)
def test_client_certificate_without_key_stops_the_start(
    words: list[str], environ: dict[str, str], configured: str, missing: str
) -> None:
    """Also if the variable and the flag set one half each."""
    values = parse_flags(words, vault_flags(VAULT)).values
    with pytest.raises(PlatformError) as caught:
        vault_settings(VAULT, environ, values)
    assert f"{configured} is set, but {missing} is not" == caught.value.problem
    assert "both, in the same place" in caught.value.remedy
