"""`keyferry doctor` names what a mount tolerates, and providers that are probably misspelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.doctor.checks import DoctorStage
from keyferry_devvault.model import SecretAttributes
from tests.integration.doctor.azure_world import CANARY, working_world


@pytest.mark.parametrize(("expires", "is_broken"), [(1_600_000_000, True), (4_000_000_000, False)])
async def test_an_expired_object_is_named(tmp_path: Path, expires: int, is_broken: bool) -> None:
    """If the SecretProviderClass asks for warnings; the volume has the object all the same."""
    async with working_world(tmp_path) as world:
        world.parameters["expiryWarning"] = "30d"
        attributes = SecretAttributes(enabled=True, expires=expires)
        world.vault.data.secrets.set("contoso", "db-password", CANARY, attributes)
        report = await world.diagnose()
    broken = report.broken
    assert is_broken == (broken is not None)
    if broken is not None:
        assert (DoctorStage.OBJECT, "secret db-password") == (broken.stage, broken.subject)
        assert "expired on 2020-09-13" in broken.problem
        assert "Store a new version" in broken.remedy


@pytest.mark.parametrize(("provider", "is_broken"), [("azrue", True), ("gcp", False)])
async def test_a_misspelled_provider_is_named(
    tmp_path: Path, provider: str, is_broken: bool
) -> None:
    """Any other name may be that of an external provider."""
    async with working_world(tmp_path) as world:
        world.provider = provider
        report = await world.diagnose()
    broken = report.broken
    assert is_broken == (broken is not None)
    if broken is not None:
        assert (DoctorStage.CLASS, "azrue") == (broken.stage, broken.subject)
        assert broken.remedy.startswith("Did you mean 'azure'?")
