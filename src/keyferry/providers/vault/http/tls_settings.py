"""How a vault proves who it is, and a client who it is: three layers of settings. [pure]

Source: vault, section 1.10. Environment, flags and class are applied one after another; only what a
layer says acts. Turning verification off cannot be taken back by a later layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyferry.errors import KeyferryError, PlatformError
from keyferry.providers.vault_settings import TlsLayer


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How one vault is talked to; the key by which contexts are kept.

    Attributes:
        cas: the layers that name a CA and count; none means the CAs of the machine.
        machine_cas: whether those of the machine count beside them.
        server_name: "" for the host of the address.
        client_cert: file of the client's certificate, "" for none.
        client_key: file of its key.
        client_pem: certificate and key themselves, PEM, instead of files.
        skip_verify: whether the vault's certificate is not verified.
    """

    cas: tuple[TlsLayer, ...] = ()
    machine_cas: bool = True
    server_name: str = ""
    client_cert: str = ""
    client_key: str = ""
    client_pem: bytes = field(default=b"", repr=False)
    skip_verify: bool = False

    @property
    def identity_parts(self) -> tuple[str, ...]:
        """Equal for settings by which the same vault and the same client are proven.

        A key is part of it, so it is not to be kept.
        """
        return (repr(self), self.client_pem.hex(), *(layer.ca_pem for layer in self.cas))


def merge_layers(
    layers: tuple[TlsLayer, ...], *, merges_cas: bool, error: type[KeyferryError] = PlatformError
) -> TlsSettings:
    """What the layers say together, the strongest last.

    Args:
        layers: environment, flags, class.
        merges_cas: whether all CAs count, those of the machine too, instead of the last alone.
        error: what to raise.

    Raises:
        KeyferryError: a layer names a client certificate without its key, or the reverse.
    """
    server_name = client_cert = client_key = ""
    skip = False
    for layer in layers:
        if bool(layer.client_cert) != bool(layer.client_key):
            raise error(
                "the client certificate of TLS has no file with its "
                f"{'key' if layer.client_cert else 'certificate'}",
                "Set both in the same place: vaultTLSClientCertPath and vaultTLSClientKeyPath.",
            )
        server_name = layer.server_name or server_name
        if layer.client_cert:
            client_cert, client_key = layer.client_cert, layer.client_key
        skip = skip or layer.skip_verify
    named = tuple(layer for layer in layers if layer.ca_file or layer.ca_pem or layer.ca_folder)
    return TlsSettings(
        cas=_only_ca(named if merges_cas else named[-1:]),
        machine_cas=merges_cas or not named,
        server_name=server_name,
        client_cert=client_cert,
        client_key=client_key,
        skip_verify=skip,
    )


def _only_ca(layers: tuple[TlsLayer, ...]) -> tuple[TlsLayer, ...]:
    """The layers without what does not concern trust, so that equal trust is equal."""
    return tuple(
        TlsLayer(
            ca_file=layer.ca_file,
            ca_pem="" if layer.ca_file else layer.ca_pem,
            ca_folder="" if layer.ca_file or layer.ca_pem else layer.ca_folder,
        )
        for layer in layers
    )
