"""The checks of a SecretProviderClass."""

from dataclasses import replace

import pytest

from keyferry.driver.request import check_class
from keyferry.errors import ClassInvalidError, Code
from keyferry.kubernetes.objects import SecretProviderClass

GOOD = SecretProviderClass("shop", "web", "azure", {"keyvaultName": "kv"})


@pytest.mark.parametrize("provider", ["azure", "my_provider-2", "A" * 30])
def test_a_good_class_passes(provider: str) -> None:
    """The class itself comes back."""
    cls = replace(GOOD, provider=provider)

    assert cls is check_class(cls)


def test_a_class_without_a_provider_is_refused() -> None:
    """The message names the class and the field, and kubelet sees UNKNOWN as with upstream."""
    with pytest.raises(ClassInvalidError) as caught:
        check_class(replace(GOOD, provider=""))

    assert (
        "SecretProviderClass shop/web has no provider: spec.provider is empty. "
        "Set spec.provider to the provider of your vault, for example azure."
    ) == str(caught.value)
    assert Code.UNKNOWN == caught.value.code


@pytest.mark.parametrize("provider", ["a/b", "../x", "a b", "a.b", "é", "a\n", "A" * 31])
def test_a_name_that_no_provider_has_is_refused(provider: str) -> None:
    """The name becomes the name of a socket, so it is checked before anybody looks for that."""
    with pytest.raises(ClassInvalidError, match="is not a valid provider name"):
        check_class(replace(GOOD, provider=provider))


def test_a_class_without_parameters_is_refused() -> None:
    """A provider that is told nothing can deliver nothing."""
    with pytest.raises(ClassInvalidError, match=r"spec\.parameters is empty"):
        check_class(replace(GOOD, parameters={}))
