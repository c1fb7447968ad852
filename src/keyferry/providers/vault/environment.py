"""Reads the environment variables of Vault and OpenBao. [pure]

A variable with the preferred prefix takes precedence even if it is empty. Variables that would give
every pod the same token, or wrap every response, are ignored.

Source: docs/reference/upstream-vault-provider.md#environment-variables
Source: docs/reference/upstream-vault-provider.md#openbao
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.errors import SettingInvalidError
from keyferry.formats.go_json import NotJsonError, read_json
from keyferry.formats.go_values import parse_boolean, parse_duration
from keyferry.formats.unknown_fields import FieldTable
from keyferry.providers.settings import TlsLayer
from keyferry.providers.vault.http.server import parse_address
from keyferry.resilience.settings import CallLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.vault.product import Product

_USE_FILES_INSTEAD = (
    "a private key in the environment is exposed to all child processes and process dumps. Unset "
    "both, and set ..._CLIENT_CERT and ..._CLIENT_KEY to files"
)
IGNORED_VARIABLES: Mapping[str, str] = {
    "TOKEN": "every pod would read secrets with this token. Unset it; to use a token for one pod, "
    "set vaultAuthMethod: token in its SecretProviderClass and put the token into a Secret "
    "(nodePublishSecretRef)",
    "WRAP_TTL": "responses would be wrapped, and files would not contain their secrets. Unset it",
    "SRV_LOOKUP": "SRV records are not supported. Unset it, and write host and port into the "
    "address, such as https://vault.example.com:8200",
    "CLIENT_CERT_BYTES": _USE_FILES_INSTEAD,
    "CLIENT_KEY_BYTES": _USE_FILES_INSTEAD,
}
"""Variables that have no effect, without their prefix: the reason, and what to do."""
_VARIABLES = FieldTable(
    (
        "ADDR",
        "AGENT_ADDR",
        "NAMESPACE",
        "CACERT",
        "CACERT_BYTES",
        "CAPATH",
        "TLS_SERVER_NAME",
        "CLIENT_CERT",
        "CLIENT_KEY",
        "SKIP_VERIFY",
        "HEADERS",
        "DISABLE_REDIRECTS",
        "PROXY_ADDR",
        "HTTP_PROXY",
        "RATE_LIMIT",
        "MAX_RETRIES",
        "CLIENT_TIMEOUT",
        *IGNORED_VARIABLES,
    ),
    synonyms={"ADDRESS": "ADDR", "URL": "ADDR", "TLS_SKIP_VERIFY": "SKIP_VERIFY"},
    notes={"K8S_NAMESPACE": "the chart of the vault sets it"},
)
"""All variables, without their prefix."""
MAX_CALL_SECONDS = 120.0
"""Timeout that "no limit" means: kubelet cancels a mount after this time."""
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?::([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Environment:
    """The settings from environment variables.

    Attributes:
        address: address of the vault; "" if not set.
        agent_address: address of an agent that receives all requests; "" for none.
        namespace: namespace of the vault.
        tls: TLS settings; flags take precedence over them.
        headers: further headers of each request.
        follow_redirects: whether one redirect is followed.
        proxy: URL of an HTTP proxy.
        limits: rate limit, retries and timeout of requests.
        ignored: variables that are set but have no effect, as (name, reason and remedy);
            misspelled ones, too.
    """

    address: str = ""
    agent_address: str = ""
    namespace: str = ""
    tls: TlsLayer = field(default_factory=TlsLayer)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    follow_redirects: bool = True
    proxy: str = ""
    limits: CallLimits = field(default_factory=CallLimits)
    ignored: tuple[tuple[str, str], ...] = ()


class _Variables:
    def __init__(self, environ: Mapping[str, str], product: Product) -> None:
        self._environ = environ
        self._prefixes = product.env_prefixes

    def name(self, suffix: str) -> str:
        """Return the name of the variable that takes effect; the last spelling if none is set."""
        names = [prefix + suffix for prefix in self._prefixes]
        return next((name for name in names if name in self._environ), names[-1])

    def misspelled(self) -> tuple[tuple[str, str], ...]:
        """Return variables that resemble known ones, as (name, question).

        Others are not reported: Kubernetes sets `VAULT_PORT` for a Service with the name `vault`.
        """
        return tuple(
            (f"{prefix}{field.name}", f"did you mean {prefix}{field.suggestion}?")
            for prefix in self._prefixes
            for field in _VARIABLES.find_misspelled(
                "", [name[len(prefix) :] for name in self._environ if name.startswith(prefix)]
            )
        )

    def text(self, suffix: str) -> str:
        return self._environ.get(self.name(suffix), "").strip()

    def boolean(self, suffix: str) -> bool:
        text = self.text(suffix)
        value = parse_boolean(text) if text else False
        if value is None:
            raise _variable_error(
                self.name(suffix), "is neither true nor false", "Set it to true or false."
            )
        return value


def read_environment(environ: Mapping[str, str], product: Product) -> Environment:
    """Read the environment variables of a product.

    Args:
        environ: all environment variables.
        product: selects the prefixes of its variables.

    Raises:
        SettingInvalidError: a variable is invalid. The message does not quote its value.
    """
    variables = _Variables(environ, product)
    for suffix in ("ADDR", "AGENT_ADDR"):
        _check_address(variables.name(suffix), variables.text(suffix))
    return Environment(
        address=variables.text("ADDR"),
        agent_address=variables.text("AGENT_ADDR"),
        namespace=variables.text("NAMESPACE"),
        tls=TlsLayer(
            ca_file=variables.text("CACERT"),
            ca_pem=variables.text("CACERT_BYTES"),
            ca_folder=variables.text("CAPATH"),
            server_name=variables.text("TLS_SERVER_NAME"),
            client_cert=variables.text("CLIENT_CERT"),
            client_key=variables.text("CLIENT_KEY"),
            skip_verify=variables.boolean("SKIP_VERIFY"),
        ),
        headers=_headers(variables) if product.env_prefixes == ("VAULT_",) else (),
        follow_redirects=not variables.boolean("DISABLE_REDIRECTS"),
        proxy=variables.text("PROXY_ADDR") or variables.text("HTTP_PROXY"),
        limits=_call_limits(variables),
        ignored=tuple(
            (variables.name(suffix), reason)
            for suffix, reason in IGNORED_VARIABLES.items()
            if (variables.boolean(suffix) if suffix == "SRV_LOOKUP" else variables.text(suffix))
        )
        + variables.misspelled(),
    )


def _check_address(name: str, text: str) -> None:
    try:
        parse_address(text or "https://unset")
    except ValueError as error:
        remedy = "Set it to an address such as https://vault.example.com:8200 or unix:///path."
        raise _variable_error(name, str(error), remedy) from None


def _call_limits(variables: _Variables) -> CallLimits:
    rate, burst = _rate_and_burst(variables)
    retries = variables.text("MAX_RETRIES")
    if retries and not re.fullmatch("[0-9]{1,9}", retries):
        raise _variable_error(
            variables.name("MAX_RETRIES"),
            "is not a whole number",
            "Set it to a number of retries, such as 2, or 0 for none.",
        )
    return CallLimits(
        qps=rate,
        burst=burst,
        tries=int(retries) + 1 if retries else None,
        call_timeout=_timeout_seconds(variables),
    )


def _rate_and_burst(variables: _Variables) -> tuple[float, int] | tuple[None, None]:
    """Parse QPS and burst. Without a burst, the burst is the number of requests per second."""
    text, name = variables.text("RATE_LIMIT"), variables.name("RATE_LIMIT")
    if not text:
        return None, None
    parts = _RATE.fullmatch(text)
    if parts is None:
        remedy = "Set it to requests per second, such as 100, or with a burst: 100:200."
        raise _variable_error(name, "is neither a rate nor rate:burst", remedy)
    rate = float(parts[1])
    burst = max(int(rate), 1) if parts[2] is None else int(parts[2])
    if not rate or not burst:
        remedy = "Set it to numbers greater than 0, or unset it."
        raise _variable_error(name, "allows no requests", remedy)
    return rate, burst


def _timeout_seconds(variables: _Variables) -> float | None:
    text, name = variables.text("CLIENT_TIMEOUT"), variables.name("CLIENT_TIMEOUT")
    if not text:
        return None
    try:
        seconds = float(text) if re.fullmatch("[0-9]{1,9}", text) else parse_duration(text)
    except ValueError:
        raise _variable_error(
            name, "is not a valid duration", "Set it to 60s, 2m or a number of seconds."
        ) from None
    if seconds < 0:
        raise _variable_error(name, "is negative", "Set it to 60s, 2m, or 0 for no limit.")
    return seconds or MAX_CALL_SECONDS


def _headers(variables: _Variables) -> tuple[tuple[str, str], ...]:
    text = variables.text("HEADERS")
    if not text:
        return ()
    name = variables.name("HEADERS")
    try:
        document = read_json(text.encode(errors="replace"))
    except NotJsonError:
        document = None
    if not isinstance(document, dict):
        raise _variable_error(name, "is not a JSON object", 'Set it to {"Name": "value"}.')
    for key, value in document.items():
        if type(value) is not str or not _is_header(key, value):
            raise _variable_error(
                name, "contains an invalid header", 'Set it to {"Name": "value"}.'
            )
        if key.lower().startswith("x-vault-"):
            remedy = "Remove the header X-Vault-..."
            raise _variable_error(name, "contains a header that is reserved for Vault", remedy)
    return tuple((key, str(value)) for key, value in document.items())


def _is_header(name: str, value: str) -> bool:
    letters = name.replace("-", "").replace("_", "")
    return letters.isascii() and letters.isalnum() and value.isprintable()


def _variable_error(name: str, problem: str, remedy: str) -> SettingInvalidError:
    return SettingInvalidError(f"the environment variable {name} {problem}", remedy)
