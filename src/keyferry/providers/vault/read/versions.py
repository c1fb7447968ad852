"""The version of what a file holds: a keyed hash, which tells change and nothing else. [pure]

Source: vault, section 1.9. Equal key, entry and content give upstream's version, byte for byte.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.providers.vault.objects import VaultObject


def content_version(hmac_key: bytes, vault_object: VaultObject, content: bytes) -> str:
    """The version of `content` as the file of `vault_object`."""
    digest = hmac.digest(hmac_key, vault_object.canonical_json + content, "sha256")
    return urlsafe_b64encode(digest).decode()
