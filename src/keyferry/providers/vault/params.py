"""The parameters of a class for Vault or OpenBao, checked once, before anything is done. [pure]

The checks stand in upstream's order, so that a class with two mistakes is told the same first one;
those of our own come after them.

Source: docs/reference/upstream-vault-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-vault-provider.md#order-of-checks
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, IdentityError, PlatformError, Stage, excerpt
from keyferry.formats.go_values import parse_boolean
from keyferry.providers.api import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.service_account_tokens import parse_tokens, read_claims, subject_of
from keyferry.providers.settings import TlsLayer
from keyferry.providers.vault.auth.login import (
    AUTH_METHODS,
    JwtLogin,
    Login,
    PodInfo,
    default_auth_mount,
    method_from_secret,
)
from keyferry.providers.vault.http.server import (
    Server,
    is_valid_namespace,
    merge_layers,
    parse_address,
)
from keyferry.providers.vault.objects import parse_objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.settings import VaultSettings
    from keyferry.providers.vault.objects import VaultObject
    from keyferry.providers.vault.product import Product

_AUTH_MOUNT_PATTERN = re.compile(r"[A-Za-z0-9._~@:+=-]+(/[A-Za-z0-9._~@:+=-]+)*")


@dataclass(frozen=True, slots=True)
class MountParams:
    """Everything that one mount asks for.

    Attributes:
        login: who reads, and where.
        objects: what to deliver, at least one.
    """

    login: Login
    objects: tuple[VaultObject, ...]


class ProductParams:
    """The parameters of one class, by the spellings of a product.

    Args:
        attributes: of the call.
        product: whose class it is.
    """

    def __init__(self, attributes: Mapping[str, str], product: Product) -> None:
        self._attributes = attributes
        self._product = product

    def spelling(self, suffix: str) -> str | None:
        """The spelling in which a parameter is given, even if empty; the strongest first."""
        keys = self._product.spellings(suffix)
        return next((key for key in keys if key in self._attributes), None)

    def get(self, suffix: str) -> str:
        """A parameter with a prefix; "" where it is absent."""
        return self._attributes.get(self.spelling(suffix) or "", "").strip()

    def get_exact(self, key: str) -> str:
        """A parameter without prefix; "" where it is absent."""
        return self._attributes.get(key, "").strip()

    def role(self) -> str:
        """The role of the auth method; "" where none is named."""
        keys = self._product.role_keys
        return self.get_exact(next((key for key in keys if key in self._attributes), ""))


def parse_mount(
    attributes: Mapping[str, str],
    secrets: Mapping[str, str] | None,
    *,
    target_path: str,
    product: Product,
    settings: VaultSettings,
) -> MountParams:
    """The mount that a call asks for.

    Args:
        attributes: of the call: the class, overlaid by what kubelet says of the pod.
        secrets: the data of the `nodePublishSecretRef` Secret, None without one.
        target_path: where the volume goes.
        product: whose class it is.
        settings: what flags and environment say.

    Raises:
        PlatformError: kubelet did not say where the volume goes.
        ClassInvalidError: a parameter is missing or malformed.
        IdentityError: the token of the pod cannot be used, or its Secret lacks something.
    """
    given = ProductParams(attributes, product)
    mount_keys = [given.spelling("KubernetesMountPath"), given.spelling("AuthMountPath")]
    if all(mount_keys):
        both = f"{mount_keys[0]} and {mount_keys[1]}"
        raise ClassInvalidError(f"{both} are both set", f"Keep {mount_keys[1]}.")
    skip_verify = _boolean(given, "SkipTLSVerify")
    listed = attributes.get("objects", "")
    objects = parse_objects(listed) if listed.strip() else ()
    tokens = _service_account_tokens(given)
    if not target_path:
        problem = "the call names no target path"
        raise PlatformError(
            problem, "Whoever calls the provider must send it.", stage=Stage.REQUEST
        )
    kind = given.get("AuthMethod") or "kubernetes"
    if kind not in AUTH_METHODS:
        key, words = given.spelling("AuthMethod"), ", ".join(AUTH_METHODS)
        raise ClassInvalidError(f"{key} is '{excerpt(kind)}'", f"Write one of: {words}.")
    if not given.role() and AUTH_METHODS[kind].needs_role:
        key = product.role_keys[0]
        raise ClassInvalidError(f"{key} is not set", f"Set {key} to a role of the auth method.")
    if not objects:
        problem = "objects is not set, so there is nothing to read"
        raise ClassInvalidError(problem, "List at least one object.")
    server = _server(given, product, settings, skip_verify=skip_verify)
    named = given.get("AuthMountPath") or given.get("KubernetesMountPath")
    key = mount_keys[1] or mount_keys[0] if named else None
    mount = _check_auth_mount(
        named or default_auth_mount(kind) or settings.auth_mount, key, product
    )
    pod = _pod_info(given)
    if AUTH_METHODS[kind].from_secret:
        method, client_pem = method_from_secret(kind, secrets or {}, role=given.role())
        return MountParams(
            Login(server.with_client_certificate(client_pem), mount, method, pod), objects
        )
    audience = given.get_exact("audience")
    token = tokens.get(audience or product.audience, "")
    _check_subject(token, pod)
    return MountParams(Login(server, mount, JwtLogin(given.role(), audience, token), pod), objects)


def _pod_info(params: ProductParams) -> PodInfo:
    return PodInfo(
        namespace=params.get_exact(POD_NAMESPACE),
        name=params.get_exact(POD_NAME),
        uid=params.get_exact(POD_UID),
        service_account=params.get_exact(SERVICE_ACCOUNT),
    )


def _boolean(params: ProductParams, suffix: str) -> bool:
    key = params.spelling(suffix)
    if key is None:
        return False
    value = parse_boolean(params.get(suffix))
    if value is None:
        problem = f"{key} is neither true nor false: '{excerpt(params.get(suffix))}'"
        raise ClassInvalidError(problem, 'Write "true" or "false".')
    return value


def _service_account_tokens(params: ProductParams) -> Mapping[str, str]:
    text = params.get_exact(SERVICE_ACCOUNT_TOKENS)
    tokens = parse_tokens(text) if text else {}
    if tokens is None:
        raise IdentityError(
            "the service account tokens of the call are not kubelet's JSON",
            "Kubelet sends them if the CSIDriver object has spec.tokenRequests; check who else "
            "calls the provider.",
        )
    return tokens


def _check_subject(token: str, pod: PodInfo) -> None:
    """Refuse a token that says it is of another service account than the pod's.

    Kubelet never sends one; a class could carry one, to profit from the login of another pod.
    """
    expected = subject_of(namespace=pod.namespace, service_account=pod.service_account)
    subject = read_claims(token).sub
    if token and pod.service_account and subject not in ("", expected):
        raise IdentityError(
            f"the service-account token belongs to {excerpt(subject)}, and the pod to {expected}",
            "Remove serviceAccount.tokens from the parameters of the class; kubelet sends them.",
        )


def _server(
    params: ProductParams, product: Product, settings: VaultSettings, *, skip_verify: bool
) -> Server:
    layer = TlsLayer(
        ca_file=params.get("CACertPath"),
        ca_folder=params.get("CADirectory"),
        server_name=params.get("TLSServerName"),
        client_cert=params.get("TLSClientCertPath"),
        client_key=params.get("TLSClientKeyPath"),
        skip_verify=skip_verify,
    )
    tls = merge_layers(
        (*settings.tls, layer), merges_cas=product.merges_cas, error=ClassInvalidError
    )
    text = settings.agent_address or params.get("Address") or settings.address
    key = params.spelling("Address") or f"--{product.name}-addr"
    try:
        address = parse_address(text)
    except ValueError as error:
        remedy = "Write it as https://vault.example.com:8200 or unix:///path."
        raise ClassInvalidError(f"{key}: the address {error}", remedy) from None
    namespace = params.get("Namespace") or settings.namespace
    if not is_valid_namespace(namespace):
        named = params.spelling("Namespace") if params.get("Namespace") else None
        where = named or f"--{product.name}-namespace"
        problem = f"{where} '{excerpt(namespace)}' cannot be the path of a namespace"
        raise ClassInvalidError(problem, f"Write it as in `{product.command} namespace list`.")
    return Server(
        address=address,
        namespace=namespace.strip("/"),
        tls=tls,
        headers=settings.headers,
        follow_redirects=settings.follow_redirects,
        proxy=settings.proxy,
        command=product.command,
    )


def _check_auth_mount(text: str, parameter: str | None, product: Product) -> str:
    """The path of an auth method; `parameter` is the parameter that names it, None for the flag."""
    path = text.strip("/").removeprefix("auth/")
    if not _AUTH_MOUNT_PATTERN.fullmatch(path) or ".." in path.split("/"):
        where = parameter or f"--{product.name}-mount"
        raise ClassInvalidError(
            f"{where} '{excerpt(text)}' cannot be the path of an auth method",
            f"Write it as in `{product.command} auth list`, without auth/.",
        )
    return path
