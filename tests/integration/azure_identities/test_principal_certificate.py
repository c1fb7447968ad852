"""A service principal that signs in by a certificate."""

from __future__ import annotations

import pytest

from keyferry.errors import IdentityError
from keyferry.providers.azure.provider import AzureProvider
from keyferry_devvault.http_types import RequestKind
from tests.fakes.app_certificate import SelfSignedCertificate, new_certificate
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import DevVault
from tests.integration.azure_identities.calls import APP, PASSWORD, VALUE, value


@pytest.mark.parametrize("form", ["pem", "pem with password", "pkcs12", "pkcs12 with password"])
async def test_certificate_is_accepted_in_every_form(
    provider: AzureProvider, certificate: SelfSignedCertificate, form: str
) -> None:
    """PEM or the base64 text of PKCS#12, with an encrypted key or not."""
    password = PASSWORD if "password" in form else ""
    text = certificate.pem(password) if "pem" in form else certificate.pkcs12(password)
    secrets = {"clientid": APP, "clientcertificate": text}
    if password:
        secrets["clientcertificatepassword"] = password
    assert await value(provider, call({}, secrets=secrets)) == VALUE.encode()


async def test_unregistered_certificate_is_refused(provider: AzureProvider) -> None:
    """The remedy has the command that registers it."""
    secrets = {"clientid": APP, "clientcertificate": new_certificate().pem()}
    error = await mount_error(provider, call({}, secrets=secrets))
    assert "its assertion is not registered, or has expired (AADSTS700027)" in error.problem
    assert f"keyferry devvault identity add-app {APP} --tenant" in error.remedy


async def test_wrong_password_is_an_error_before_any_request(
    vault: DevVault, provider: AzureProvider, certificate: SelfSignedCertificate
) -> None:
    """The message names the keys of the Secret and quotes no parser."""
    secrets = {
        "clientid": APP,
        "clientcertificate": certificate.pem(PASSWORD),
        "clientcertificatepassword": "canary-wrong",
    }
    error = await mount_error(provider, call({}, secrets=secrets))
    assert isinstance(error, IdentityError)
    assert "clientcertificate in the nodePublishSecretRef Secret cannot be used" in error.problem
    assert "the password is wrong" in error.problem
    assert "clientcertificatepassword" in error.remedy
    assert vault.count(RequestKind.TOKEN) == 0


async def test_renewed_certificate_takes_effect_immediately(
    vault: DevVault, provider: AzureProvider, certificate: SelfSignedCertificate
) -> None:
    """It is another identity, so the cached token is not used."""
    renewed = new_certificate()
    await value(
        provider, call({}, secrets={"clientid": APP, "clientcertificate": certificate.pem()})
    )
    vault.add_app_certificate(APP, renewed.certificate_pem)
    await value(provider, call({}, secrets={"clientid": APP, "clientcertificate": renewed.pem()}))
    assert vault.count(RequestKind.TOKEN, status=200) == 2
