"""keyferry.resilience.response_cache: no value is held longer than somebody profits from it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.response_cache import CacheEntry, CacheLimits, ResponseCache

LIMITS = CacheLimits(unretained_ttl=15.0, retained_ttl=240.0, max_bytes=100)


def key(name: str) -> CacheKey:
    return CacheKey("contoso", IdentityKey("Mode", ("a",)), ("read", name))


def entry(value: str = "v", *, size: int = 1, fetched_at: float) -> CacheEntry:
    return CacheEntry(value, size, validated_at=fetched_at, fetched_at=fetched_at)


def test_an_answer_is_held_under_its_own_key() -> None:
    """With when it came."""
    held = ResponseCache(LIMITS)
    held.put(key("a"), entry("v", size=1, fetched_at=10.0))
    answer = held.get(key("a"))
    assert answer is not None
    assert ("v", 10.0) == (answer.value, answer.validated_at)
    assert held.get(key("b")) is None


def test_nothing_is_left_once_it_is_cleared() -> None:
    """Neither values nor users."""
    held = ResponseCache(LIMITS)
    held.put(key("a"), entry("v", size=1, fetched_at=10.0))
    held.retain(key("a"), "pod", validated_at=10.0)
    held.clear()
    assert (0, None, None) == (held.total_bytes, held.get(key("a")), held.oldest_retained())
    assert {} == held.retained_by("pod")
    held.put(key("a"), entry("v", size=1, fetched_at=10.0))
    assert 25.0 == held.sweep(10.0)


def test_an_answer_without_user_goes_after_the_short_time() -> None:
    """Its bytes too."""
    held = ResponseCache(LIMITS)
    held.put(key("a"), entry("v", size=7, fetched_at=10.0))
    assert 25.0 == held.sweep(24.9)
    assert 7 == held.total_bytes
    assert held.sweep(25.0) is None
    assert (0, None) == (held.total_bytes, held.get(key("a")))


def test_an_answer_with_a_user_stays_for_the_next_refresh() -> None:
    """Until the last user has gone."""
    held = ResponseCache(LIMITS)
    held.put(key("a"), entry("v", size=7, fetched_at=0.0))
    held.retain(key("a"), "pod-1", validated_at=0.0)
    held.retain(key("a"), "pod-2", validated_at=0.0)
    assert 240.0 == held.sweep(100.0)
    held.release("pod-1")
    assert 240.0 == held.sweep(100.0)
    held.release("pod-2")
    assert held.sweep(100.0) is None
    assert held.get(key("a")) is None


def test_a_proof_makes_an_answer_young() -> None:
    """From when the proof was asked for; never older."""
    held = ResponseCache(LIMITS)
    held.put(key("a"), entry("v", size=1, fetched_at=10.0))
    held.mark_validated(key("a"), validated_at=50.0)
    held.mark_validated(key("a"), validated_at=20.0)
    answer = held.get(key("a"))
    assert answer is not None
    assert (50.0, 10.0) == (answer.validated_at, answer.fetched_at)


def test_the_longest_unused_goes_when_there_is_no_room() -> None:
    """And what is larger than all the room is not held."""
    held = ResponseCache(LIMITS)
    held.put(key("a"), entry("v", size=50, fetched_at=0.0))
    held.put(key("b"), entry("v", size=50, fetched_at=0.0))
    held.get(key("a"))
    held.put(key("c"), entry("v", size=40, fetched_at=0.0))
    assert [True, False, True] == [held.get(key(name)) is not None for name in "abc"]
    held.put(key("a"), entry("v", size=101, fetched_at=0.0))
    assert held.get(key("a")) is None
    assert 40 == held.total_bytes


def test_the_oldest_content_is_that_of_volumes_that_are_there() -> None:
    """What nobody uses is no content of the node."""
    held = ResponseCache(LIMITS)
    assert held.oldest_retained() is None
    held.retain(key("a"), "pod-1", validated_at=5.0)
    held.retain(key("a"), "pod-2", validated_at=9.0)
    assert 5.0 == held.oldest_retained()
    held.retain(key("a"), "pod-1", validated_at=12.0)
    assert 9.0 == held.oldest_retained()
    held.release("pod-2")
    held.release("pod-2")
    assert 12.0 == held.oldest_retained()


def test_what_a_user_needs_no_more_is_no_content_of_the_node() -> None:
    """A class that was edited: of two objects one is left, and the other's age counts no more."""
    held = ResponseCache(LIMITS)
    for name, since in (("a", 5.0), ("b", 9.0)):
        held.put(key(name), entry("v", size=1, fetched_at=since))
        held.retain(key(name), "pod-1", validated_at=since)
    held.retain_only("pod-1", {key("b"), key("never")})
    assert 9.0 == held.oldest_retained()
    held.sweep(50.0)
    assert (None, True) == (held.get(key("a")), held.get(key("b")) is not None)
    held.retain_only("pod-1", set())
    assert held.oldest_retained() is None


def test_no_value_is_in_a_repr() -> None:
    """Nor does the key show who it is."""
    held = ResponseCache(LIMITS)
    held.put(key("a"), entry("canary", size=1, fetched_at=0.0))
    answer = held.get(key("a"))
    assert "canary" not in repr(answer)
    shown = repr(CacheKey("contoso", IdentityKey("Mode", ("canary",)), ("read", "a")))
    assert "canary" not in shown


Step = tuple[str, int, int, str]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "use", "settle", "gone", "drop", "sweep", "prove"]),
            st.integers(0, 4),
            st.integers(0, 120),
            st.sampled_from(["p1", "p2"]),
        ),
        max_size=80,
    )
)
def test_bytes_and_ages_are_bounded_whatever_happens(steps: list[Step]) -> None:
    """Never more bytes than allowed, nothing too old after a sweep, no user left behind."""
    held, now = ResponseCache(LIMITS), 0.0
    for verb, number, size, user in steps:
        now += 7.0
        match verb:
            case "put":
                held.put(key(str(number)), entry("v", size=size, fetched_at=now))
            case "use":
                held.retain(key(str(number)), user, validated_at=now)
            case "settle":
                held.retain_only(user, {key(str(number))})
            case "gone":
                held.release(user)
            case "drop":
                held.drop(key(str(number)))
            case "prove":
                held.mark_validated(key(str(number)), validated_at=now)
            case _:
                held.sweep(now)
                answers = [held.get(key(str(n))) for n in range(5)]
                assert all(
                    now - answer.validated_at < LIMITS.retained_ttl for answer in answers if answer
                )
        kept = [held.get(key(str(n))) for n in range(5)]
        assert held.total_bytes == sum(answer.size for answer in kept if answer) <= LIMITS.max_bytes
    held.release("p1")
    held.release("p2")
    assert held.oldest_retained() is None
    assert held.sweep(now + LIMITS.unretained_ttl) is None
