"""The tokens of service accounts: shared, used for most of their life, and forgotten."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.errors import InternalError, StoreUnavailableError
from keyferry.kubernetes.syncs.sync_errors import TokenRequestError
from keyferry.sync_controller.rules.request import Token
from keyferry.sync_controller.settings import TokenSettings
from keyferry.sync_controller.tokens import (
    FAILURE_SECONDS,
    MAX_TOKENS,
    ServiceAccountTokens,
    TokenKey,
)
from tests.fakes.clock import ManualClock
from tests.fakes.secret_syncs import Issuer


class SlowIssuer(Issuer):
    """An issuer that waits for the test.

    Attributes:
        answers: what the requests wait for, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[None]] = []

    async def issue(self, key: TokenKey) -> Token:
        token = await super().issue(key)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        await answer
        return token


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def tokens(issuer: Issuer, clock: ManualClock) -> ServiceAccountTokens:
    return ServiceAccountTokens(issuer, TokenSettings(("vault", "azure")), clock)


async def token(tokens: ServiceAccountTokens, account: str = "web", namespace: str = "shop") -> str:
    found = await tokens.tokens(namespace, account, {"vault"})
    return found["vault"].token


async def test_only_the_needed_audiences_are_requested(
    tokens: ServiceAccountTokens, issuer: Issuer
) -> None:
    """A token that nobody needs is one that somebody can steal."""
    assert {} == await tokens.tokens("shop", "web", ())
    assert {"vault"} == (await tokens.tokens("shop", "web", {"vault"})).keys()
    assert [TokenKey("shop", "web", "vault")] == issuer.requests


async def test_external_provider_gets_all_audiences(tokens: ServiceAccountTokens) -> None:
    """As with upstream: what it needs is not known."""
    assert {"azure", "vault"} == (await tokens.tokens("shop", "web", None)).keys()


async def test_audience_that_is_not_permitted_is_refused(
    tokens: ServiceAccountTokens, issuer: Issuer
) -> None:
    """Without a request: an author of a SecretProviderClass must not choose the audience."""
    with pytest.raises(TokenRequestError) as caught:
        await tokens.tokens("shop", "web", {"vault", "https://evil.example.com"})
    assert "for the audience https://evil.example.com, and only" in caught.value.problem
    assert "are permitted: azure, vault" in caught.value.problem
    assert [] == issuer.requests


async def test_token_is_shared(tokens: ServiceAccountTokens, issuer: Issuer) -> None:
    """By all SecretSyncs of a service account, and by nobody else."""
    assert await token(tokens) == await token(tokens)
    assert 1 == len(issuer.requests)
    others = [await token(tokens, "api"), await token(tokens, "web", "bank")]
    assert 3 == len({await token(tokens), *others})
    assert 3 == len(issuer.requests)


async def test_concurrent_callers_share_one_request(clock: ManualClock) -> None:
    """A thousand SecretSyncs start at the same time."""
    issuer = SlowIssuer()
    tokens = ServiceAccountTokens(issuer, TokenSettings(("vault",)), clock)
    calls = [asyncio.create_task(token(tokens)) for _ in range(10)]
    await ManualClock.run_ready_tasks()
    assert 1 == len(issuer.requests)
    issuer.answers[0].set_result(None)
    assert {"canary-token-1"} == set(await asyncio.gather(*calls))


async def test_cancelled_caller_does_not_cancel_the_others(clock: ManualClock) -> None:
    """The last one ends the request."""
    issuer = SlowIssuer()
    tokens = ServiceAccountTokens(issuer, TokenSettings(("vault",)), clock)
    first, second = (asyncio.create_task(token(tokens)) for _ in range(2))
    await ManualClock.run_ready_tasks()
    first.cancel()
    await ManualClock.run_ready_tasks()
    issuer.answers[0].set_result(None)
    assert "canary-token-1" == await second


@pytest.mark.parametrize("lifetime", [600.0, 3600.0])
async def test_token_is_used_for_most_of_its_life(
    tokens: ServiceAccountTokens, issuer: Issuer, clock: ManualClock, lifetime: float
) -> None:
    """80 %, counted from before the request: the clock of the API server may differ."""
    issuer.seconds = lifetime
    first = await token(tokens)
    clock.now = 0.8 * lifetime - 1
    assert first == await token(tokens)
    clock.now = 0.8 * lifetime
    second = await token(tokens)
    assert first != second
    clock.now = 1.6 * lifetime - 1
    assert second == await token(tokens)


async def test_changed_service_account_gets_a_new_token(
    tokens: ServiceAccountTokens, issuer: Issuer
) -> None:
    """It was perhaps created again, so that its tokens are not valid any more."""
    before, other = await token(tokens), await token(tokens, "api")
    tokens.forget("shop", "web")
    tokens.forget("bank", "api")
    assert before != await token(tokens)
    assert other == await token(tokens, "api")


async def test_token_of_a_request_in_flight_is_forgotten_too(clock: ManualClock) -> None:
    """It was perhaps issued before the change. Its caller may use it, nobody later."""
    issuer = SlowIssuer()
    tokens = ServiceAccountTokens(issuer, TokenSettings(("vault",)), clock)
    before = asyncio.create_task(token(tokens))
    await ManualClock.run_ready_tasks()
    tokens.forget("shop", "web")
    after = asyncio.create_task(token(tokens))
    await ManualClock.run_ready_tasks()
    assert 2 == len(issuer.requests)
    issuer.answers[1].set_result(None)
    assert "canary-token-2" == await after
    issuer.answers[0].set_result(None)
    assert "canary-token-1" == await before
    assert "canary-token-2" == await token(tokens)
    assert 2 == len(issuer.requests)


async def test_refusal_counts_for_all_for_a_moment(
    tokens: ServiceAccountTokens, issuer: Issuer, clock: ManualClock
) -> None:
    """A thousand SecretSyncs of a missing service account make one request."""
    issuer.error = TokenRequestError("shop/web does not exist", "Create it.")
    for _ in range(3):
        with pytest.raises(TokenRequestError, match="shop/web does not exist"):
            await token(tokens)
    assert 1 == len(issuer.requests)
    issuer.error = None
    clock.now = FAILURE_SECONDS
    assert "canary-token-2" == await token(tokens)


async def test_refusal_is_forgotten_with_the_service_account(
    tokens: ServiceAccountTokens, issuer: Issuer
) -> None:
    """Somebody created it just now."""
    issuer.error = TokenRequestError("shop/web does not exist", "Create it.")
    with pytest.raises(TokenRequestError):
        await token(tokens)
    issuer.error = None
    tokens.forget("shop", "web")
    assert "canary-token-2" == await token(tokens)


@pytest.mark.parametrize("kind", [StoreUnavailableError, InternalError])
async def test_other_failures_are_not_remembered(
    tokens: ServiceAccountTokens, issuer: Issuer, kind: type[StoreUnavailableError]
) -> None:
    """The API may respond again at once."""
    issuer.error = kind("It is so")
    with pytest.raises(kind):
        await token(tokens)
    issuer.error = None
    assert "canary-token-2" == await token(tokens)


async def test_number_of_tokens_is_limited(tokens: ServiceAccountTokens, issuer: Issuer) -> None:
    """The one that was not used for the longest time is requested again."""
    for number in range(MAX_TOKENS + 1):
        await token(tokens, f"web-{number}")
    await token(tokens, "web-1")
    assert MAX_TOKENS + 1 == len(issuer.requests)
    await token(tokens, "web-0")
    assert MAX_TOKENS + 2 == len(issuer.requests)


def test_tokens_are_not_shown() -> None:
    """Upstream logged them (CVE-2025-7445)."""
    assert "canary" not in repr(Token("canary", ManualClock().wall(), 600))
