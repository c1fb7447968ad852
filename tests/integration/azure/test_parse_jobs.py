"""keyferry.providers.azure: key material is parsed in jobs, never by the provider itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.errors import ObjectUnusableError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.content import PEM_TYPE, PKCS12_TYPE
from keyferry.providers.azure.provider import MATERIALS_PER_JOB, AzureProvider
from keyferry_devvault.storage.certificates import CertificateSpec
from tests.fakes.app_certificate import new_certificate
from tests.fakes.azure_mounts import call, entry, mount_error
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.fakes.devvault import DevVault
from tests.fakes.jobs import RecordingJobRunner
from tests.fakes.resilience import uncached_fetcher
from tests.integration.azure.calls import APP, VM

TENANT = "shop"
LEAF = issue_certificate("test.domain.com", new_ec_key())


@pytest.fixture
def jobs() -> RecordingJobRunner:
    return RecordingJobRunner()


@pytest.fixture
async def provider(vault: DevVault, jobs: RecordingJobRunner) -> AsyncIterator[AzureProvider]:
    """A provider with that runner."""
    made = AzureProvider(HttpsClient(vault.emulator.https), uncached_fetcher(), jobs=jobs)
    try:
        yield made
    finally:
        await made.close()


async def test_objects_of_a_mount_are_parsed_in_one_job(
    vault: DevVault, provider: AzureProvider, jobs: RecordingJobRunner
) -> None:
    """For the namespace of the pod; a plain secret and a certificate need none."""
    vault.import_certificate("contoso", "pem", LEAF.key_pem + LEAF.pem, content_type=PEM_TYPE)
    vault.import_certificate("contoso", "pfx", LEAF.pkcs12(), content_type=PKCS12_TYPE)
    await provider.mount(call(VM, entry("db-password"), entry("pem", objectType="cert")))
    assert jobs.runs == []
    objects = [entry("pem"), entry("pfx"), entry("pem", objectType="key", objectAlias="key")]
    result = await provider.mount(call(VM, entry("db-password"), *objects))
    assert jobs.runs == [("key-material", TENANT)]
    assert [file.contents for file in result.files[1:3]] == [LEAF.key_pem + LEAF.pem] * 2


async def test_many_objects_are_parsed_in_several_jobs(
    vault: DevVault, provider: AzureProvider, jobs: RecordingJobRunner
) -> None:
    """The CPU time of a job is limited."""
    names = [f"web{number}" for number in range(MATERIALS_PER_JOB + 1)]
    for name in names:
        vault.create_certificate("contoso", name, CertificateSpec(hosts=["web.test"], kind="EC"))
    await provider.mount(call(VM, *map(entry, names)))
    assert jobs.runs == [("key-material", TENANT)] * 2


async def test_job_over_its_limit_fails_the_mount_and_names_the_objects(
    vault: DevVault, provider: AzureProvider, jobs: RecordingJobRunner
) -> None:
    """The error of the runner does not know them."""
    vault.import_certificate("contoso", "pem", LEAF.key_pem + LEAF.pem, content_type=PEM_TYPE)
    jobs.error = ObjectUnusableError("it took too long", "Use a smaller key.")
    error = await mount_error(provider, call(VM, entry("pem")))
    assert "failed to parse secret pem: it took too long" in error.problem


async def test_certificate_of_an_application_is_read_in_a_job(
    vault: DevVault, provider: AzureProvider, jobs: RecordingJobRunner, tmp_path: Path
) -> None:
    """The job signs, so that the provider has no key."""
    certificate = new_certificate()
    vault.add_app_certificate(APP, certificate.certificate_pem)
    secrets = {"clientid": APP, "clientcertificate": certificate.pem()}
    assert (await provider.mount(call({}, secrets=secrets))).files
    assert jobs.runs == [("client-assertion", TENANT)]
