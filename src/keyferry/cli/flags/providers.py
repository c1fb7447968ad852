"""Flags of the built-in providers, for every command that runs one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from keyferry.cli.commands import option
from keyferry.cli.flags.go_flags import FlagError, FlagKind, FlagValue, GoFlag, read_value
from keyferry.cli.flags.vault import (
    hmac_flag,
    vault_flags,
    vault_settings,
    warn_ignored_variables,
)
from keyferry.content import DEFAULT_MAX_BYTES
from keyferry.errors import SettingInvalidError
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import ProviderSettings
from keyferry.providers.vault.product import OPENBAO, VAULT
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from keyferry.providers.restrictions import ClassRestrictions

F = TypeVar("F", bound="Callable[..., Any]")

AZURE_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "construct-pem-chain",
        FlagKind.BOOL,
        "true",
        "azure: order the certificates that are converted from PKCS#12, leaf first",
    ),
    GoFlag(
        "write-cert-and-key-in-separate-files",
        FlagKind.BOOL,
        "false",
        "azure: also write the certificate and the key of a secret to separate .crt and .key files",
    ),
    GoFlag(
        "cloud-name",
        FlagKind.STRING,
        ProviderSettings().cloud_name,
        "azure: cloud of SecretProviderClasses without cloudName",
    ),
    GoFlag(
        "token-proxy-url",
        FlagKind.STRING,
        "",
        "azure: URL of the token proxy of AKS identity binding; empty means the API server",
    ),
    GoFlag(
        "sni-name",
        FlagKind.STRING,
        "",
        "azure: TLS server name of the token proxy; empty means derived from the API server",
    ),
)


PROVIDER_FLAGS: tuple[GoFlag, ...] = (*AZURE_FLAGS, *vault_flags(VAULT), *vault_flags(OPENBAO))
HMAC_FLAGS: tuple[GoFlag, ...] = tuple(
    hmac_flag(product, prefix=f"{product.name}-") for product in (VAULT, OPENBAO)
)
"""For commands that run in a cluster."""


MOUNT_SIZE_FLAG = GoFlag(
    "max-call-recv-msg-size",
    FlagKind.INT,
    str(DEFAULT_MAX_BYTES),
    "maximum size of the files of one volume, in bytes",
)
"""For commands that run in a cluster. Upstream limits only responses of providers with it."""


def max_mount_bytes(values: Mapping[str, FlagValue]) -> int:
    """Return the value of `MOUNT_SIZE_FLAG`.

    Raises:
        SettingInvalidError: it is not positive.
    """
    limit = int(values[MOUNT_SIZE_FLAG.name])
    if limit <= 0:
        raise SettingInvalidError(
            f"--{MOUNT_SIZE_FLAG.name} is {limit}",
            "Set it to a number of bytes greater than 0.",
        )
    return limit


def provider_settings(
    values: Mapping[str, FlagValue],
    environ: Mapping[str, str],
    *,
    hmac_key_folder: Path | None,
    restrictions: ClassRestrictions,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> ProviderSettings:
    """Return the settings that flags and environment variables request.

    Args:
        values: the values of the flags, by name.
        environ: the environment variables.
        hmac_key_folder: folder for the HMAC key of object versions; None if it is not persisted.
        restrictions: what SecretProviderClasses may name.
        max_bytes: the maximum size of the files of one volume.

    Raises:
        SettingInvalidError: a variable has an invalid value.
    """
    warn_ignored_variables(environ, VAULT, OPENBAO)
    return replace(
        azure_settings(values),
        vault=vault_settings(VAULT, environ, values, hmac_key_folder=hmac_key_folder),
        openbao=vault_settings(OPENBAO, environ, values, hmac_key_folder=hmac_key_folder),
        restrictions=restrictions,
        max_mount_bytes=max_bytes,
    )


def azure_settings(values: Mapping[str, FlagValue]) -> ProviderSettings:
    """Return the settings that the Azure flags request."""
    return ProviderSettings(
        construct_pem_chain=bool(values["construct-pem-chain"]),
        separate_files=bool(values["write-cert-and-key-in-separate-files"]),
        cloud_name=str(values["cloud-name"]),
        token_proxy_url=str(values["token-proxy-url"]),
        sni_name=str(values["sni-name"]),
    )


def provider_options(command: F) -> F:
    """Add the provider flags to a click command, which receives them as `**values`."""
    for flag in reversed(PROVIDER_FLAGS):
        provider, _, text = flag.help.partition(": ")
        command = option(
            f"--{flag.name}",
            flag.name.replace("-", "_"),
            type=_GoFlagParam(flag),
            default=flag.default,
            show_default=bool(flag.default),
            section=_SECTIONS[provider],
            hidden=provider == OPENBAO.name,
            help=f"{text[:1].upper()}{text[1:]}.",
        )(command)
    return command


_VAULT_SECTION = (
    f"{VAULT.title}; for {OPENBAO.title}, write --{OPENBAO.name}- in place of --{VAULT.name}-"
)
_SECTIONS = {"azure": "Azure Key Vault", VAULT.name: _VAULT_SECTION, OPENBAO.name: _VAULT_SECTION}
"""The sections of the help, by the prefix of the help of a flag."""


def settings_from_options(
    values: Mapping[str, FlagValue], environ: Mapping[str, str], *, hmac_key_folder: Path | None
) -> ProviderSettings:
    """Return the settings for the values of `provider_options`; see `provider_settings`.

    The user of such a command writes the SecretProviderClass, so nothing is restricted.
    """
    named = {name.replace("_", "-"): value for name, value in values.items()}
    return provider_settings(
        named, environ, hmac_key_folder=hmac_key_folder, restrictions=UNRESTRICTED
    )


class _GoFlagParam(click.ParamType[FlagValue]):
    """Parses a value like the flag of the same name."""

    def __init__(self, flag: GoFlag) -> None:
        self.name = flag.kind.value
        self._flag = flag

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> FlagValue:
        try:
            return read_value(self._flag, str(value))
        except FlagError as error:
            self.fail(str(error), param, ctx)
