"""keyferry.resilience.response_cache: expiry, eviction, and the volumes that use a response."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.response_cache import CacheEntry, CacheLimits, ResponseCache

LIMITS = CacheLimits(unretained_ttl=15.0, retained_ttl=240.0, max_bytes=100)


def key(name: str) -> CacheKey:
    return CacheKey("contoso", IdentityKey("Mode", ("a",)), ("read", name))


def entry(
    value: str = "v", *, size: int = 1, fetched_at: float = 0.0, tenant: str = ""
) -> CacheEntry:
    return CacheEntry(value, size, fetched_at, fetched_at, tenant)


def test_response_is_cached_under_its_key() -> None:
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry(fetched_at=10.0))
    cached = cache.get(key("a"))
    assert cached is not None
    assert ("v", 10.0) == (cached.value, cached.validated_at)
    assert cache.get(key("b")) is None


def test_clear_removes_responses_and_volumes() -> None:
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry(fetched_at=10.0))
    cache.retain(key("a"), "pod", validated_at=10.0)
    cache.clear()
    assert (0, None, None) == (cache.total_bytes, cache.get(key("a")), cache.oldest_retained())
    assert {} == cache.retained_by("pod")
    cache.put(key("a"), entry(fetched_at=10.0))
    assert 25.0 == cache.sweep(10.0)


def test_tenant_with_many_responses_evicts_only_its_own() -> None:
    """The response that it used last stays; so does everything of others, however old."""
    cache = ResponseCache(LIMITS)
    cache.put(key("old"), entry(size=40, tenant="victim"))
    for number in range(20):
        cache.put(key(f"evil-{number}"), entry(size=20, tenant="evil"))
        assert cache.get(key("evil-0")) is not None
    assert cache.get(key("old")) is not None
    kept = {number for number in range(20) if cache.get(key(f"evil-{number}"))}
    assert {0, 18, 19} == kept
    cache.put(key("large"), entry(size=99, tenant="evil"))
    assert cache.get(key("old")) is not None
    assert cache.get(key("large")) is None


def test_responses_that_the_limit_drops_are_counted() -> None:
    """Also one that is larger than the cache. Those that expire are not."""
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry(size=60))
    cache.put(key("b"), entry(size=40))
    cache.sweep(1000.0)
    assert 0 == cache.evictions
    cache.put(key("c"), entry(size=60))
    cache.put(key("d"), entry(size=60))
    assert (1, 60) == (cache.evictions, cache.total_bytes)
    cache.put(key("e"), entry(size=101))
    assert (2, 60, 100) == (cache.evictions, cache.total_bytes, cache.max_bytes)


def test_tenants_share_the_cache_equally_when_both_need_it() -> None:
    """A tenant alone may use all of it."""
    cache = ResponseCache(LIMITS)
    for number in range(10):
        cache.put(key(f"a-{number}"), entry(size=10, tenant="a"))
    assert 100 == cache.total_bytes
    for number in range(10):
        cache.put(key(f"b-{number}"), entry(size=10, tenant="b"))
    assert 5 == sum(cache.get(key(f"a-{number}")) is not None for number in range(10))
    assert 5 == sum(cache.get(key(f"b-{number}")) is not None for number in range(10))


def test_response_without_a_volume_expires_after_the_short_ttl() -> None:
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry(size=7, fetched_at=10.0))
    assert 25.0 == cache.sweep(24.9)
    assert 7 == cache.total_bytes
    assert cache.sweep(25.0) is None
    assert (0, None) == (cache.total_bytes, cache.get(key("a")))


def test_response_with_a_volume_expires_after_the_long_ttl() -> None:
    """Until its last volume is removed."""
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry())
    cache.retain(key("a"), "pod-1", validated_at=0.0)
    cache.retain(key("a"), "pod-2", validated_at=0.0)
    assert 240.0 == cache.sweep(100.0)
    cache.release("pod-1")
    assert 240.0 == cache.sweep(100.0)
    cache.release("pod-2")
    assert cache.sweep(100.0) is None
    assert cache.get(key("a")) is None


def test_revalidation_extends_the_life_and_never_shortens_it() -> None:
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry(fetched_at=10.0))
    cache.mark_validated(key("a"), validated_at=50.0)
    cache.mark_validated(key("a"), validated_at=20.0)
    cached = cache.get(key("a"))
    assert cached is not None
    assert (50.0, 10.0) == (cached.validated_at, cached.fetched_at)


def test_least_recently_used_response_is_evicted() -> None:
    """A response that is larger than the cache is not cached."""
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry(size=50))
    cache.put(key("b"), entry(size=50))
    cache.get(key("a"))
    cache.put(key("c"), entry(size=40))
    assert [True, False, True] == [cache.get(key(name)) is not None for name in "abc"]
    cache.put(key("a"), entry(size=101))
    assert cache.get(key("a")) is None
    assert 40 == cache.total_bytes


def test_oldest_content_is_that_of_mounted_volumes() -> None:
    cache = ResponseCache(LIMITS)
    assert cache.oldest_retained() is None
    cache.retain(key("a"), "pod-1", validated_at=5.0)
    cache.retain(key("a"), "pod-2", validated_at=9.0)
    assert 5.0 == cache.oldest_retained()
    cache.retain(key("a"), "pod-1", validated_at=12.0)
    assert 9.0 == cache.oldest_retained()
    cache.release("pod-2")
    cache.release("pod-2")
    assert 12.0 == cache.oldest_retained()


def test_object_that_was_removed_from_a_volume_is_not_retained() -> None:
    """As after an edit of the SecretProviderClass."""
    cache = ResponseCache(LIMITS)
    for name, fetched_at in (("a", 5.0), ("b", 9.0)):
        cache.put(key(name), entry(fetched_at=fetched_at))
        cache.retain(key(name), "pod-1", validated_at=fetched_at)
    cache.retain_only("pod-1", {key("b"), key("unknown")})
    assert 9.0 == cache.oldest_retained()
    cache.sweep(50.0)
    assert (None, True) == (cache.get(key("a")), cache.get(key("b")) is not None)
    cache.retain_only("pod-1", set())
    assert cache.oldest_retained() is None


def test_repr_contains_neither_value_nor_digest() -> None:
    cache = ResponseCache(LIMITS)
    cache.put(key("a"), entry("canary"))
    assert "canary" not in repr(cache.get(key("a")))
    assert "canary" not in repr(CacheKey("contoso", IdentityKey("Mode", ("canary",)), ("read",)))


def test_only_values_of_the_identity_are_considered_for_a_list() -> None:
    """A node may have 1,000 identities, each with a list of its own."""
    cache, asked = ResponseCache(LIMITS), []
    for number in range(5):
        identity = IdentityKey("Mode", (str(number),))
        for vault in ("contoso", "fabrikam"):
            cache.put(CacheKey(vault, identity, ("read", "a")), entry())

    def covers(key: CacheKey, value: object) -> bool:
        asked.append(key)
        return value == "v"

    wanted = CacheKey("contoso", IdentityKey("Mode", ("3",)), ("read", "a"))
    found = cache.select_revalidatable(wanted.vault, wanted.identity, covers, now=1.0)
    assert {wanted: "v"} == found
    assert [wanted] == asked
    cache.drop(wanted)
    assert {} == cache.select_revalidatable(wanted.vault, wanted.identity, covers, now=1.0)


def test_only_released_responses_are_swept_with_a_volume() -> None:
    """Others are swept when they expire, and not with each pod that ends."""
    cache = ResponseCache(LIMITS)
    for name, fetched_at in (("a", 5.0), ("b", 40.0), ("c", 5.0)):
        cache.put(key(name), entry(fetched_at=fetched_at))
    for name in "ab":
        cache.retain(key(name), "pod-1", validated_at=5.0)
    cache.retain(key("b"), "pod-2", validated_at=5.0)
    assert [key("a")] == cache.release("pod-1")
    assert cache.sweep(50.0, [key("a")]) is None
    assert [None, True] == [cache.get(key("a")), cache.get(key("c")) is not None]
    assert [key("b")] == cache.release("pod-2")
    assert 55.0 == cache.sweep(50.0, [key("b"), key("unknown")])


Step = tuple[str, int, int, str]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["put", "retain", "retain only", "release", "drop", "sweep", "validate"]
            ),
            st.integers(0, 4),
            st.integers(0, 120),
            st.sampled_from(["volume-1", "volume-2"]),
        ),
        max_size=80,
    )
)
def test_size_and_age_are_bounded_after_any_steps(steps: list[Step]) -> None:
    """And no volume is left behind."""
    cache, now = ResponseCache(LIMITS), 0.0
    keys = [key(str(number)) for number in range(5)]
    for action, number, size, volume in steps:
        now += 7.0
        match action:
            case "put":
                cache.put(keys[number], entry(size=size, fetched_at=now))
            case "retain":
                cache.retain(keys[number], volume, validated_at=now)
            case "retain only":
                cache.retain_only(volume, {keys[number]})
            case "release":
                cache.release(volume)
            case "drop":
                cache.drop(keys[number])
            case "validate":
                cache.mark_validated(keys[number], validated_at=now)
            case _:
                cache.sweep(now)
                entries = [cached for cached in map(cache.get, keys) if cached]
                assert all(now - one.validated_at < LIMITS.retained_ttl for one in entries)
        sizes = [cached.size for cached in map(cache.get, keys) if cached]
        assert cache.total_bytes == sum(sizes) <= LIMITS.max_bytes
    cache.release("volume-1")
    cache.release("volume-2")
    assert cache.oldest_retained() is None
    assert cache.sweep(now + LIMITS.unretained_ttl) is None
    assert {} == cache.select_revalidatable("contoso", keys[0].identity, lambda *_: True, now=now)
