"""Unknown fields of hostile SecretProviderClasses: no exception, short and printable warnings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.formats.unknown_fields import MAX_UNKNOWN_FIELDS, FieldTable
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
def test_a_suggestion_is_known_and_absent(table: FieldTable, names: list[str]) -> None:
    """And a known field is never reported."""
    found = list(table.find("spec", names))
    unknown = [n for n in names if n not in table.known and not n.startswith(("x-", "."))]
    assert unknown == [field.name for field in found]
    for field in found:
        assert field.suggestion in ("", *(set(table.known) - set(names)))
        assert str(field).isprintable()
        assert len(str(field)) < 600


@given(TABLES, st.data())
def test_case_and_punctuation_do_not_matter(table: FieldTable, data: st.DataObject) -> None:
    """The suggestion is the field itself, or one that differs only in case."""
    name = data.draw(st.sampled_from(table.known))
    flips = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    written = "".join(c.swapcase() if flip else c for c, flip in zip(name, flips, strict=True))
    for spelling in (written, "_".join(written)):
        for field in table.find("", [spelling]):
            assert name.casefold() == field.suggestion.casefold()


@given(TABLES, st.data(), st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
def test_one_wrong_letter_does_not_matter(
    table: FieldTable, data: st.DataObject, letter: str
) -> None:
    """Missing, too many, wrong, or exchanged; in a name of at least five letters."""
    name = data.draw(st.sampled_from([name for name in table.known if len(name) >= 5]))
    at = data.draw(st.integers(0, len(name) - 2))
    before, one, two, after = name[:at], name[at], name[at + 1], name[at + 2 :]
    for edited in (two, one + letter + two, letter + two, two + one):
        for field in table.find("", [f"{before}{edited}{after}"]):
            assert field.suggestion or field.note


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
