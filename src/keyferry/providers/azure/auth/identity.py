"""The identity that a class fetches with, one union of its modes. [pure]

A new mode is one more dataclass in `Identity`; the type checker then names the two places that must
learn of it: `profile` here says what the mode is, and `keyferry.providers.azure.auth.token_sources`
how it gets its tokens.

Source: docs/reference/upstream-azure-provider.md#identity-modes
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from keyferry.errors import IdentityError, excerpt
from keyferry.providers.service_account_tokens import parse_tokens, read_claims, subject_of


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """An application of Entra with a client secret, both from the `nodePublishSecretRef` Secret."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificatePrincipal:
    """An application of Entra with a certificate, from the `nodePublishSecretRef` Secret.

    Attributes:
        client_id: of the application.
        certificate: certificate and private key, as PEM or PKCS#12.
        password: of the private key; "" for none.
    """

    client_id: str
    certificate: bytes = field(repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class VmManagedIdentity:
    """A managed identity of the machine: user-assigned by one of its ids, else system-assigned.

    At most one of the three is not "".
    """

    client_id: str
    object_id: str = ""
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class ArcIdentity:
    """The system-assigned identity of a machine that is connected to Azure Arc."""


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """An application or managed identity that trusts the service account of the pod."""

    client_id: str
    service_account_token: ServiceAccountToken


@dataclass(frozen=True, slots=True)
class IdentityBinding:
    """A managed identity that AKS lets the service account of the pod use."""

    client_id: str
    service_account_token: ServiceAccountToken


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The identity that AAD Pod Identity assigned to the pod.

    Attributes:
        namespace: of the pod.
        pod: its name.
        uid: tells it from an earlier pod of that name, which may have had another identity.
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


class TokenService(Enum):
    """Who gives tokens."""

    ENTRA = "Entra"
    TOKEN_PROXY = "the token proxy of AKS"  # noqa: S105 - a name
    IMDS = "IMDS"
    ARC = "the Azure Arc agent"
    NMI = "NMI"


@dataclass(frozen=True, slots=True)
class Profile:
    """What the rest of the code needs to know of an identity, whatever its mode.

    Attributes:
        token_service: who gives it tokens.
        fingerprint: what tells it from others beside cloud and tenant; equal means interchangeable.
            A secret is part of it, so that a changed one is another identity, and it is not to be
            kept; a service account goes in by issuer and subject, because its tokens differ from
            pod to pod while what they prove is the same.
        name: as a person would call it.
        client_id: "" where it is not known here.
        assignee: what a role is assigned to: an id, or a placeholder that says which one.
        service_account_token: what it proves itself by, where that is a service account.
        credential_key: the key of the `nodePublishSecretRef` Secret with its credential, or "".
    """

    token_service: TokenService
    fingerprint: tuple[str, ...] = field(repr=False)
    name: str
    client_id: str = ""
    assignee: str = ""
    service_account_token: ServiceAccountToken | None = None
    credential_key: str = ""


def profile(identity: Identity) -> Profile:  # noqa: PLR0911 - one for each mode
    """What `identity` is."""
    match identity:
        case ServicePrincipal(client, secret):
            return _client_profile(
                TokenService.ENTRA, identity, client, (secret,), credential_key="clientsecret"
            )
        case CertificatePrincipal(client, certificate, password):
            proof = (certificate.hex(), password)
            return _client_profile(
                TokenService.ENTRA, identity, client, proof, credential_key="clientcertificate"
            )
        case WorkloadIdentity(client, token):
            return _client_profile(
                TokenService.ENTRA, identity, client, token.fingerprint, service_account_token=token
            )
        case IdentityBinding(client, token):
            endpoint = TokenService.TOKEN_PROXY
            return _client_profile(
                endpoint, identity, client, token.fingerprint, service_account_token=token
            )
        case VmManagedIdentity():
            return _machine_profile(identity)
        case ArcIdentity():
            return Profile(
                TokenService.ARC,
                ("ArcIdentity",),
                "the system-assigned identity of this Azure Arc machine",
                assignee="<the principal id of this machine>",
            )
        case PodIdentity(namespace, pod, uid):
            return Profile(
                TokenService.NMI,
                ("PodIdentity", namespace, pod, uid),
                f"the identity of pod {excerpt(namespace)}/{excerpt(pod)}",
                assignee="<the client id of its AzureIdentity>",
            )
        case _:
            assert_never(identity)


def identity_name(identity: Identity) -> str:
    """The identity as a person would call it."""
    return profile(identity).name


def _client_profile(
    token_service: TokenService,
    identity: Identity,
    client_id: str,
    credential: tuple[str, ...],
    *,
    service_account_token: ServiceAccountToken | None = None,
    credential_key: str = "",
) -> Profile:
    """The profile of an identity with a client id."""
    shown = excerpt(client_id)
    fingerprint = (type(identity).__name__, client_id, *credential)
    return Profile(
        token_service,
        fingerprint,
        f"client id {shown}",
        client_id,
        shown,
        service_account_token,
        credential_key,
    )


def _machine_profile(identity: VmManagedIdentity) -> Profile:
    ids = {
        "client id": identity.client_id,
        "object id": identity.object_id,
        "resource id": identity.resource_id,
    }
    fingerprint = ("VmManagedIdentity", *ids.values())
    for kind, value in ids.items():
        if value:
            shown = excerpt(value)
            assignee = shown if kind != "resource id" else "<its principal id>"
            name = f"{kind} {shown}"
            return Profile(TokenService.IMDS, fingerprint, name, identity.client_id, assignee)
    return Profile(
        TokenService.IMDS,
        fingerprint,
        "the system-assigned identity of this machine",
        assignee="<the principal id of this machine>",
    )


# --- The service-account tokens that kubelet sends along with a mount -----------------------------

EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
"""What Entra takes: workload identity."""
BINDING_AUDIENCE = "api://AKSIdentityBinding"
"""What the token proxy of AKS takes: identity binding."""


@dataclass(frozen=True, slots=True)
class ServiceAccountToken:
    """A token of a Kubernetes service account for the token endpoint of Entra.

    Attributes:
        text: the JWT itself.
        issuer: its claim `iss`, "" when it cannot be read.
        subject: its claim `sub`, "" when it cannot be read.
        audience: whom it was made for.
    """

    text: str = field(repr=False)
    issuer: str
    subject: str
    audience: str = EXCHANGE_AUDIENCE

    @property
    def fingerprint(self) -> tuple[str, ...]:
        """Equal for tokens that prove the same, whichever pod they are for; not to be kept."""
        return (self.issuer, self.subject) if self.issuer and self.subject else (self.text,)


def parse_exchange_token(attribute: str) -> ServiceAccountToken:
    """The token for Entra out of the attribute `csi.storage.k8s.io/serviceAccount.tokens`.

    Raises:
        IdentityError: there are no tokens, or none for this audience, or they are not JSON.
    """
    problem = "failed to parse workload identity tokens, error"
    if not attribute.strip():
        remedy = _token_requests_remedy(EXCHANGE_AUDIENCE)
        raise IdentityError(f"{problem}: service account tokens not found", remedy)
    return _token_for(EXCHANGE_AUDIENCE, attribute, problem)


def parse_binding_token(attribute: str) -> ServiceAccountToken:
    """The token for the token proxy of AKS, out of the same attribute.

    Raises:
        IdentityError: as for `exchange_token`.
    """
    if not attribute.strip():
        problem = "service account tokens are required for identity binding"
        raise IdentityError(problem, _token_requests_remedy(BINDING_AUDIENCE))
    problem = "failed to parse service account token for identity binding, error"
    return _token_for(BINDING_AUDIENCE, attribute, problem)


def _token_for(audience: str, attribute: str, problem: str) -> ServiceAccountToken:
    tokens = parse_tokens(attribute)
    if tokens is None:
        reason = "failed to unmarshal service account tokens, error: not their JSON"
        raise IdentityError(f"{problem}: {reason}", _token_requests_remedy(audience))
    token = tokens.get(audience)
    if token is None:
        reason = f"token for audience {audience} not found"
        raise IdentityError(f"{problem}: {reason}", _token_requests_remedy(audience))
    claims = read_claims(token)
    return ServiceAccountToken(token, claims.iss, claims.sub, audience)


def _token_requests_remedy(audience: str) -> str:
    return (
        "The CSIDriver object secrets-store.csi.k8s.io needs spec.tokenRequests with the audience "
        f"{audience}; keyferry mount takes its tokens from the file of --service-account-tokens."
    )


def check_subject(token: ServiceAccountToken, *, namespace: str, service_account: str) -> None:
    """Refuse a token that says it is of another service account than the pod's.

    Kubelet never sends one; a class could carry one, to profit from what another pod's token has
    brought into the token cache.

    Args:
        token: of the mount.
        namespace: of the pod.
        service_account: of the pod as kubelet names it; "" when it does not.

    Raises:
        IdentityError: the subject is another one.
    """
    expected = subject_of(namespace=namespace, service_account=service_account)
    if service_account and token.subject not in ("", expected):
        raise IdentityError(
            f"the service-account token belongs to {excerpt(token.subject)}, "
            f"and the pod to {expected}",
            "Remove serviceAccount.tokens from the parameters of the class; kubelet sends them.",
        )
