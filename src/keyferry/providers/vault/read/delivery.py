"""From what came of the reads to the content of a volume: all of it, or why not. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import KeyferryError
from keyferry.failures import combined
from keyferry.providers.api import MountResult, ObjectVersion, SecretFile
from keyferry.providers.vault.read.content import render
from keyferry.providers.vault.read.versions import content_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.objects import ReadRequest, VaultObject
    from keyferry.providers.vault.product import Product


def render_all(
    objects: Sequence[VaultObject],
    responses: Mapping[ReadRequest, VaultResponse | KeyferryError],
    *,
    default_mode: int,
    product: Product,
    hmac_key: bytes,
) -> MountResult:
    """The files of all objects, in their order.

    Args:
        objects: as the class lists them.
        responses: what came for each request.
        default_mode: of files whose entry names none.
        product: whose answers they are.
        hmac_key: of the hashes that are the versions.

    Raises:
        KeyferryError: the first failure, which names the objects that failed as well.
    """
    files: list[SecretFile] = []
    versions: list[ObjectVersion] = []
    failures: list[tuple[str, KeyferryError]] = []
    for found in objects:
        answer = responses[found.request]
        if isinstance(answer, KeyferryError):
            failures.append((str(found), answer))
            continue
        try:
            content = render(found, answer, product)
        except KeyferryError as error:
            failures.append((str(found), error))
            continue
        files.append(
            SecretFile(found.name, default_mode if found.mode is None else found.mode, content)
        )
        versions.append(ObjectVersion(found.name, content_version(hmac_key, found, content)))
    if failures:
        raise combined(failures)
    return MountResult(tuple(versions), tuple(files))
