"""keyferry.kubernetes.placeholders: parameters that a program should have filled in."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError, ObjectNotFoundError
from keyferry.kubernetes.placeholders import find_placeholder, with_placeholder_remedy


@pytest.mark.parametrize(
    "placeholder",
    [
        "${KV}",
        "${var.vault_name}",
        "$(KeyVaultName)",
        "$KEYVAULT",
        "{{ .Values.keyvault }}",
        "{{keyvault}}",
        "#{KeyVault}#",
        "__KEYVAULT_NAME__",
        "<your-key-vault-name>",
        "<KEYVAULT NAME>",
        "%KEYVAULT%",
    ],
)
def test_placeholders_of_many_programs_are_found(placeholder: str) -> None:
    """Alone, or within a text."""
    assert find_placeholder({"keyvaultName": placeholder}) == ("keyvaultName", placeholder)
    text = f"array:\n- |\n  objectName: x-{placeholder}\n"
    assert find_placeholder({"a": "b", "objects": text}) == ("objects", placeholder)


@pytest.mark.parametrize(
    "text",
    [
        "contoso",
        "array:\n- |\n  <<: *x\n  objectName: a",
        "- {objectName: a, secretPath: secret/data/a?version=1}",
        "secret/data/100%25/x",
        "a < b > c",
        "price $5 {x}",
        "my__name",
    ],
)
def test_ordinary_texts_have_no_placeholder(text: str) -> None:
    """YAML and paths have some of the characters, too."""
    assert find_placeholder({"objects": text}) is None


def test_templates_have_no_placeholder() -> None:
    """Braces name files there, and the text around them is the configuration of any program."""
    text = "- path: .env\n  template: |\n    {{ db-password }} ${HOME} $(id) <Server port> __x__\n"
    assert find_placeholder({"templates": text}) is None
    found = find_placeholder({"templates": text, "tenantID": "{{ .Values.tenant }}"})
    assert found == ("tenantID", "{{ .Values.tenant }}")


def test_remedy_of_the_placeholder_replaces_that_of_the_error_it_caused() -> None:
    """The other remedy would be wrong. The error itself is shared, and stays as it is."""
    error = ClassInvalidError('Invalid vault name: "${KV}"', "Remove '${}'.")

    found = with_placeholder_remedy(error, {"keyvaultName": "${KV}"})

    assert isinstance(found, ClassInvalidError)
    assert found.remedy == (
        "Replace the placeholder ${KV} in spec.parameters.keyvaultName, for example with helm "
        "template or envsubst."
    )
    assert error.remedy == "Remove '${}'."


def test_remedy_of_the_placeholder_precedes_that_of_another_error() -> None:
    """It may or may not be the cause."""
    error = ObjectNotFoundError("there is no role", "Create it.")

    found = with_placeholder_remedy(error, {"roleName": "<ROLE>"})

    assert found.remedy.startswith("Replace the placeholder <ROLE> in spec.parameters.roleName")
    assert found.remedy.endswith(" Create it.")


def test_error_without_a_placeholder_is_unchanged() -> None:
    error = ClassInvalidError("x", "y")

    assert with_placeholder_remedy(error, {"keyvaultName": "contoso"}) is error
