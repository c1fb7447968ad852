"""What a token leaves behind on the machine, in whatever mode it was asked for: nothing."""

from __future__ import annotations

import os

from keyferry.providers.azure.provider import AzureProvider
from tests.fakes.azure_mounts import call
from tests.fakes.devvault import DevVault
from tests.integration.azure_identities.calls import bound

# --- managed identities of a machine --------------------------------------------------------------


async def test_every_mode_leaves_no_file_behind(vault: DevVault, provider: AzureProvider) -> None:
    """Nor does one change the environment of the process."""
    before = dict(os.environ)
    for parameters in ({"useArcManagedIdentity": "1"}, {"usePodIdentity": "1"}, bound(vault)):
        await provider.mount(call(parameters))
    assert dict(os.environ) == before
    assert list((vault.data.folder / "arc").iterdir()) == []
