"""keyferry.providers.vault.params: SecretProviderClass parameters for both products."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pytest

from keyferry.errors import ClassInvalidError, IdentityError, KeyferryError
from keyferry.providers.settings import TlsLayer, VaultSettings
from keyferry.providers.vault.auth.login import AppRoleLogin, CertLogin, JwtLogin, TokenLogin
from keyferry.providers.vault.http.server import TlsSettings
from keyferry.providers.vault.params import MountParams, parse_mount
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.records import replace
from tests.fakes.vault_auth import service_account_token
from tests.fakes.vault_mounts import tokens_json

OBJECTS = "- {objectName: a, secretPath: b}"
POD = {
    "csi.storage.k8s.io/pod.name": "web-0",
    "csi.storage.k8s.io/pod.namespace": "shop",
    "csi.storage.k8s.io/pod.uid": "u",
    "csi.storage.k8s.io/serviceAccount.name": "web",
}


def parse(
    parameters: Mapping[str, str],
    *,
    product: Product = VAULT,
    settings: VaultSettings | None = None,
    secrets: Mapping[str, str] | None = None,
    target_path: str = "/t",
) -> MountParams:
    return parse_mount(
        {"roleName": "app", "objects": OBJECTS, **POD, **parameters},
        secrets,
        target_path=target_path,
        product=product,
        settings=settings or VaultSettings(),
    )


def test_defaults_come_from_the_settings() -> None:
    """Only a role and objects are required."""
    layer = TlsLayer(ca_file="/ca")
    settings = VaultSettings("https://v:8200", "", "team", "k8s", (layer,))
    login = parse({}, settings=settings).logins[0]
    assert ("https://v:8200", "team", "k8s") == (
        login.server.address.base,
        login.server.namespace,
        login.auth_mount,
    )
    assert ("/ca",) == tuple(layer.ca_file for layer in login.server.tls.cas)
    assert JwtLogin("app", "", "") == login.method


def test_parameters_take_precedence_over_settings() -> None:
    """An agent address takes precedence over both. skip_verify cannot be turned off again."""
    settings = VaultSettings(
        "https://v", "", "team", "k8s", (TlsLayer(ca_file="/ca", skip_verify=True),)
    )
    parameters = {
        "vaultAddress": "https://mine/base/",
        "vaultNamespace": "/a/b/",
        "vaultAuthMountPath": "auth/team/jwt/",
        "vaultCADirectory": "/cas",
        "vaultTLSServerName": "name",
        "vaultTLSClientCertPath": "/c",
        "vaultTLSClientKeyPath": "/k",
        "vaultSkipTLSVerify": "false",
    }
    login = parse(parameters, settings=settings).logins[0]
    assert ("https://mine/base", "a/b", "team/jwt") == (
        login.server.address.base,
        login.server.namespace,
        login.auth_mount,
    )
    tls = login.server.tls
    assert (TlsLayer(ca_folder="/cas", from_class=True),) == tls.cas
    assert tls.client_from_class
    assert ("name", "/c", "/k", True, False) == (
        tls.server_name,
        tls.client_cert,
        tls.client_key,
        tls.skip_verify,
        tls.system_cas,
    )
    agent = VaultSettings(agent_address="unix:///agent.sock")
    assert "/agent.sock" == parse(parameters, settings=agent).logins[0].server.address.socket


def test_address_counts_as_named_by_the_class_unless_the_administrator_sets_it() -> None:
    """The default address, too: what listens there need not be a vault."""
    configured = VaultSettings("https://v:8200")
    for address, settings, from_class in (
        ("", VaultSettings(), True),
        ("https://127.0.0.1:8200", VaultSettings(), True),
        ("https://127.0.0.1:8200", VaultSettings("https://127.0.0.1:8200"), False),
        ("", configured, False),
        ("https://v:8200/", configured, False),
        ("https://v:8201", configured, True),
        ("https://v:8200/base", configured, True),
        ("https://other", VaultSettings("https://v", "unix:///agent.sock"), False),
    ):
        server = parse({"vaultAddress": address}, settings=settings).logins[0].server
        assert from_class == server.address_from_class


def test_unix_socket_is_permitted_only_to_the_administrator() -> None:
    """The socket of another pod's agent would log in as that pod."""
    parameters = {"vaultAddress": "unix:///run/agent.sock"}
    with pytest.raises(ClassInvalidError, match="may not name a Unix socket") as caught:
        parse(parameters)
    assert "--vault-addr" in caught.value.remedy
    configured = VaultSettings("unix:///run/agent.sock")
    assert not parse(parameters, settings=configured).logins[0].server.address_from_class
    with pytest.raises(ClassInvalidError, match="openbaoAddress"):
        parse({"openbaoAddress": "unix:///run/agent.sock"}, product=OPENBAO)


def test_openbao_accepts_three_prefixes_in_order_of_precedence() -> None:
    """An empty parameter also takes precedence. The CAs of all layers are trusted."""
    parameters = {
        "vaultAddress": "https://v",
        "openbaoAddress": "https://o",
        "baoNamespace": "",
        "vaultNamespace": "n",
        "baoRoleName": "bao",
        "vaultCACertPath": "/ca",
        "vaultKubernetesMountPath": "k",
    }
    settings = VaultSettings(tls=(TlsLayer(ca_file="/env"),))
    login = parse(parameters, product=OPENBAO, settings=settings).logins[0]
    assert ("https://o", "", "k") == (
        login.server.address.base,
        login.server.namespace,
        login.auth_mount,
    )
    assert ("/env", "/ca") == tuple(layer.ca_file for layer in login.server.tls.cas)
    assert login.server.tls.system_cas
    assert isinstance(login.method, JwtLogin)
    assert "bao" == login.method.role


@pytest.mark.parametrize(
    ("product", "audience", "token"),
    [(VAULT, "", "for vault"), (VAULT, "mine", "for mine"), (OPENBAO, "", "for openbao")],
)
def test_token_is_selected_by_audience(product: Product, audience: str, token: str) -> None:
    """From all tokens that kubelet sends."""
    values = {name: f"for {name}" for name in ("vault", "openbao", "mine", "other")}
    tokens = tokens_json(**values)
    parameters = {"audience": audience, "csi.storage.k8s.io/serviceAccount.tokens": tokens}
    method = parse(parameters, product=product).logins[0].method
    assert JwtLogin("app", audience, token) == method


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"vaultKubernetesMountPath": "", "vaultAuthMountPath": ""}, "are both set"),
        ({"vaultSkipTLSVerify": ""}, "vaultSkipTLSVerify is neither"),
        ({"vaultSkipTLSVerify": "yes"}, "vaultSkipTLSVerify is neither"),
        ({"objects": "a: b"}, "not a YAML list"),
        ({"csi.storage.k8s.io/serviceAccount.tokens": "{"}, "not the JSON that kubelet sends"),
        ({"roleName": ""}, "roleName is not set"),
        ({"objects": " "}, "objects is not set"),
        ({"vaultAddress": "vault:8200"}, "does not begin with https://"),
        ({"vaultAddress": "https://u:p@v"}, "user name"),
        ({"vaultAddress": "unix://x"}, "not an absolute path"),
        ({"vaultNamespace": "a\nb"}, "not a valid path of a namespace"),
        ({"vaultAuthMountPath": "a/../b"}, "not a valid path of an auth method"),
        ({"vaultTLSClientCertPath": "/c"}, "its key file is not set"),
        ({"vaultTLSClientKeyPath": "/c"}, "its certificate file is not set"),
        ({"vaultKubernetesMountPath": "a b"}, "vaultKubernetesMountPath 'a b'"),
        ({"vaultNamespace": "a b"}, "vaultNamespace 'a b'"),
        ({"vaultAuthMethod": "github"}, "vaultAuthMethod 'github' is unknown"),
    ],
)
def test_invalid_parameter_is_named(parameters: dict[str, str], words: str) -> None:
    """The error is raised before any request."""
    with pytest.raises(KeyferryError, match=words):
        parse(parameters)


def test_checks_run_in_the_order_of_upstream() -> None:
    """Mount paths, booleans, YAML, tokens, target, role, objects."""
    steps: list[tuple[dict[str, str], str]] = [
        ({"objects": ""}, "objects is not set"),
        ({"roleName": ""}, "roleName is not set"),
        ({"csi.storage.k8s.io/serviceAccount.tokens": "{"}, "not the JSON that kubelet sends"),
        ({"objects": "{"}, "not a YAML list"),
        ({"vaultSkipTLSVerify": "x"}, "neither true nor false"),
        ({"vaultKubernetesMountPath": "", "vaultAuthMountPath": ""}, "are both set"),
    ]
    wrong: dict[str, str] = {}
    for parameters, words in steps:
        wrong |= parameters
        with pytest.raises(KeyferryError, match=words):
            parse(wrong)
    with pytest.raises(KeyferryError, match="target_path is not set"):
        parse({"roleName": ""}, target_path="")


def test_token_of_another_service_account_is_rejected() -> None:
    """A SecretProviderClass could contain one to use the login of another pod."""
    token = tokens_json(vault=service_account_token("shop/admin"))
    with pytest.raises(IdentityError, match="belongs to system:serviceaccount:shop:admin"):
        parse({"csi.storage.k8s.io/serviceAccount.tokens": token})


def test_auth_methods_with_credentials_in_the_secret() -> None:
    """Each requires its keys. None requires a role."""
    values = {"role_id": "r", "secret_id": "s", "token": "t", "tls.crt": "CERT", "tls.key": "KEY"}

    def login_of(kind: str, **parameters: str) -> object:
        login = parse(
            {"roleName": "", "vaultAuthMethod": kind, **parameters}, secrets=values
        ).logins[0]
        return login.method, login.auth_mount, login.server.tls.client_pem

    assert (AppRoleLogin("r", "s"), "approle", b"") == login_of("approle")
    assert (TokenLogin("t"), "token", b"") == login_of("token")
    expected = (CertLogin("web"), "certs", b"CERT\nKEY\n")
    assert expected == login_of("cert", roleName="web", vaultAuthMountPath="certs")
    with pytest.raises(IdentityError, match="has no secret_id"):
        parse({"vaultAuthMethod": "approle"}, secrets={"role_id": "r"})


def test_repr_of_a_login_contains_no_secret() -> None:
    """Of a login, whatever its method."""
    values = {"role_id": "r", "secret_id": "canary", "token": "canary"}
    values |= {"tls.crt": "canary", "tls.key": "canary"}
    for kind in ("approle", "token", "cert"):
        assert "canary" not in repr(parse({"vaultAuthMethod": kind}, secrets=values))
    token = tokens_json(vault="canary")
    assert "canary" not in repr(parse({"csi.storage.k8s.io/serviceAccount.tokens": token}))


class TestIdentity:
    """The parts that distinguish identities in every cache."""

    @pytest.mark.parametrize(
        "parameters",
        [
            {"roleName": "other"},
            {"audience": "other"},
            {"vaultAddress": "https://other"},
            {"vaultNamespace": "other"},
            {"vaultAuthMountPath": "other"},
            {"vaultSkipTLSVerify": "true"},
            {"vaultCACertPath": "/other"},
            {"vaultTLSServerName": "other"},
            {"csi.storage.k8s.io/pod.namespace": "other"},
            {"csi.storage.k8s.io/serviceAccount.name": "other"},
        ],
    )
    def test_identity_includes_everything_that_may_change_the_response(
        self, parameters: dict[str, str]
    ) -> None:
        """Address, namespace, TLS, mount, role, audience, service account."""
        one, other = parse({}).logins[0], parse(parameters).logins[0]
        assert one.identity_parts(per_pod=False) != other.identity_parts(per_pod=False)

    def test_identity_is_equal_for_pods_and_renewed_tokens(self) -> None:
        """Unless the auth method may distinguish pods."""

        def login(uid: str, serial: int) -> MountParams:
            token = service_account_token("shop/web", serial=serial)
            tokens = tokens_json(vault=token)
            return parse(
                {
                    "csi.storage.k8s.io/pod.uid": uid,
                    "csi.storage.k8s.io/serviceAccount.tokens": tokens,
                }
            )

        one, other = login("1", 1).logins[0], login("2", 2).logins[0]
        assert one.identity_parts(per_pod=False) == other.identity_parts(per_pod=False)
        assert one.identity_parts(per_pod=True) != other.identity_parts(per_pod=True)

    def test_identity_includes_the_socket(self) -> None:
        """Behind a socket there is no host."""
        one, other = (
            parse({}, settings=VaultSettings(f"unix:///run/{name}.sock")).logins[0] for name in "ab"
        )
        assert one.identity_parts(per_pod=False) != other.identity_parts(per_pod=False)

    def test_identity_includes_the_ca(self) -> None:
        """Also if the CA is given as PEM text."""
        one, other = (TlsSettings(cas=(TlsLayer(ca_pem=pem),)) for pem in ("one", "other"))
        assert one.identity_parts != other.identity_parts

    @pytest.mark.parametrize("claim", ["iss", "sub", "uid"])
    def test_identity_includes_the_claims_of_the_token(self, claim: str) -> None:
        """Such as the issuer of another cluster, or the UID of a recreated service account."""
        keys = set()
        for value in ("one", "other"):
            claims = {"iss": "i", "sub": "s", "uid": "u", claim: value}
            account = {"kubernetes.io": {"serviceaccount": {"uid": claims.pop("uid")}}}
            body = base64.urlsafe_b64encode(json.dumps({**claims, **account}).encode()).decode()
            method = JwtLogin("app", "", f"e30.{body.rstrip('=')}.sig")
            keys.add(replace(parse({}).logins[0], method=method).identity_parts(per_pod=False))
        assert 2 == len(keys)

    @pytest.mark.parametrize("kind", ["approle", "token", "cert"])
    def test_identity_includes_the_credential(self, kind: str) -> None:
        """The cache stores only a digest (`keyferry.resilience.cache_key`)."""
        keys = ("secret_id", "token", "tls.crt", "tls.key")
        one, other = (
            parse(
                {"vaultAuthMethod": kind},
                secrets={"role_id": "r", **dict.fromkeys(keys, f"canary{number}")},
            ).logins[0]
            for number in range(2)
        )
        assert one.identity_parts(per_pod=False) != other.identity_parts(per_pod=False)
