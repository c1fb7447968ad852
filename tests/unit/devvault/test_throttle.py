from __future__ import annotations

from keyferry_devvault.throttle import Throttle


def test_a_vault_answers_up_to_its_limit_in_each_second() -> None:
    """The third request of a second is too many; the next second starts a new window."""
    throttle = Throttle()
    moments = [10.0, 10.4, 10.9, 11.0]
    admitted = [throttle.admits("kv", limit=2, now=now) for now in moments]
    assert [True, True, False, True] == admitted


def test_vaults_do_not_share_their_limit() -> None:
    """One busy vault does not throttle another."""
    throttle = Throttle()
    assert throttle.admits("one", limit=1, now=10)
    assert throttle.admits("two", limit=1, now=10)
    assert not throttle.admits("one", limit=1, now=10)


def test_without_a_limit_everything_is_admitted() -> None:
    """Throttling is off unless it is switched on."""
    throttle = Throttle()
    assert all(throttle.admits("kv", limit=None, now=10) for _ in range(100))
