"""What a user reads about namespaces, audiences and credentials."""

from __future__ import annotations

from keyferry.errors import ClassInvalidError, IdentityError
from keyferry.sync_controller.rules.refusals import audience_error, with_credentials_remedy


def test_forbidden_audience_names_the_value_to_change() -> None:
    """And what is permitted already."""
    error = audience_error({"vault"}, {"b", "a"})
    assert str(error) == (
        "the SecretProviderClass needs a service-account token for the audience vault, and only"
        " these are permitted: a, b. Add audience: vault to secretSync.tokenRequests of the chart"
        " (flag --token-request-audience)."
    )
    assert "only these are permitted: none." in str(audience_error({"vault"}, ()))


def test_remedy_names_the_annotation_instead_of_the_field_of_a_pod() -> None:
    """Providers speak of pods."""
    error = IdentityError("nodePublishSecretRef is not set", "Set it in the volume of the pod.")
    assert with_credentials_remedy(error).remedy == (
        "Set it in the volume of the pod. A SecretSync has the annotation"
        " keyferry.dev/credentials-secret instead of nodePublishSecretRef."
    )
    assert error.remedy == "Set it in the volume of the pod."
    other = ClassInvalidError("tenantId is not set", "Set it.")
    assert with_credentials_remedy(other) is other
