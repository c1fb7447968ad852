"""keyferry.providers.azure.params and modes: one parse of all parameters, in upstream's order."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import ClassInvalidError, IdentityError, KeyferryError, PlatformError
from keyferry.providers.azure.auth.identity import (
    ServiceAccountToken,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
)
from keyferry.providers.azure.clouds import CLOUDS, EnvironmentFile
from keyferry.providers.azure.params import parse_mount
from keyferry.providers.azure.vault_address import VaultAddress
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)

OBJECTS = "array:\n  - |\n    objectName: secret1\n    objectType: secret\n"
CLASS = {
    POD_NAME: "web",
    POD_NAMESPACE: "shop",
    "keyvaultName": "testkv",
    "tenantID": "11111111-2222-4333-8444-555555555555",
    "objects": OBJECTS,
}
VM = CLASS | {"useVMManagedIdentity": "true"}
CANARY = "canary-81bd"


def jwt(**claims: str) -> str:
    """A token with these claims and no signature worth the name."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{CANARY}.{payload}.{CANARY}"


def tokens(token: str, audience: str = "api://AzureADTokenExchange") -> str:
    """What kubelet sends."""
    entry = {"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}
    return json.dumps({"other": {"token": "x"}, audience: entry})


def refusal(parameters: dict[str, str], secrets: dict[str, str] | None = None) -> KeyferryError:
    """The error that parsing ends with."""
    with pytest.raises(KeyferryError) as caught:
        parse_mount(parameters, secrets)
    return caught.value


def test_parameters_are_parsed() -> None:
    """The SecretProviderClass of the getting-started guide."""
    mount = parse_mount(VM | {"userAssignedIdentityID": " 2222 ", "cloudName": ""}, None)
    assert mount.sources[0].vault == VaultAddress("testkv")
    assert mount.sources[0].tenant == CLASS["tenantID"]
    assert mount.cloud == CLOUDS[0]
    assert mount.sources[0].identity == VmManagedIdentity("2222")
    assert [found.path for found in mount.objects] == ["secret1"]


@pytest.mark.parametrize(
    ("missing", "error", "words"),
    [
        (POD_NAME, PlatformError, "pod name is not provided"),
        (POD_NAMESPACE, PlatformError, "pod namespace is not provided"),
        ("keyvaultName", ClassInvalidError, "keyvaultName is not provided"),
        ("tenantID", ClassInvalidError, "tenantId is not provided"),
        ("objects", ClassInvalidError, "objects is not set"),
    ],
)
def test_missing_parameter_is_an_error(
    missing: str, error: type[KeyferryError], words: str
) -> None:
    """A blank parameter counts as missing."""
    for absent in ({}, {missing: "  "}):
        parameters = {key: value for key, value in VM.items() if key != missing} | absent
        found = refusal(parameters)
        assert isinstance(found, error)
        assert found.problem == words


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({POD_NAME: ""}, {POD_NAMESPACE: ""}),
        ({POD_NAMESPACE: ""}, {"usePodIdentity": "tru"}),
        ({"usePodIdentity": "tru"}, {"useAzureTokenProxy": "tru"}),
        ({"useAzureTokenProxy": "tru"}, {"keyvaultName": ""}),
        ({"usePodIdentity": "true"}, {"keyvaultName": ""}),
        ({"keyvaultName": ""}, {"tenantID": ""}),
        ({"tenantID": ""}, {"cloudName": "moon"}),
        ({"cloudName": "moon"}, {"useVMManagedIdentity": "false"}),
        ({"useVMManagedIdentity": "false"}, {"objects": ""}),
        ({"objects": "invalid"}, {"keyvaultName": "kv"}),
    ],
)
def test_two_mistakes_lead_to_upstreams_first_error(
    earlier: dict[str, str], later: dict[str, str]
) -> None:
    """Users rely on the order of the checks."""
    assert refusal(VM | later | earlier).problem == refusal(VM | earlier).problem
    assert refusal(VM | later | earlier).problem != refusal(VM | later).problem


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "t", "T", "1", " true "])
def test_true_booleans(text: str) -> None:
    """Go's grammar, trimmed."""
    identity = parse_mount(CLASS | {"useVMManagedIdentity": text}, None).sources[0].identity
    assert identity == VmManagedIdentity("")


@pytest.mark.parametrize("text", ["false", "False", "FALSE", "f", "F", "0", "", "  "])
def test_false_booleans(text: str) -> None:
    """Go's grammar; empty is false."""
    parameters = VM | {"usePodIdentity": text, "useAzureTokenProxy": text}
    assert parse_mount(parameters, None).sources[0].identity == VmManagedIdentity("")


@pytest.mark.parametrize("key", ["usePodIdentity", "useVMManagedIdentity", "useAzureTokenProxy"])
@pytest.mark.parametrize("text", ["tru", "yes", "on", "tRuE", "2"])
def test_invalid_booleans_are_rejected(key: str, text: str) -> None:
    """With Go's text, which users search for, in front; people read the rest."""
    error = refusal(CLASS | {key: text})
    assert error.upstream_prefix == (
        f'failed to parse {key} flag, error: strconv.ParseBool: parsing "{text}": invalid syntax: '
    )
    assert error.problem == f'{key} is neither true nor false: "{text}"'


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kv", 'Invalid vault name: "kv", must be between 3 and 24 chars'),
        ("x" * 25, f'Invalid vault name: "{"x" * 25}", must be between 3 and 24 chars'),
        ("kv_test", 'Invalid vault name: "kv_test", must match [-a-zA-Z0-9]{3,24}'),
        ("a.evil.test", 'Invalid vault name: "a.evil.test", must match [-a-zA-Z0-9]{3,24}'),
    ],
)
def test_invalid_vault_name_is_rejected(name: str, words: str) -> None:
    """Upstream's texts."""
    assert refusal(VM | {"keyvaultName": name}).full_problem == f"failed to get vault: {words}"


def test_expiry_warning_is_the_default_of_the_objects() -> None:
    """In seconds; without it there is no warning."""
    warned = parse_mount(VM | {"expiryWarning": " 720h "}, None)
    assert [2_592_000.0] == [found.expiry_warning for found in warned.objects]
    assert [0.0] == [found.expiry_warning for found in parse_mount(VM, None).objects]
    assert "expiryWarning is not a duration: never" in str(refusal(VM | {"expiryWarning": "never"}))


def test_newer_spelling_of_tenant_id_wins() -> None:
    """`tenantID` precedes `tenantId` if it is not blank."""
    both = VM | {"tenantID": "new", "tenantId": "old"}
    assert parse_mount(both, None).sources[0].tenant == "new"
    assert parse_mount(both | {"tenantID": " "}, None).sources[0].tenant == "old"


@pytest.mark.parametrize("tenant", ["a/b", "a b", "ténant", "../x", "a?b"])
def test_tenant_that_would_change_the_url_is_rejected(tenant: str) -> None:
    """It becomes part of the token endpoint's path."""
    assert (
        "tenantId is neither an ID nor a domain name" in refusal(VM | {"tenantID": tenant}).problem
    )


def test_azure_stack_file_is_part_of_the_mount() -> None:
    """Two mounts can use different files."""
    parameters = VM | {"cloudName": "AzureStackCloud", "cloudEnvFileName": "/etc/a.json"}
    assert parse_mount(parameters, None).cloud == EnvironmentFile("/etc/a.json")


def test_service_principal_is_read_from_the_secrets() -> None:
    """Key names are not case-sensitive; other keys, and blanks at the ends, are ignored."""
    secrets = {"ClientID": "app\n", "CLIENTSECRET": " s3cret\r\n", "x": "y"}
    identity = parse_mount(CLASS, secrets).sources[0].identity
    assert identity == ServicePrincipal("app", "s3cret")
    assert "s3cret" not in repr(identity)


@pytest.mark.parametrize(
    ("secrets", "words"),
    [
        (None, "failed to get credentials, nodePublishSecretRef secret is not set"),
        ({}, "could not find clientid in secrets"),
        ({"clientsecret": CANARY}, "could not find clientid in secrets"),
        ({"clientid": "app"}, "could not find clientsecret in secrets"),
        ({"clientid": "app", "clientsecret": ""}, "could not find clientsecret in secrets"),
        ({"clientid": "app", "clientsecret": "\n"}, "could not find clientsecret in secrets"),
    ],
)
def test_incomplete_service_principal_is_rejected(
    secrets: dict[str, str] | None, words: str
) -> None:
    """Upstream's texts with their prefix."""
    found = refusal(CLASS, secrets)
    assert isinstance(found, IdentityError)
    assert found.full_problem == f"failed to build auth config for mode None: {words}"


def test_client_id_selects_workload_identity() -> None:
    """The token with the right audience is used; no Secret is needed."""
    token = jwt(iss="https://issuer.test", sub="system:serviceaccount:shop:web")
    parameters = CLASS | {"clientID": " app ", SERVICE_ACCOUNT_TOKENS: tokens(token)}
    identity = parse_mount(parameters, None).sources[0].identity
    expected = ServiceAccountToken(token, "https://issuer.test", "system:serviceaccount:shop:web")
    assert identity == WorkloadIdentity("app", expected)
    assert CANARY not in repr(identity)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("", "service account tokens not found"),
        (CANARY, "failed to unmarshal service account tokens, error: "),
        ('{"api://AzureADTokenExchange": {"token": 5}}', "failed to unmarshal service account"),
        (
            '{"api://AzureADTokenExchange": {"token": "x", "expirationTimestamp": "soon"}}',
            "failed to unmarshal",
        ),
        (
            tokens(CANARY, "api://AzureADTokenExchnge"),
            (
                "token for audience api://AzureADTokenExchange not found; there are tokens for:"
                " api://AzureADTokenExchnge"
            ),
        ),
        (tokens(""), "token for audience api://AzureADTokenExchange not found"),
        ("{}", "token for audience api://AzureADTokenExchange not found"),
        ('{"a": ' + "[" * 100_000, "failed to unmarshal service account tokens, error: "),
    ],
)
def test_unusable_tokens_are_rejected(attribute: str, words: str) -> None:
    """No fallback to a service principal, and no token in the message."""
    parameters = CLASS | {"clientID": "app", SERVICE_ACCOUNT_TOKENS: attribute}
    found = refusal(parameters, {"clientid": "app", "clientsecret": "s"})
    prefix = "failed to build auth config for mode None: failed to parse workload identity tokens"
    assert found.full_problem.startswith(f"{prefix}, error: {words}")
    assert CANARY not in str(found)
    assert found.__cause__ is None


def test_managed_identity_with_client_id_needs_no_token() -> None:
    """Upstream requires a token that it does not use."""
    assert parse_mount(VM | {"clientID": "app"}, None).sources[0].identity == VmManagedIdentity("")


def test_token_of_another_service_account_is_rejected() -> None:
    """A SecretProviderClass could contain one, to use a cached access token of another pod."""
    token = jwt(iss="https://issuer.test", sub="system:serviceaccount:shop:admin")
    parameters = CLASS | {
        "clientID": "app",
        SERVICE_ACCOUNT: "web",
        SERVICE_ACCOUNT_TOKENS: tokens(token),
    }
    problem = refusal(parameters).problem
    assert "belongs to system:serviceaccount:shop:admin" in problem
    assert "the pod runs as system:serviceaccount:shop:web" in problem


KEYS = st.sampled_from(
    [
        *VM,
        "usePodIdentity",
        "useAzureTokenProxy",
        "clientID",
        "cloudName",
        "cloudEnvFileName",
        SERVICE_ACCOUNT,
    ]
)
VALUES = (
    # Without the canary, which hypothesis finds in this file and tries.
    st.text().filter(lambda text: CANARY not in text)
    | st.sampled_from(["true", "", "AzureStackCloud", "app"])
    | st.text(st.sampled_from("array:-|\n objectNameTypsecr[]{}\"'&*")).map(
        lambda text: OBJECTS + text
    )
)
SECRETS = st.dictionaries(st.sampled_from(["clientid", "ClientSecret", "x"]), st.just(CANARY))
TOKENS = st.sampled_from([CANARY, "{", tokens(CANARY), tokens(jwt(sub="x")), tokens(jwt(iss="x"))])


@given(st.dictionaries(KEYS, VALUES), st.none() | SECRETS, st.none() | TOKENS)
def test_only_keyferry_errors_without_secrets_are_raised(
    changes: dict[str, str], secrets: dict[str, str] | None, attribute: str | None
) -> None:
    """For any SecretProviderClass, Secret and attribute of kubelet."""
    sent = {} if attribute is None else {SERVICE_ACCOUNT_TOKENS: attribute}
    shown = ""
    try:
        mount = parse_mount(CLASS | changes | sent, secrets)
        shown = repr(mount.sources[0].identity).replace(f"client_id='{CANARY}'", "")
    except KeyferryError as error:
        shown = str(error)
    assert CANARY not in shown
