"""How the secrets behind certificates are delivered: by flags, or by the class itself. [pure]

Source: azure, sections 5.6, 5.7 and 6.1. Upstream has the flags only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError
from keyferry.excerpt import excerpt
from keyferry.formats.booleans import parse_boolean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """How one mount wants its certificates.

    Attributes:
        ordered_chain: whether the chain out of PKCS#12 is put in order, the leaf first.
        separate_files: whether certificate and key come as two more files.
    """

    ordered_chain: bool = True
    separate_files: bool = False


def bundle_options(parameters: Mapping[str, str], settings: ProviderSettings) -> BundleOptions:
    """What the class says, and where it says nothing, the flags.

    Raises:
        ClassInvalidError: a parameter is not a boolean.
    """
    return BundleOptions(
        _boolean(parameters, "constructPEMChain", settings.construct_pem_chain),
        _boolean(parameters, "writeCertAndKeyInSeparateFiles", settings.separate_files),
    )


def _boolean(parameters: Mapping[str, str], key: str, default: bool) -> bool:
    text = parameters.get(key, "").strip()
    if not text:
        return default
    value = parse_boolean(text)
    if value is None:
        raise ClassInvalidError(
            f"{key} is neither true nor false: {excerpt(text)}", 'Write "true" or "false".'
        )
    return value
