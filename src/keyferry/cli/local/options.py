"""Arguments that `keyferry mount`, `run` and `get` have in common."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keyferry.cli.commands import option
from keyferry.cli.flags.providers import PROVIDER_FLAGS, provider_options, settings_from_options
from keyferry.errors import RequestInvalidError
from keyferry.formats.go_values import parse_duration
from keyferry.resilience.settings import ResilienceSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.providers.settings import ProviderSettings

F = TypeVar("F", bound="Callable[..., Any]")
PATH = click.Path(path_type=Path)
STDIN = Path("-")


class DurationParam(click.ParamType[float]):
    """A duration such as 90s or 2m, in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("must be greater than 0", param, ctx)
        return seconds


class _NumberParam(click.ParamType[float]):
    name = "number"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not 0 <= number < float("inf"):
            self.fail(f"{value!r} is not 0 or greater", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """Which SecretProviderClass to fetch, and with which credentials.

    Attributes:
        spc_file: file or folder with SecretProviderClasses, or `STDIN`.
        spc_text: the content of standard input; None for a file or folder.
        spc_name: `NAME` or `NAMESPACE/NAME`; None if there is only one.
        credentials: file with the Secret of `nodePublishSecretRef`, or None.
        tokens: file with service-account tokens, or None.
        dev_vault: data folder of the emulator that replaces all clouds, or None.
        settings: settings of the providers.
        vault_qps: maximum requests per second to one vault; 0 means no limit.
        timeout: seconds after which a fetch fails; None for no limit.
    """

    spc_file: Path
    spc_text: bytes | None = field(repr=False)
    spc_name: str | None
    credentials: Path | None
    tokens: Path | None
    dev_vault: Path | None
    settings: ProviderSettings
    vault_qps: float
    timeout: float | None = None


def local_options(command: F) -> F:
    """Add the argument CLASS.yaml and the common options; the command gets them as `options`."""

    @wraps(command)
    def collect(**values: Any) -> Any:
        spc_file = values.pop("class_file")
        # Only a pod status shows versions, and only `mount --secrets-dir` writes one.
        options = pop_options(
            values,
            spc_file=spc_file,
            spc_text=read_spc(spc_file),
            hmac_key_folder=values.get("secrets_dir"),
        )
        return command(options=options, **values)

    decorated: Any = collect
    argument = click.argument("class_file", metavar="CLASS.yaml", type=PATH)
    for add in reversed([argument, *INPUT_OPTIONS, timeout_option(), provider_options]):
        decorated = add(decorated)
    return decorated  # type: ignore[no-any-return]


def pop_options(
    values: dict[str, Any],
    *,
    spc_file: Path,
    spc_text: bytes | None,
    hmac_key_folder: Path | None = None,
) -> LocalOptions:
    """Return the options, and remove their values from those of the command.

    Args:
        values: of `INPUT_OPTIONS`, `timeout_option` and `provider_options`.
        spc_file: file or folder with SecretProviderClasses, or `STDIN`.
        spc_text: the content of standard input; None for a file or folder.
        hmac_key_folder: folder for the HMAC key of object versions; None if it is not persisted.
    """
    settings = {name: values.pop(name) for name in _provider_names()}
    return LocalOptions(
        spc_file=spc_file,
        spc_text=spc_text,
        spc_name=values.pop("class_name"),
        credentials=values.pop("credentials"),
        tokens=values.pop("tokens"),
        dev_vault=values.pop("dev_vault"),
        settings=settings_from_options(settings, os.environ, hmac_key_folder=hmac_key_folder),
        vault_qps=values.pop("vault_qps"),
        timeout=values.pop("timeout"),
    )


def timeout_option(default: str | None = None, help: str = "") -> Callable[[F], F]:  # noqa: A002
    """Return the option `--timeout`.

    Args:
        default: its default; None for no time limit.
        help: its help text; "" for that of `keyferry mount`.
    """
    return option(
        "--timeout",
        type=DurationParam(),
        default=default,
        show_default=default is not None,
        metavar="DURATION",
        section="Vault requests",
        help=help
        or "Fail with exit code 4 if the objects are not fetched within this time, such as 10s.",
    )


INPUT_OPTIONS = (
    option(
        "--class",
        "class_name",
        metavar="NAME",
        section="Input",
        help="Name, or namespace/name, of the SecretProviderClass if the file has several.",
    ),
    option(
        "--credentials",
        type=PATH,
        metavar="FILE",
        section="Credentials",
        help="YAML file with the Kubernetes Secret that nodePublishSecretRef names in a pod"
        " (clientid and clientsecret, role_id and secret_id, token, or tls.crt and tls.key).",
    ),
    option(
        "--service-account-tokens",
        "tokens",
        type=PATH,
        metavar="FILE",
        section="Credentials",
        help="JSON file with service account tokens as kubelet sends them (workload identity,"
        " Vault).",
    ),
    option(
        "--dev-vault",
        type=PATH,
        metavar="DIR",
        section="Vault requests",
        help="DEVELOPMENT ONLY: use the `keyferry devvault` that runs with --data DIR, not the"
        " cloud.",
    ),
    option(
        "--vault-qps",
        type=_NumberParam(),
        default=ResilienceSettings().qps,
        show_default=True,
        metavar="NUMBER",
        section="Vault requests",
        help="Maximum requests per second to one vault; 0 means no limit.",
    ),
)


def _provider_names() -> list[str]:
    return [flag.name.replace("-", "_") for flag in PROVIDER_FLAGS]


def read_spc(path: Path) -> bytes | None:
    """Return standard input for `-`, and None for a file or folder that can be read.

    Raises:
        RequestInvalidError: it cannot be read.
    """
    if path == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            state = "a terminal" if sys.stdin else "closed"
            raise RequestInvalidError(
                f"CLASS.yaml is -, and standard input is {state}",
                "Pipe a SecretProviderClass into this command, or name a file.",
            )
        return sys.stdin.buffer.read()
    try:
        is_folder = path.is_dir()
        if not os.access(path, os.R_OK | (os.X_OK if is_folder else 0)):
            path.stat()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise RequestInvalidError(
            f"{path} cannot be read: {reason}",
            "Name a YAML file with a SecretProviderClass, or - for standard input.",
        ) from error
    return None
