"""The version of what a file holds: a keyed hash, which tells change and nothing else. [pure]

Source: vault, section 1.9. Equal key, entry and content give upstream's version, byte for byte.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.vault.objects import VaultObject


def content_version(key: bytes, found: VaultObject, content: bytes) -> str:
    """The version of `content` as the file of `found`."""
    digest = hmac.digest(key, found.configuration + content, "sha256")
    return urlsafe_b64encode(digest).decode()
