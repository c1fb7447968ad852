"""Flags that limit what SecretProviderClasses may name."""

from __future__ import annotations

import pytest

from keyferry.cli.daemons.driver import DRIVER_FLAGS
from keyferry.cli.flags.go_flags import parse_flags
from keyferry.cli.flags.provider_commands import provider_command
from keyferry.cli.flags.restrictions import NODE_ADDRESSES_VARIABLE, class_restrictions
from keyferry.errors import PlatformError
from keyferry.net.addresses import AddressPattern
from keyferry.providers.registry import provider_names
from keyferry.providers.restrictions import ClassRestrictions, kubelet_folder


def _restrictions(*flags: str, **environ: str) -> ClassRestrictions:
    return class_restrictions(parse_flags(flags, DRIVER_FLAGS).values, environ)


@pytest.mark.parametrize("name", ["driver", *provider_names()])
def test_defaults_are_restrictive(name: str) -> None:
    flags = DRIVER_FLAGS if name == "driver" else provider_command(name).flags
    assert ClassRestrictions() == class_restrictions(parse_flags([], flags).values, {})


def test_flags_are_lists() -> None:
    """White space and empty items are ignored; folders of CAs are replaced, not extended."""
    assert ClassRestrictions(
        file_folders=("/vault/tls", "/etc/ssl/certs"),
        kubelet_folder="/data/kubelet",
        local_addresses=True,
        vault_addresses=(AddressPattern("*.example.com"), AddressPattern("vault", 8200)),
        azure_tenants=("contoso.example",),
        node_addresses=("192.0.2.1", "2001:db8::1"),
    ) == _restrictions(
        "--class-files-dirs=/vault/tls, /etc/ssl/certs,",
        "--kubelet-dir=/data/kubelet",
        "--allow-local-addresses",
        "--allowed-vault-addresses=*.Example.com,vault:8200",
        "--azure-allowed-tenants=Contoso.Example",
        **{NODE_ADDRESSES_VARIABLE: "192.0.2.1,2001:db8::1"},
    )
    assert () == _restrictions("--class-files-dirs=").file_folders


@pytest.mark.parametrize(
    "flag",
    [
        "--class-files-dirs=tls",
        "--allowed-vault-addresses=https://v",
        "--allowed-vault-addresses=:1",
    ],
)
def test_invalid_value_is_an_error_that_names_the_flag(flag: str) -> None:
    with pytest.raises(PlatformError, match=flag.partition("=")[0]):
        _restrictions(flag)


def test_invalid_node_address_is_an_error() -> None:
    with pytest.raises(PlatformError, match=NODE_ADDRESSES_VARIABLE):
        _restrictions(**{NODE_ADDRESSES_VARIABLE: "node-1"})


@pytest.mark.parametrize(
    ("target", "folder"),
    [
        ("/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount", "/var/lib/kubelet"),
        ("/data/k0s/kubelet/pods/u/volumes/v/mount", "/data/k0s/kubelet"),
        ("/data/pods/u/volumes/v/mount", "/data/pods"),
        ("/pods/u/volumes/v/mount", "/pods"),
        ("/home/me/secrets", ""),
        ("", ""),
    ],
)
def test_folder_of_kubelet_is_derived_from_a_target_path(target: str, folder: str) -> None:
    assert folder == kubelet_folder(target)
