"""The checks of a SecretProviderClass."""

import pytest

from keyferry.errors import ClassInvalidError, Code
from keyferry.formats.unknown_fields import UnknownField
from keyferry.kubernetes.class_check import check_class
from keyferry.kubernetes.objects import SecretProviderClass
from keyferry.records import replace

GOOD = SecretProviderClass("shop", "web", "azure", {"keyvaultName": "kv"})


@pytest.mark.parametrize("provider", ["azure", "my_provider-2", "A" * 30])
def test_valid_secret_provider_class_is_returned(provider: str) -> None:
    """Unchanged."""
    cls = replace(GOOD, provider=provider)

    assert cls is check_class(cls)


def test_secret_provider_class_without_provider_is_rejected() -> None:
    """The message names the object and the field; the code is UNKNOWN, as in upstream."""
    with pytest.raises(ClassInvalidError) as caught:
        check_class(replace(GOOD, provider=""))

    assert (
        "SecretProviderClass shop/web has no provider: spec.provider is empty. "
        "Set spec.provider to the provider of your vault, for example azure."
    ) == str(caught.value)
    assert Code.UNKNOWN == caught.value.code


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            UnknownField("spec", "Provider", "provider"),
            "is empty; you wrote spec.Provider. Rename spec.Provider to spec.provider.",
        ),
        (
            UnknownField("", "provider", "", "it belongs to spec"),
            "spec.provider is empty; provider is not in spec. Move provider below spec:.",
        ),
        (
            UnknownField("", "Spec", "spec"),
            "spec.provider is empty; you wrote Spec. Rename Spec to spec.",
        ),
        (UnknownField("spec", "x"), "for example azure."),
    ],
)
def test_misspelled_or_misplaced_provider_is_named(field: UnknownField, message: str) -> None:
    """Files can have such a field; the API server drops it."""
    with pytest.raises(ClassInvalidError) as caught:
        check_class(replace(GOOD, provider="", unknown_fields=(field,)))
    assert str(caught.value).endswith(message)


def test_misspelled_parameters_are_named() -> None:
    """As above."""
    field = UnknownField("spec", "parameter", "parameters")
    with pytest.raises(ClassInvalidError, match=r"Rename spec\.parameter to spec\.parameters\."):
        check_class(replace(GOOD, parameters={}, unknown_fields=(field,)))


@pytest.mark.parametrize("provider", ["a/b", "../x", "a b", "a.b", "é", "a\n", "A" * 31])
def test_invalid_provider_name_is_rejected(provider: str) -> None:
    """The name becomes the name of a socket, so it is checked first."""
    with pytest.raises(ClassInvalidError, match="is not a valid provider name"):
        check_class(replace(GOOD, provider=provider))


def test_secret_provider_class_without_parameters_is_rejected() -> None:
    """No provider can work without them."""
    with pytest.raises(ClassInvalidError, match=r"spec\.parameters is empty"):
        check_class(replace(GOOD, parameters={}))
