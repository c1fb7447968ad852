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
async def test_a_certificate_signs_in_in_every_form(
    provider: AzureProvider, certificate: SelfSignedCertificate, form: str
) -> None:
    """PEM or the base64 text of PKCS#12, the key encrypted or not."""
    password = PASSWORD if "password" in form else ""
    text = certificate.pem(password) if "pem" in form else certificate.pkcs12(password)
    secrets = {"clientid": APP, "clientcertificate": text}
    if password:
        secrets["clientcertificatepassword"] = password
    assert await value(provider, call({}, secrets=secrets)) == VALUE.encode()


async def test_a_certificate_that_is_not_registered_is_refused(provider: AzureProvider) -> None:
    """With the command that registers it."""
    secrets = {"clientid": APP, "clientcertificate": new_certificate().pem()}
    error = await mount_error(provider, call({}, secrets=secrets))
    assert "its assertion is not registered, or has expired (AADSTS700027)" in error.problem
    assert "az ad app credential reset" in error.remedy


async def test_a_wrong_password_is_told_apart(
    vault: DevVault, provider: AzureProvider, certificate: SelfSignedCertificate
) -> None:
    """Before any request, by the keys of the Secret, and without a word of the parser."""
    secrets = {
        "clientid": APP,
        "clientcertificate": certificate.pem(PASSWORD),
        "clientcertificatepassword": "canary-wrong",
    }
    error = await mount_error(provider, call({}, secrets=secrets))
    assert isinstance(error, IdentityError)
    assert "clientcertificate in the nodePublishSecretRef Secret cannot be used" in error.problem
    assert "the password does not open it" in error.problem
    assert "clientcertificatepassword" in error.remedy
    assert vault.count(RequestKind.TOKEN) == 0


async def test_a_renewed_certificate_counts_at_once(
    vault: DevVault, provider: AzureProvider, certificate: SelfSignedCertificate
) -> None:
    """It is another identity than the old one, so no cache stands in its way."""
    renewed = new_certificate()
    await value(
        provider, call({}, secrets={"clientid": APP, "clientcertificate": certificate.pem()})
    )
    vault.add_app_certificate(APP, renewed.certificate_pem)
    await value(provider, call({}, secrets={"clientid": APP, "clientcertificate": renewed.pem()}))
    assert vault.count(RequestKind.TOKEN, status=200) == 2
