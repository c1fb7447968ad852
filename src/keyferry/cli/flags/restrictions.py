"""Flags that limit what SecretProviderClasses may name, for long-running commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.errors import SettingInvalidError
from keyferry.net.addresses import AddressPattern, parse_address_pattern, parse_ip
from keyferry.providers.restrictions import (
    CLASS_FILE_FOLDERS,
    KUBELET_FOLDER,
    ClassRestrictions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.cli.flags.go_flags import FlagValue

NODE_ADDRESSES_VARIABLE = "KEYFERRY_NODE_ADDRESSES"
"""Environment variable with the addresses of the node, comma-separated."""

RESTRICTION_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "class-files-dirs",
        FlagKind.STRING,
        ",".join(CLASS_FILE_FOLDERS),
        "comma-separated list of folders whose files SecretProviderClasses may name, such as CA "
        "certificates; empty permits none, and kubelet's folder is never permitted",
    ),
    GoFlag(
        "allowed-vault-addresses",
        FlagKind.STRING,
        "",
        "comma-separated list of the only addresses that SecretProviderClasses may name: HOST or "
        "HOST:PORT, with * for a part of a label and *. for subdomains; empty permits all that are "
        "not local",
    ),
    GoFlag(
        "allow-local-addresses",
        FlagKind.BOOL,
        "false",
        "permit SecretProviderClasses to name loopback and link-local addresses and those of this "
        "node",
    ),
)
AZURE_TENANTS_FLAG = GoFlag(
    "azure-allowed-tenants",
    FlagKind.STRING,
    "",
    "azure: comma-separated list of the only Entra tenants that SecretProviderClasses may name; "
    "empty permits all",
)


def class_restrictions(
    values: Mapping[str, FlagValue], environ: Mapping[str, str]
) -> ClassRestrictions:
    """Return the restrictions that flags and environment variables request.

    Args:
        values: the values of the flags, by name.
        environ: the environment variables.

    Raises:
        SettingInvalidError: a value is invalid.
    """
    folders = _items(values, "class-files-dirs")
    for folder in folders:
        if not folder.startswith("/"):
            raise _flag_error("class-files-dirs", folder, "is not an absolute path")
    return ClassRestrictions(
        file_folders=folders,
        kubelet_folder=str(values.get("kubelet-dir") or KUBELET_FOLDER),
        local_addresses=bool(values["allow-local-addresses"]),
        vault_addresses=tuple(map(_pattern, _items(values, "allowed-vault-addresses"))),
        azure_tenants=tuple(
            tenant.casefold() for tenant in _items(values, AZURE_TENANTS_FLAG.name)
        ),
        node_addresses=_node_addresses(environ),
    )


def _items(values: Mapping[str, FlagValue], flag: str) -> tuple[str, ...]:
    return tuple(filter(None, (item.strip() for item in str(values.get(flag, "")).split(","))))


def _pattern(text: str) -> AddressPattern:
    try:
        return parse_address_pattern(text)
    except ValueError as error:
        raise _flag_error("allowed-vault-addresses", text, str(error)) from None


def _node_addresses(environ: Mapping[str, str]) -> tuple[str, ...]:
    texts = environ.get(NODE_ADDRESSES_VARIABLE, "").split(",")
    addresses = tuple(filter(None, (text.strip() for text in texts)))
    if any(parse_ip(address) is None for address in addresses):
        raise SettingInvalidError(
            f"the environment variable {NODE_ADDRESSES_VARIABLE} is not a list of IP addresses",
            "Set it to the field status.hostIP of the pod.",
        )
    return addresses


def _flag_error(flag: str, text: str, problem: str) -> SettingInvalidError:
    return SettingInvalidError(f"--{flag}: {text!r} {problem}", "Correct it, or remove it.")
