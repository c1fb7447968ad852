"""Unknown fields of hostile SecretProviderClasses: no exception, short and printable warnings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.formats.unknown_fields import MAX_UNKNOWN_FIELDS
from keyferry.kubernetes import SecretProviderClass
from keyferry.providers.known_fields import azure, vault
from keyferry.providers.registry import unknown_fields
from keyferry.providers.vault.product import OPENBAO, VAULT

TABLES = st.sampled_from(
    [
        azure.PARAMETERS,
        azure.OBJECT,
        azure.OBJECTS,
        azure.SECRET_KEYS,
        vault.OBJECT,
        vault.SECRET_KEYS,
        VAULT.parameters,
        OPENBAO.parameters,
    ]
)
NAMES = st.one_of(
    st.text(),
    st.sampled_from([*azure.PARAMETERS.known, *azure.OBJECT.known, *OPENBAO.parameters.known]),
    st.from_regex(r"(key|vault|bao|object|secret|tenant|client)[-_.]?[A-Za-z]{0,12}"),
)


@given(TABLES, st.lists(NAMES, unique=True))
def test_a_suggestion_is_known_and_absent(table: object, names: list[str]) -> None:
    """And a known field is never reported."""
    assert isinstance(table, type(azure.PARAMETERS))
    found = list(table.find("spec", names))
    assert [name for name in names if name not in table.known] == [f.name for f in found]
    for field in found:
        assert field.suggestion in ("", *(set(table.known) - set(names)))
        assert str(field).isprintable()
        assert len(str(field)) < 600


@given(TABLES, st.data())
def test_case_and_punctuation_do_not_matter(table: object, data: st.DataObject) -> None:
    """The suggestion is the field itself, or one that differs only in case."""
    assert isinstance(table, type(azure.PARAMETERS))
    name = data.draw(st.sampled_from(table.known))
    flips = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    written = "".join(c.swapcase() if flip else c for c, flip in zip(name, flips, strict=True))
    for spelling in (written, "_".join(written)):
        for field in table.find("", [spelling]):
            assert name.casefold() == field.suggestion.casefold()


@given(TABLES, st.data())
def test_one_wrong_letter_does_not_matter(table: object, data: st.DataObject) -> None:
    """In a name of at least ten letters."""
    assert isinstance(table, type(azure.PARAMETERS))
    name = data.draw(st.sampled_from([name for name in table.known if len(name) >= 10] or ["x"]))
    at = data.draw(st.integers(0, len(name) - 1))
    written = f"{name[:at]}{name[at + 1 :]}"
    for field in table.find("", [written]):
        assert field.suggestion or field.note or name == "x"


@given(
    st.sampled_from(["azure", "vault", "openbao", "other"]),
    st.dictionaries(NAMES, st.text()),
    st.text(),
    st.lists(NAMES),
)
def test_any_class_can_be_checked(
    provider: str, parameters: dict[str, str], objects: str, keys: list[str]
) -> None:
    """Its check never raises."""
    spc = SecretProviderClass("ns", "name", provider, {**parameters, "objects": objects})
    assert len(unknown_fields(spc, secret_keys=keys)) <= 2 * MAX_UNKNOWN_FIELDS
