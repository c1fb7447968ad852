"""Validates the parameters of a SecretProviderClass for Vault or OpenBao. [pure]

Upstream's checks run in upstream's order, so that a SecretProviderClass with two mistakes gets the
same first error. Keyferry's additional checks follow.

Source: docs/reference/upstream-vault-provider.md#secretproviderclass-parameters
Source: docs/reference/upstream-vault-provider.md#order-of-checks
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, IdentityError, PlatformError, Stage, excerpt
from keyferry.formats.go_values import parse_boolean
from keyferry.formats.unknown_fields import correct_missing
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.restrictions import DEFAULT_RESTRICTIONS
from keyferry.providers.service_account_tokens import parse_tokens, read_claims, subject_of
from keyferry.providers.settings import TlsLayer
from keyferry.providers.sources.numbering import (
    check_source_count,
    naming_entry,
    number_sources,
)
from keyferry.providers.vault.auth.login import (
    AUTH_METHODS,
    JwtLogin,
    Login,
    PodInfo,
    default_auth_mount,
    method_from_secret,
)
from keyferry.providers.vault.entry_vault import ADDRESS, INHERITED, ROLE
from keyferry.providers.vault.http.server import (
    DEFAULT_ADDRESS,
    Address,
    Server,
    is_valid_namespace,
    merge_layers,
    parse_address,
)
from keyferry.providers.vault.objects import parse_objects
from keyferry.records import replace
from keyferry.rendering.class_options import parse_object_defaults
from keyferry.resilience.call_context import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.restrictions import ClassRestrictions
    from keyferry.providers.settings import VaultSettings
    from keyferry.providers.vault.entry_vault import EntryVault
    from keyferry.providers.vault.objects import VaultObject
    from keyferry.providers.vault.product import Product

_AUTH_MOUNT_PATTERN = re.compile(r"[A-Za-z0-9._~@:+=-]+(/[A-Za-z0-9._~@:+=-]+)*")


class MountParams(Struct, frozen=True):
    """The validated parameters of one mount.

    Attributes:
        logins: the vaults and how to log in to them; `VaultObject.source` is an index of it.
        objects: objects to deliver, at least one.
    """

    logins: tuple[Login, ...]
    objects: tuple[VaultObject, ...]


class ProductParams:
    """Looks up SecretProviderClass parameters by the spellings of a product.

    Args:
        attributes: attributes of the mount call.
        product: product that defines the spellings.
    """

    def __init__(self, attributes: Mapping[str, str], product: Product) -> None:
        self._attributes = attributes
        self._product = product

    def spelling(self, suffix: str) -> str | None:
        """Return the spelling under which a parameter is set, possibly to ""; None if unset."""
        keys = self._product.spellings(suffix)
        return next((key for key in keys if key in self._attributes), None)

    def get(self, suffix: str) -> str:
        """Return the value of a parameter by its name without prefix; "" if unset."""
        return self._attributes.get(self.spelling(suffix) or "", "").strip()

    def get_exact(self, key: str) -> str:
        """Return the value of a parameter by its full name; "" if unset."""
        return self._attributes.get(key, "").strip()

    def missing(self, key: str, problem: str, remedy: str) -> ClassInvalidError:
        """Return the error for a missing parameter, which names a misspelled one.

        Args:
            key: the parameter.
            problem: the error.
            remedy: if no parameter resembles the missing one.
        """
        table = self._product.parameters
        written, remedy = correct_missing(table, (key,), self._attributes, remedy)
        return ClassInvalidError(f"{problem}{written}", remedy)

    def role(self) -> str:
        """Return the role of the auth method; "" if unset."""
        keys = self._product.role_keys
        return self.get_exact(next((key for key in keys if key in self._attributes), ""))


def parse_mount(
    attributes: Mapping[str, str],
    secrets: Mapping[str, str] | None,
    *,
    target_path: str,
    product: Product,
    settings: VaultSettings,
    restrictions: ClassRestrictions = DEFAULT_RESTRICTIONS,
) -> MountParams:
    """Validate the parameters of a mount call.

    Args:
        attributes: parameters of the SecretProviderClass, overlaid with kubelet's attributes of the
            pod.
        secrets: data of the `nodePublishSecretRef` Secret; None without one.
        target_path: mount path of the volume.
        product: product that the provider is for.
        settings: defaults from flags and environment.
        restrictions: what SecretProviderClasses may name.

    Raises:
        PlatformError: the target path is missing.
        ClassInvalidError: a parameter is missing or malformed.
        IdentityError: the pod's token is unusable, or its Secret is incomplete.
    """
    params = ProductParams(attributes, product)
    kubernetes_key = params.spelling("KubernetesMountPath")
    auth_key = params.spelling("AuthMountPath")
    if kubernetes_key and auth_key:
        raise ClassInvalidError(
            f"{kubernetes_key} and {auth_key} are both set", f"Remove {kubernetes_key}."
        )
    skip_verify = _boolean(params, "SkipTLSVerify")
    objects_text = attributes.get("objects", "")
    defaults = parse_object_defaults(attributes)
    objects: tuple[VaultObject, ...] = ()
    if objects_text.strip():
        objects = parse_objects(objects_text, defaults=defaults, product=product)
    tokens = _service_account_tokens(params)
    if not target_path:
        problem, remedy = "target_path is not set", "The caller of the provider must send it."
        raise PlatformError(problem, remedy, stage=Stage.REQUEST)
    entry_vaults = tuple(dict.fromkeys(each.entry_vault for each in objects)) or (INHERITED,)
    check_source_count(entry_vaults)
    parser = _LoginParser(
        attributes, secrets, tokens, product, settings, restrictions, skip_verify=skip_verify
    )
    logins = []
    for entry_vault in entry_vaults:
        with naming_entry(entry_vault, alone=len(entry_vaults) == 1):
            logins.append(parser.parse(entry_vault, has_objects=bool(objects)))
    distinct, indexes = number_sources(logins)
    if len(distinct) > 1:
        source_of = dict(zip(entry_vaults, indexes, strict=True))
        hosts = [login.server.host for login in distinct]
        objects = tuple(
            replace(each, source=source, vault=hosts[source] if len(set(hosts)) > 1 else "")
            for each in objects
            for source in (source_of[each.entry_vault],)
        )
    return MountParams(distinct, objects)


def needs_credentials(parameters: Mapping[str, str], product: Product) -> bool:
    """Return whether the auth method needs a Secret with credentials.

    False for malformed parameters.

    Args:
        parameters: of the SecretProviderClass.
        product: product that the provider is for.
    """
    method = AUTH_METHODS.get(ProductParams(parameters, product).get("AuthMethod") or "kubernetes")
    return method is not None and method.from_secret


def vault_hosts(parameters: Mapping[str, str], product: Product) -> tuple[str, ...]:
    """Return the hosts of the addresses that a SecretProviderClass names, sorted.

    None for malformed parameters, and for a class that names no address.

    Args:
        parameters: of the SecretProviderClass.
        product: product that the provider is for.
    """
    given = {ProductParams(parameters, product).get("Address")}
    if "Address" in (text := parameters.get("objects", "")):
        try:
            objects = parse_objects(text, product=product)
        except ClassInvalidError:
            return ()
        given = {
            ProductParams(each.entry_vault.applied_to(parameters, product), product).get("Address")
            for each in objects
        }
    try:
        return tuple(sorted(endpoint_of(parse_address(each).base).host for each in given if each))
    except ValueError:
        return ()


def token_audiences(parameters: Mapping[str, str], product: Product) -> frozenset[str]:
    """Return the audience of the service-account token that the auth method needs.

    None for malformed parameters, which `parse_mount` reports.

    Args:
        parameters: of the SecretProviderClass.
        product: product that the provider is for.
    """
    params = ProductParams(parameters, product)
    method = AUTH_METHODS.get(params.get("AuthMethod") or "kubernetes")
    if method is None or method.from_secret:
        return frozenset()
    return frozenset({params.get_exact("audience") or product.audience})


class _LoginParser(Struct, frozen=True):
    """Parses one login: the parameters, overridden by what an entry of `objects` names."""

    attributes: Mapping[str, str]
    secrets: Mapping[str, str] | None
    tokens: Mapping[str, str]
    product: Product
    settings: VaultSettings
    restrictions: ClassRestrictions
    skip_verify: bool

    def parse(self, entry_vault: EntryVault, *, has_objects: bool) -> Login:
        """Return the login for the entries that name `entry_vault`."""
        product, settings = self.product, self.settings
        params = ProductParams(entry_vault.applied_to(self.attributes, product), product)
        method_name = _auth_method_name(params, product)
        if not has_objects:
            raise params.missing("objects", "objects is not set", "List at least one object.")
        _check_has_effect(entry_vault, method_name, product, settings)
        server = _server(params, product, settings, self.restrictions, skip_verify=self.skip_verify)
        auth_mount_text = params.get("AuthMountPath") or params.get("KubernetesMountPath")
        auth_key = params.spelling("AuthMountPath") or params.spelling("KubernetesMountPath")
        auth_mount = _check_auth_mount(
            auth_mount_text or default_auth_mount(method_name) or settings.auth_mount,
            auth_key if auth_mount_text else None,
            product,
        )
        pod = _pod_info(params)
        if AUTH_METHODS[method_name].from_secret:
            method, client_pem = method_from_secret(
                method_name, self.secrets or {}, role=params.role()
            )
            return Login(server.with_client_certificate(client_pem), auth_mount, method, pod)
        audience = params.get_exact("audience")
        token = self.tokens.get(audience or product.audience, "")
        _check_subject(token, pod)
        return Login(server, auth_mount, JwtLogin(params.role(), audience, token), pod)


def _check_has_effect(
    entry_vault: EntryVault, method_name: str, product: Product, settings: VaultSettings
) -> None:
    """Reject what an entry names in vain. A SecretProviderClass may, as with upstream.

    Raises:
        ClassInvalidError: the auth method has no role, or all requests go to an agent.
    """
    if (key := entry_vault.spelling(ROLE)) and not AUTH_METHODS[method_name].has_role:
        problem = f"{key} of an entry has no effect with the auth method {method_name}"
        raise ClassInvalidError(problem, f"Remove {key} from the entry.")
    if (key := entry_vault.spelling(ADDRESS)) and settings.agent_address:
        raise ClassInvalidError(
            f"{key} of an entry has no effect: the administrator set "
            f"{product.env_prefixes[0]}AGENT_ADDR, so that all requests go to an agent",
            f"Remove {key} from the entry, or use a driver without an agent.",
        )


def _auth_method_name(params: ProductParams, product: Product) -> str:
    """Return the key of `AUTH_METHODS`, after checking that a required role is set."""
    method_name = params.get("AuthMethod") or "kubernetes"
    if method_name not in AUTH_METHODS:
        key, names = params.spelling("AuthMethod"), ", ".join(AUTH_METHODS)
        problem = f"{key} '{excerpt(method_name)}' is unknown"
        raise ClassInvalidError(problem, f"Set {key} to one of: {names}.")
    if not params.role() and AUTH_METHODS[method_name].needs_role:
        key = product.role_keys[0]
        remedy = f"Set {key} to a role of the auth method."
        raise params.missing("roleName", f"{key} is not set", remedy)
    return method_name


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
        raise ClassInvalidError(problem, f'Set {key} to "true" or "false".')
    return value


def _service_account_tokens(params: ProductParams) -> Mapping[str, str]:
    text = params.get_exact(SERVICE_ACCOUNT_TOKENS)
    tokens = parse_tokens(text) if text else {}
    if tokens is None:
        raise IdentityError(
            f"{SERVICE_ACCOUNT_TOKENS} is not the JSON that kubelet sends",
            "Remove it from the SecretProviderClass if it is set there: kubelet sends it if the "
            "CSIDriver object has spec.tokenRequests.",
        )
    return tokens


def _check_subject(token: str, pod: PodInfo) -> None:
    """Reject a token whose subject is not the pod's service account.

    Kubelet never sends one, but a SecretProviderClass could contain one to use another pod's login.
    """
    expected = subject_of(namespace=pod.namespace, service_account=pod.service_account)
    subject = read_claims(token).sub
    if token and pod.service_account and subject not in ("", expected):
        raise IdentityError(
            f"the service-account token belongs to {excerpt(subject)}, but the pod runs as "
            f"{expected}",
            f"Remove {SERVICE_ACCOUNT_TOKENS} from the SecretProviderClass; kubelet sends it.",
        )


def _server(
    params: ProductParams,
    product: Product,
    settings: VaultSettings,
    restrictions: ClassRestrictions,
    *,
    skip_verify: bool,
) -> Server:
    layer = TlsLayer(
        ca_file=params.get("CACertPath"),
        ca_folder=params.get("CADirectory"),
        server_name=params.get("TLSServerName"),
        client_cert=params.get("TLSClientCertPath"),
        client_key=params.get("TLSClientKeyPath"),
        skip_verify=skip_verify,
        from_class=True,
    )
    tls = merge_layers(
        (*settings.tls, layer), merges_cas=product.merges_cas, error=ClassInvalidError
    )
    address, from_class = _address(params, product, settings, restrictions)
    namespace = params.get("Namespace") or settings.namespace
    if not is_valid_namespace(namespace):
        parameter = params.spelling("Namespace") if params.get("Namespace") else None
        source = parameter or f"--{product.name}-namespace"
        problem = f"{source} '{excerpt(namespace)}' is not a valid path of a namespace"
        remedy = f"Write the path as `{product.command} namespace list` shows it."
        raise ClassInvalidError(problem, remedy)
    return Server(
        address=address,
        namespace=namespace.strip("/"),
        address_from_class=from_class,
        tls=tls,
        headers=settings.headers,
        follow_redirects=settings.follow_redirects,
        proxy=settings.proxy,
        command=product.command,
    )


def _address(
    params: ProductParams,
    product: Product,
    settings: VaultSettings,
    restrictions: ClassRestrictions,
) -> tuple[Address, bool]:
    """Return the address of the vault, and whether it counts as named by a SecretProviderClass.

    An address that the administrator sets, too, does not. The default address does: what listens
    there need not be a vault.
    """
    given = "" if settings.agent_address else params.get("Address")
    try:
        configured = settings.agent_address or settings.address
        trusted = parse_address(configured) if configured else None
        address = parse_address(given) if given else trusted or parse_address(DEFAULT_ADDRESS)
    except ValueError as error:
        source = params.spelling("Address") or f"--{product.name}-addr"
        remedy = "Set it to an address such as https://vault.example.com:8200."
        raise ClassInvalidError(f"{source}: the address {error}", remedy) from None
    from_class = address != trusted
    if from_class and address.socket and not restrictions.unix_sockets:
        raise ClassInvalidError(
            f"{params.spelling('Address')}: a SecretProviderClass may not name a Unix socket",
            f"Remove it. An administrator can set --{product.name}-addr to the socket, or "
            f"{product.env_prefixes[0]}AGENT_ADDR for all SecretProviderClasses.",
        )
    return address, from_class


def _check_auth_mount(text: str, parameter: str | None, product: Product) -> str:
    """Return the validated path of an auth method.

    Args:
        text: the path, with or without `auth/`.
        parameter: SecretProviderClass parameter that sets it; None for the flag.
        product: product that the provider is for.
    """
    path = text.strip("/").removeprefix("auth/")
    if not _AUTH_MOUNT_PATTERN.fullmatch(path) or ".." in path.split("/"):
        source = parameter or f"--{product.name}-mount"
        raise ClassInvalidError(
            f"{source} '{excerpt(text)}' is not a valid path of an auth method",
            f"Write the path as `{product.command} auth list` shows it, without auth/.",
        )
    return path
