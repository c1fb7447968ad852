"""What the environment variables of Vault and OpenBao say. [pure]

A variable of the stronger prefix counts even if it is empty. Those that would give every pod the
same token, or wrap every answer, are not heard.

Source: docs/reference/upstream-vault-provider.md#environment-variables
Source: docs/reference/upstream-vault-provider.md#openbao
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage
from keyferry.formats.go_json import NotJsonError, read_json
from keyferry.formats.go_values import parse_boolean, parse_duration
from keyferry.providers.settings import TlsLayer
from keyferry.providers.vault.http.server import parse_address
from keyferry.resilience.settings import CallLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.vault.product import Product

_USE_FILES_INSTEAD = (
    "a private key does not belong in the environment, where every child and every dump of the "
    "process has it. Unset both, and name files by ..._CLIENT_CERT and ..._CLIENT_KEY"
)
IGNORED_VARIABLES: Mapping[str, str] = {
    "TOKEN": "every pod would read with it. Unset it; for one pod, set vaultAuthMethod of its "
    "class to token, with the token in a Secret of the pod (nodePublishSecretRef)",
    "WRAP_TTL": "answers would be wrapped, and no file would hold its secret. Unset it",
    "SRV_LOOKUP": "SRV records are not looked up. Unset it, and write host and port into the "
    "address, such as https://vault.example.com:8200",
    "CLIENT_CERT_BYTES": _USE_FILES_INSTEAD,
    "CLIENT_KEY_BYTES": _USE_FILES_INSTEAD,
}
"""The variables that have no effect, without their prefix: why, and what to do."""
MAX_CALL_SECONDS = 120.0
"""Kubelet gives a mount no more, so this is how long without a limit is."""
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?::([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Environment:
    """What was found.

    Attributes:
        address: of the vault; "" where none is named.
        agent_address: of an agent that takes all requests.
        namespace: sent along.
        tls: the layer below the flags.
        headers: of every request.
        follow_redirects: whether one redirect is followed.
        proxy: of HTTP.
        limits: of the calls.
        ignored: the variables that are set without effect: why, and what to do.
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
        """The variable that counts; the weakest one where none is set."""
        names = [prefix + suffix for prefix in self._prefixes]
        return next((name for name in names if name in self._environ), names[-1])

    def text(self, suffix: str) -> str:
        return self._environ.get(self.name(suffix), "").strip()

    def boolean(self, suffix: str) -> bool:
        text = self.text(suffix)
        value = parse_boolean(text) if text else False
        if value is None:
            raise _variable_error(
                self.name(suffix), "is neither true nor false", "Write true or false."
            )
        return value


def read_environment(environ: Mapping[str, str], product: Product) -> Environment:
    """What the variables of a product say.

    Args:
        environ: all variables.
        product: which ones count.

    Raises:
        PlatformError: one cannot be understood; its value is not repeated.
    """
    found = _Variables(environ, product)
    for suffix in ("ADDR", "AGENT_ADDR"):
        _check_address(found.name(suffix), found.text(suffix))
    return Environment(
        address=found.text("ADDR"),
        agent_address=found.text("AGENT_ADDR"),
        namespace=found.text("NAMESPACE"),
        tls=TlsLayer(
            ca_file=found.text("CACERT"),
            ca_pem=found.text("CACERT_BYTES"),
            ca_folder=found.text("CAPATH"),
            server_name=found.text("TLS_SERVER_NAME"),
            client_cert=found.text("CLIENT_CERT"),
            client_key=found.text("CLIENT_KEY"),
            skip_verify=found.boolean("SKIP_VERIFY"),
        ),
        headers=_headers(found) if product.env_prefixes == ("VAULT_",) else (),
        follow_redirects=not found.boolean("DISABLE_REDIRECTS"),
        proxy=found.text("PROXY_ADDR") or found.text("HTTP_PROXY"),
        limits=_call_limits(found),
        ignored=tuple(
            (found.name(suffix), why)
            for suffix, why in IGNORED_VARIABLES.items()
            if (found.boolean(suffix) if suffix == "SRV_LOOKUP" else found.text(suffix))
        ),
    )


def _check_address(name: str, text: str) -> None:
    try:
        parse_address(text or "https://unset")
    except ValueError as error:
        remedy = "Write it as https://vault.example.com:8200 or unix:///path."
        raise _variable_error(name, str(error), remedy) from None


def _call_limits(variables: _Variables) -> CallLimits:
    rate, burst = _rate_and_burst(variables)
    retries = variables.text("MAX_RETRIES")
    if retries and not re.fullmatch("[0-9]{1,9}", retries):
        raise _variable_error(
            variables.name("MAX_RETRIES"), "is no whole number", "Write 2, or 0 for none."
        )
    return CallLimits(
        qps=rate,
        burst=burst,
        tries=int(retries) + 1 if retries else None,
        call_timeout=_timeout_seconds(variables),
    )


def _rate_and_burst(variables: _Variables) -> tuple[float, int] | tuple[None, None]:
    """Rate and burst; without a burst as many at once as in one second."""
    text, name = variables.text("RATE_LIMIT"), variables.name("RATE_LIMIT")
    if not text:
        return None, None
    parts = _RATE.fullmatch(text)
    if parts is None:
        remedy = "Write calls a second, such as 100, or with those at once: 100:200."
        raise _variable_error(name, "is neither a rate nor rate:burst", remedy)
    rate = float(parts[1])
    burst = max(int(rate), 1) if parts[2] is None else int(parts[2])
    if not rate or not burst:
        raise _variable_error(name, "lets no call pass", "Write numbers above 0, or unset it.")
    return rate, burst


def _timeout_seconds(variables: _Variables) -> float | None:
    text, name = variables.text("CLIENT_TIMEOUT"), variables.name("CLIENT_TIMEOUT")
    if not text:
        return None
    try:
        seconds = float(text) if re.fullmatch("[0-9]{1,9}", text) else parse_duration(text)
    except ValueError:
        raise _variable_error(
            name, "is no duration", "Write 60s, 2m, or a number of seconds."
        ) from None
    if seconds < 0:
        raise _variable_error(name, "is less than nothing", "Write 60s, 2m, or 0 for no limit.")
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
        raise _variable_error(name, "is not a JSON object", 'Write {"Name": "value"}.')
    for key, value in document.items():
        if type(value) is not str or not _is_header(key, value):
            raise _variable_error(
                name, "holds a header that cannot be sent", 'Write {"Name": "value"}.'
            )
        if key.lower().startswith("x-vault-"):
            raise _variable_error(name, "names a header of the vault's own", "Remove X-Vault-...")
    return tuple((key, str(value)) for key, value in document.items())


def _is_header(name: str, value: str) -> bool:
    letters = name.replace("-", "").replace("_", "")
    return letters.isascii() and letters.isalnum() and value.isprintable()


def _variable_error(name: str, problem: str, remedy: str) -> PlatformError:
    return PlatformError(f"the environment variable {name} {problem}", remedy, stage=Stage.REQUEST)
