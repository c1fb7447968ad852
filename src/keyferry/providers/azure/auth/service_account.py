"""The service-account tokens that kubelet sends along with a mount. [pure]

Source: azure, sections 2.5 and 2.6. Which of them an identity mode takes, and what it does without;
`keyferry.providers.service_account_tokens` reads them. `check_subject` only ever refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyferry.errors import IdentityError
from keyferry.excerpt import excerpt
from keyferry.providers.service_account_tokens import parse_tokens, read_claims, subject_of

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
