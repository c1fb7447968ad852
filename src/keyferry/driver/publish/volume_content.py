"""Completes what a provider returned to the content of a volume. [pure]"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.content import SecretFile
    from keyferry.kubernetes import SecretProviderClass
    from keyferry.providers.api import MountResult
    from keyferry.rendering.class_options import VolumeOptions


def complete_files(
    result: MountResult, options: VolumeOptions, spc: SecretProviderClass
) -> Sequence[SecretFile]:
    """Return the files of a volume.

    Files without an owner get that of the volume, which is how `fileOwner` of a SecretProviderClass
    reaches the files of external providers.

    Args:
        result: of the provider.
        options: of the volume.
        spc: the SecretProviderClass, for messages.

    Raises:
        ClassInvalidError: the provider wrote the files itself, so that the options have no effect.
    """
    if not result.files and (options.owner is not None or options.derives_files):
        raise ClassInvalidError(
            f"SecretProviderClass {spc.namespace}/{spc.name}: provider {spc.provider!r} writes"
            " files itself, and fileOwner, envFile and templates have no effect on them",
            "Remove these parameters, or configure the provider instead.",
        )
    if options.owner is None:
        return result.files
    return [
        file if file.owner is not None else replace(file, owner=options.owner)
        for file in result.files
    ]
