"""Error responses of a vault, and the errors that they become."""

from __future__ import annotations

import pytest

from keyferry.errors import (
    AccessDeniedError,
    IdentityError,
    ObjectNotFoundError,
    VaultError,
    VaultThrottledError,
)
from tests.fakes.clock import AutojumpClock
from tests.fakes.vault_api import VaultApi
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts
from tests.integration.vault_transport.preparation import DB


class TestErrors:
    """Error responses."""

    @pytest.mark.parametrize(
        ("status", "text", "words", "kind"),
        [
            (503, "Vault is sealed", "is sealed", VaultError),
            (503, "Vault is in standby mode", "is a standby node", VaultError),
            (500, "pq: role does not exist", "failed with status 500: pq: role", VaultError),
            (429, "rate limit", "limits the request rate", VaultThrottledError),
            (412, "required index state not present", "has not replicated", VaultError),
        ],
    )
    async def test_unavailable_vault_is_retried_and_reported(
        self, vault: VaultApi, status: int, text: str, words: str, kind: type[VaultError]
    ) -> None:
        """After several tries."""
        clock = AutojumpClock()
        async with vault_mounts(vault, clock=clock) as mounts:
            await mounts.files(DB)
            vault.fault = (status, [text])
            with pytest.raises(kind, match=words):
                await mounts.files(DB)
        assert len(vault.audit) > 3
        assert clock.sleeps

    async def test_request_that_is_not_idempotent_is_not_retried(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Each try would issue a certificate that nobody uses."""
        await mounts.files(DB)
        before = len(vault.audit)
        vault.fault = (502, ["bad gateway"])
        with pytest.raises(VaultError, match="502"):
            await mounts.files(entry("x", "pki/issue/r", method="PUT", secretArgs={"a": 1}))
        assert before + 1 == len(vault.audit)

    @pytest.mark.parametrize(
        ("path", "words", "kind"),
        [
            ("secret/app/db", "Set secretPath to secret/data/app/db", ObjectNotFoundError),
            ("kv/data/old", "Set secretPath to kv/old", ObjectNotFoundError),
            ("kv/none", "there is no secret at kv/none", ObjectNotFoundError),
            ("secret/data/app/none", "there is no secret at", ObjectNotFoundError),
            ("secret/data/zzz", 'path "secret/data/zzz"', AccessDeniedError),
            ("secret/zzz", "Set secretPath to secret/data/zzz", ObjectNotFoundError),
        ],
    )
    async def test_wrong_kv_path_names_the_correct_one(
        self, mounts: VaultMounts, path: str, words: str, kind: type[VaultError]
    ) -> None:
        """A missing or extra data/, also if the policy hides the path."""
        with pytest.raises(kind, match=words) as caught:
            await mounts.files(entry("x", path))
        assert str(caught.value).startswith("error making mount request: ")

    @pytest.mark.parametrize(
        ("over", "account", "words"),
        [
            ({"roleName": "nope"}, "shop/web", "the role does not exist"),
            ({}, "shop/other", "service account name not authorized"),
            ({}, "else/web", "namespace not authorized"),
            ({"vaultAuthMountPath": "nope"}, "shop/web", "auth/nope exists"),
        ],
    )
    async def test_rejected_login_quotes_the_vault_and_has_a_remedy(
        self, mounts: VaultMounts, over: dict[str, str], account: str, words: str
    ) -> None:
        with pytest.raises(IdentityError, match=words):
            await mounts.files(DB, pod=FakePod(account=account), **over)

    async def test_wrong_audience_is_reported(self, mounts: VaultMounts) -> None:
        with pytest.raises(IdentityError, match="has another audience"):
            await mounts.files(DB, pod=FakePod(audience="other"), audience="other")

    async def test_missing_token_error_explains_token_requests(self, mounts: VaultMounts) -> None:
        with pytest.raises(IdentityError, match=r"spec\.tokenRequests"):
            await mounts.files(DB, audience="other")

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "has no data"),
            (b"{}", "has no data"),
            (b"null", "cannot be used"),
            (b"<html>canary</html>", "cannot be used"),
            (b'{"data": "canary"}', "cannot be used"),
            (b'{"lease_id": 7, "data": {}}', "cannot be used"),
            (b'{"errors": ["x"], "canary": 1}', "cannot be used"),
        ],
    )
    async def test_malformed_response_is_an_error(
        self, vault: VaultApi, mounts: VaultMounts, body: bytes, words: str
    ) -> None:
        """Upstream's process crashes on some of them. The response is not quoted."""
        await mounts.files(DB)
        vault.scripted_responses = [(200, body)]
        with pytest.raises(VaultError, match=words) as caught:
            await mounts.files(DB)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        "body", [b"{}", b'{"auth": {}}', b'{"auth": {"client_token": ""}}', b'{"auth": "x"}']
    )
    async def test_login_response_without_token_is_an_error(
        self, vault: VaultApi, mounts: VaultMounts, body: bytes
    ) -> None:
        vault.scripted_responses = [(200, body)]
        with pytest.raises(IdentityError, match="cannot be used"):
            await mounts.files(DB)

    async def test_response_without_envelope_is_data(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Some paths respond without an envelope."""
        await mounts.files(DB)
        vault.scripted_responses = [(200, b'{"keys": [{"kty": "RSA"}]}')]
        found = await mounts.files(entry("k", "identity/oidc/keys", secretKey="/keys/0/kty"))
        assert {"k": b"RSA"} == found
