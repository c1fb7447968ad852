"""The identities with which a SecretProviderClass can authenticate, as a union of modes. [pure]

To add a mode, add a record to `Identity`. The type checker then reports the two places that must
handle it: `profile` in this module describes the mode, and
`keyferry.providers.azure.auth.token_sources` creates the source of its tokens.

Source: docs/reference/upstream-azure-provider.md#identity-modes
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from msgspec import Struct

from keyferry.errors import IdentityError, excerpt, with_upstream_prefix


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """An Entra application with a client secret, from the `nodePublishSecretRef` Secret."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificatePrincipal:
    """An Entra application with a certificate, from the `nodePublishSecretRef` Secret.

    Attributes:
        client_id: the client ID of the application.
        certificate: certificate and private key, as PEM or PKCS#12.
        password: the password of the private key; "" for none.
    """

    client_id: str
    certificate: bytes = field(repr=False)
    password: str = field(default="", repr=False)


class VmManagedIdentity(Struct, frozen=True):
    """A managed identity of the machine: user-assigned if one ID is set, else system-assigned.

    At most one of the three IDs is not "".
    """

    client_id: str
    object_id: str = ""
    resource_id: str = ""


class ArcIdentity(Struct, frozen=True):
    """The system-assigned identity of a machine connected to Azure Arc."""


class WorkloadIdentity(Struct, frozen=True):
    """An application or managed identity that trusts the pod's service account (federation)."""

    client_id: str
    service_account_token: ServiceAccountToken


class IdentityBinding(Struct, frozen=True):
    """A managed identity that AKS has bound to the pod's service account."""

    client_id: str
    service_account_token: ServiceAccountToken


class PodIdentity(Struct, frozen=True):
    """The identity that AAD Pod Identity assigned to the pod.

    Attributes:
        namespace: the namespace of the pod.
        pod: the name of the pod.
        uid: the UID of the pod; an earlier pod of that name may have had another identity.
    """

    namespace: str
    pod: str
    uid: str = ""


Identity = (
    ServicePrincipal
    | CertificatePrincipal
    | VmManagedIdentity
    | ArcIdentity
    | WorkloadIdentity
    | IdentityBinding
    | PodIdentity
)


class IdentityMode(Enum):
    """The identity modes; the values are the label `identity` of the metrics."""

    SERVICE_PRINCIPAL = "ServicePrincipal"
    CERTIFICATE_PRINCIPAL = "CertificatePrincipal"
    VM_MANAGED_IDENTITY = "VmManagedIdentity"
    ARC_IDENTITY = "ArcIdentity"
    WORKLOAD_IDENTITY = "WorkloadIdentity"
    IDENTITY_BINDING = "IdentityBinding"
    POD_IDENTITY = "PodIdentity"


class TokenService(Enum):
    """The services that issue tokens, by the names that messages use."""

    ENTRA = "Entra"
    TOKEN_PROXY = "the token proxy of AKS"  # noqa: S105 - a name
    IMDS = "IMDS"
    ARC = "the Azure Arc agent"
    NMI = "NMI"


@dataclass(frozen=True, slots=True)
class Profile:
    """The facts about an identity that the rest of the code needs, whatever its mode.

    Attributes:
        mode: the identity mode.
        token_service: the service that issues its tokens.
        fingerprint: distinguishes identities of one mode, cloud and tenant; two with equal
            fingerprints are interchangeable. A client secret is part of it, so that a changed
            secret is another identity; do not store it. A service account is represented by issuer
            and subject, because its tokens differ from pod to pod but grant the same.
        name: a name for messages.
        client_id: the client ID; "" if it is not known here.
        assignee: the ID to which a role is assigned, or a placeholder that describes it.
        service_account_token: the token with which it authenticates, if it uses one.
        credential_key: the key of the `nodePublishSecretRef` Secret with its credential, or "".
    """

    mode: IdentityMode
    token_service: TokenService
    fingerprint: tuple[str, ...] = field(repr=False)
    name: str
    client_id: str = ""
    assignee: str = ""
    service_account_token: ServiceAccountToken | None = None
    credential_key: str = ""


def profile(identity: Identity) -> Profile:  # noqa: PLR0911 - one for each mode
    """Describe `identity`."""
    match identity:
        case ServicePrincipal(client_id, secret):
            return _client_profile(
                IdentityMode.SERVICE_PRINCIPAL,
                TokenService.ENTRA,
                client_id,
                (secret,),
                credential_key="clientsecret",
            )
        case CertificatePrincipal(client_id, certificate, password):
            return _client_profile(
                IdentityMode.CERTIFICATE_PRINCIPAL,
                TokenService.ENTRA,
                client_id,
                (certificate.hex(), password),
                credential_key="clientcertificate",
            )
        case WorkloadIdentity(client_id, token):
            return _client_profile(
                IdentityMode.WORKLOAD_IDENTITY,
                TokenService.ENTRA,
                client_id,
                token.fingerprint,
                service_account_token=token,
            )
        case IdentityBinding(client_id, token):
            return _client_profile(
                IdentityMode.IDENTITY_BINDING,
                TokenService.TOKEN_PROXY,
                client_id,
                token.fingerprint,
                service_account_token=token,
            )
        case VmManagedIdentity():
            return _machine_profile(identity)
        case ArcIdentity():
            return Profile(
                IdentityMode.ARC_IDENTITY,
                TokenService.ARC,
                (),
                "the system-assigned identity of this Azure Arc machine",
                assignee="<the principal ID of this machine>",
            )
        case PodIdentity(namespace, pod, uid):
            return Profile(
                IdentityMode.POD_IDENTITY,
                TokenService.NMI,
                (namespace, pod, uid),
                f"the identity of pod {excerpt(namespace)}/{excerpt(pod)}",
                assignee="<the client ID of its AzureIdentity>",
            )
        case _:
            assert_never(identity)


def identity_name(identity: Identity) -> str:
    """Return the name of the identity for messages."""
    return profile(identity).name


def emulator_principal(identity: Identity) -> str:
    """Return `identity` as the commands of the development vault name it."""
    match identity:
        case ArcIdentity() | VmManagedIdentity("", "", ""):
            return "system"
        case _:
            return excerpt(profile(identity).client_id) or "CLIENT_ID"


def audit_names(identity: Identity, tenant: str) -> tuple[tuple[str, str], ...]:
    """Return the names of the identity for the audit log, as (field, value)."""
    mode, client_id = profile(identity).mode.value, profile(identity).client_id
    names: tuple[tuple[str, str], ...] = (
        ("mode", mode),
        ("tenantID", tenant),
        ("clientID", client_id),
    )
    if isinstance(identity, VmManagedIdentity):
        names += (("objectID", identity.object_id), ("resourceID", identity.resource_id))
    return names


def _client_profile(
    mode: IdentityMode,
    token_service: TokenService,
    client_id: str,
    credential: tuple[str, ...],
    *,
    service_account_token: ServiceAccountToken | None = None,
    credential_key: str = "",
) -> Profile:
    """Describe an identity that has a client ID."""
    shown = excerpt(client_id)
    return Profile(
        mode,
        token_service,
        (client_id, *credential),
        f"client ID {shown}",
        client_id,
        shown,
        service_account_token,
        credential_key,
    )


def _machine_profile(identity: VmManagedIdentity) -> Profile:
    ids = {
        "client ID": identity.client_id,
        "object ID": identity.object_id,
        "resource ID": identity.resource_id,
    }
    kind = next((kind for kind, value in ids.items() if value), "")
    shown = excerpt(ids[kind]) if kind else ""
    assignees = {"": "<the principal ID of this machine>", "resource ID": "<its principal ID>"}
    return Profile(
        IdentityMode.VM_MANAGED_IDENTITY,
        TokenService.IMDS,
        tuple(ids.values()),
        f"{kind} {shown}" if kind else "the system-assigned identity of this machine",
        identity.client_id,
        assignees.get(kind, shown),
    )


# --- The service-account tokens that kubelet sends with a mount -----------------------------------

EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
"""The audience that Entra accepts (workload identity)."""
BINDING_AUDIENCE = "api://AKSIdentityBinding"
"""The audience that the token proxy of AKS accepts (identity binding)."""
_MAX_AUDIENCES = 5
"""Audiences that a message lists."""


@dataclass(frozen=True, slots=True)
class ServiceAccountToken:
    """A token of a Kubernetes service account, to be exchanged for an access token.

    Attributes:
        text: the JWT itself.
        issuer: its claim `iss`; "" if it cannot be read.
        subject: its claim `sub`; "" if it cannot be read.
        audience: the audience that it was issued for.
    """

    text: str = field(repr=False)
    issuer: str
    subject: str
    audience: str = EXCHANGE_AUDIENCE

    @property
    def fingerprint(self) -> tuple[str, ...]:
        """Equal for all tokens of one service account, whichever pod they are for.

        An unreadable token is its own fingerprint, so do not store it.
        """
        return (self.issuer, self.subject) if self.issuer and self.subject else (self.text,)


def parse_exchange_token(attribute: str) -> ServiceAccountToken:
    """Return the token for Entra from the attribute `csi.storage.k8s.io/serviceAccount.tokens`.

    Raises:
        IdentityError: the attribute is empty, is not JSON, or has no token for this audience.
    """
    prefix = "failed to parse workload identity tokens, error"
    if not attribute.strip():
        remedy = _token_requests_remedy(EXCHANGE_AUDIENCE)
        error = IdentityError("service account tokens not found", remedy)
        raise with_upstream_prefix(prefix, error)
    return _token_for(EXCHANGE_AUDIENCE, attribute, prefix)


def parse_binding_token(attribute: str) -> ServiceAccountToken:
    """Return the token for the token proxy of AKS from the same attribute.

    Raises:
        IdentityError: as `parse_exchange_token`.
    """
    if not attribute.strip():
        problem = "service account tokens are required for identity binding"
        raise IdentityError(problem, _token_requests_remedy(BINDING_AUDIENCE))
    prefix = "failed to parse service account token for identity binding, error"
    return _token_for(BINDING_AUDIENCE, attribute, prefix)


def _token_for(audience: str, attribute: str, prefix: str) -> ServiceAccountToken:
    # Imports msgspec, which takes 10 ms. Only a mount has tokens, not `keyferry lint`.
    from keyferry.providers.service_account_tokens import parse_tokens, read_claims

    tokens = parse_tokens(attribute)
    if tokens is None:
        prefix = f"{prefix}: failed to unmarshal service account tokens, error"
        error = IdentityError("not a JSON object of tokens", _token_requests_remedy(audience))
        raise with_upstream_prefix(prefix, error)
    token = tokens.get(audience)
    if token is None:
        others = ", ".join(excerpt(name) for name in sorted(tokens)[:_MAX_AUDIENCES])
        reason = f"token for audience {audience} not found" + (
            f"; there are tokens for: {others}" if others else ""
        )
        error = IdentityError(reason, _token_requests_remedy(audience))
        raise with_upstream_prefix(prefix, error)
    claims = read_claims(token)
    return ServiceAccountToken(token, claims.iss, claims.sub, audience)


def _token_requests_remedy(audience: str) -> str:
    return (
        f"Add the audience {audience} to spec.tokenRequests of the CSIDriver object "
        "secrets-store.csi.k8s.io; keyferry mount reads tokens from the file of "
        "--service-account-tokens."
    )


def check_subject(token: ServiceAccountToken, *, namespace: str, service_account: str) -> None:
    """Reject a token whose subject is not the service account of the pod.

    Kubelet never sends such a token, but a SecretProviderClass could contain one, to use an access
    token that another pod's token has brought into the cache.

    Args:
        token: the token of the mount.
        namespace: the namespace of the pod.
        service_account: the pod's service account as kubelet names it; "" if kubelet does not.

    Raises:
        IdentityError: the subject is another service account.
    """
    from keyferry.providers.service_account_tokens import subject_of

    expected = subject_of(namespace=namespace, service_account=service_account)
    if service_account and token.subject not in ("", expected):
        raise IdentityError(
            f"the service-account token belongs to {excerpt(token.subject)}, "
            f"but the pod runs as {expected}",
            "Remove serviceAccount.tokens from the parameters of the SecretProviderClass; kubelet "
            "sends them.",
        )
