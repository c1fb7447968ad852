"""keyferry.providers.azure.objects and entries: from the parameter `objects` to what to fetch."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.providers.azure.objects import (
    KeyVaultObject,
    ObjectEncoding,
    ObjectFormat,
    ObjectRef,
    ObjectType,
    parse_objects,
)


def listed(*entries: str) -> str:
    """The parameter `objects` with these entries, as literal texts from line 2 on."""
    lines = ["array:"]
    for entry in entries:
        lines += ["  - |", *(f"    {line}" for line in entry.splitlines())]
    return "\n".join(lines) + "\n"


def one(**fields: str) -> KeyVaultObject:
    """The only object of a class with these fields of a secret called secret1."""
    written = {"objectName": "secret1", "objectType": "secret"} | fields
    text = "\n".join(f"{key}: {value}" for key, value in written.items())
    (found,) = parse_objects(listed(text))
    return found


def problem(**fields: str) -> str:
    """Why such an object is refused."""
    with pytest.raises(ClassInvalidError) as caught:
        one(**fields)
    assert caught.value.problem.endswith("(entry at index 0, line 2 of objects)")
    return caught.value.problem


def test_an_entry_becomes_an_object_with_its_defaults() -> None:
    """Only type and name are needed."""
    assert one() == KeyVaultObject(
        ref=ObjectRef(ObjectType.SECRET, "secret1", ""),
        path="secret1",
        mode=None,
        encoding=ObjectEncoding.UTF8,
        format=ObjectFormat.PEM,
        history=1,
    )


def test_the_alias_is_the_path() -> None:
    """Folders are allowed in it; the id keeps the object's own name."""
    found = one(objectAlias="certs/SECRET_1")
    assert (found.path, found.ref.id) == ("certs/SECRET_1", "secret/secret1")


def test_texts_are_trimmed() -> None:
    """White space around a field never counts."""
    found = one(objectName='"  secret1  "', objectVersion='" v1 "', objectEncoding='" hex "')
    assert found.ref == ObjectRef(ObjectType.SECRET, "secret1", "v1")
    assert found.encoding is ObjectEncoding.HEX


@pytest.mark.parametrize("version", ["0123", "12e34", "true", "2024-01-01"])
def test_a_version_is_text_even_if_yaml_sees_something_else_in_it(version: str) -> None:
    """Scalars stay raw."""
    assert one(objectVersion=version).ref.version == version


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0600", 0o600), ('"0600"', 0o600), ("755", 0o755), ("0755", 0o755), ("0", 0), ("", None)],
)
def test_a_permission_is_octal_text(text: str, mode: int | None) -> None:
    """Quoted or not, with or without the leading 0; empty leaves it to the driver."""
    assert one(filePermission=text).mode == mode


@pytest.mark.parametrize("text", ["900", "0900", "0o644", "-7", "+7", "1755", "rw-r--r--", "8"])
def test_a_bad_permission_is_an_error(text: str) -> None:
    """Upstream would write the file with mode 0."""
    assert f"filePermission '{text}' is not an octal mode" in problem(filePermission=text)


@pytest.mark.parametrize("text", ["utf-8", "UTF-8", "base64", "BasE64", "hex", "HEX"])
def test_encodings_are_compared_without_case(text: str) -> None:
    """As upstream does."""
    assert one(objectEncoding=text).encoding.value == text.lower()


def test_an_unknown_encoding_is_an_error() -> None:
    """The words are upstream's."""
    expected = "invalid objectEncoding: utf-16, should be hex, base64 or utf-8"
    assert expected in problem(objectEncoding="utf-16")


def test_an_encoding_is_for_secrets_only() -> None:
    """This check comes before the one of the value."""
    expected = "objectEncoding only supported for objectType: secret"
    assert expected in problem(objectType="key", objectEncoding="utf-16")


@pytest.mark.parametrize("text", ["pem", "PEM", ""])
def test_pem_is_the_format_that_is_delivered(text: str) -> None:
    """Compared without case."""
    assert one(objectFormat=text).format is ObjectFormat.PEM


def test_an_unknown_format_is_an_error() -> None:
    """The words are upstream's."""
    assert "invalid objectFormat: pkcs, should be PEM or PFX" in problem(objectFormat="pkcs")


def test_pfx_is_for_secrets_only() -> None:
    """The words are upstream's."""
    expected = "PFX format only supported for objectType: secret"
    assert expected in problem(objectType="cert", objectFormat="pfx")


@pytest.mark.parametrize(
    ("text", "format_"),
    [("pfx", ObjectFormat.PFX), ("PFX", ObjectFormat.PFX), ("Pkcs12", ObjectFormat.PKCS12)],
)
def test_pkcs12_is_text_or_bytes(text: str, format_: ObjectFormat) -> None:
    """As pfx it is what upstream gives, as pkcs12 an extension of ours."""
    assert format_ is one(objectFormat=text).format


@pytest.mark.parametrize("type_", ["key", "cert"])
def test_pfx_in_capitals_is_ignored_where_it_means_nothing(type_: str) -> None:
    """Upstream compares with the lower-case word alone; such classes must go on working."""
    assert ObjectFormat.PEM is one(objectType=type_, objectFormat="PFX").format


@pytest.mark.parametrize("type_", ["key", "cert"])
def test_pkcs12_is_for_secrets_only(type_: str) -> None:
    """However it is written: no class of upstream's has it."""
    expected = "PFX format only supported for objectType: secret"
    assert expected in problem(objectType=type_, objectFormat="PKCS12")


def test_bytes_have_no_encoding() -> None:
    """There is nothing left to undo."""
    expected = "objectFormat: pkcs12 delivers bytes, which objectEncoding: hex cannot decode"
    assert expected in problem(objectFormat="pkcs12", objectEncoding="hex")


@pytest.mark.parametrize("type_", list(ObjectType))
def test_every_type_can_be_asked_for(type_: ObjectType) -> None:
    """Secrets, keys and certificates."""
    assert ObjectRef(type_, "secret1", "") == one(objectType=type_.value).ref


def test_latest_is_the_current_version() -> None:
    """Upstream takes the word for a history alone."""
    assert "" == one(objectVersion="latest").ref.version


def test_a_history_is_a_folder_of_versions() -> None:
    """Upstream would make one file more than it was asked for."""
    found = one(objectVersionHistory="3", objectAlias="folder/multiple")
    assert ("folder/multiple/0", "folder/multiple/1", "folder/multiple/2") == found.paths
    assert ("secret/secret1/0", "secret/secret1/1", "secret/secret1/2") == found.ids


def test_the_index_is_the_last_part_of_the_path() -> None:
    """Upstream's vector: `folder/multiple-versions/8` is version 8."""
    found = one(objectVersionHistory="9", objectAlias="folder/multiple-versions")
    assert ("folder/multiple-versions/8", "secret/secret1/8") == (found.paths[8], found.ids[8])


def test_a_single_version_has_no_folder() -> None:
    """Its path is the alias, its id the object's own name."""
    found = one(objectAlias="a")
    assert (("a",), ("secret/secret1",)) == (found.paths, found.ids)


def test_a_history_has_an_end() -> None:
    """Some classes ask for all versions by a large number."""
    assert 1000 == one(objectVersionHistory="2147483647").history


def test_a_volume_has_an_end() -> None:
    """What is beyond it is a mistake, and would take the memory of the node."""
    entry = "objectName: x\nobjectType: secret\nobjectVersionHistory: 1000\nobjectAlias: a"
    with pytest.raises(ClassInvalidError, match="more than 10000 files"):
        parse_objects(listed(*(f"{entry}{number}" for number in range(11))))


def test_a_history_and_a_file_cannot_share_a_path() -> None:
    """The versions of the one lie where the other wants to be."""
    entry = "objectName: x\nobjectType: secret\nobjectAlias: "
    with pytest.raises(ClassInvalidError, match="two objects have the file path 'a/1'"):
        parse_objects(listed(entry + "a\nobjectVersionHistory: 2", entry + "a/1"))


@pytest.mark.parametrize("history", ["0", "1", "-5", "0x1", "", "~"])
def test_a_history_up_to_one_is_the_single_version(history: str) -> None:
    """Negative numbers included, as upstream has it."""
    assert one(objectVersionHistory=history).history == 1


@pytest.mark.parametrize("history", ['"5"', "five", "1.5", "99999999999", "[1]", "''"])
def test_a_history_that_is_no_integer_names_its_line(history: str) -> None:
    """A quoted number is none either; line 5 of `objects` is the third of the entry."""
    with pytest.raises(
        ClassInvalidError, match="unmarshal failed for keyVaultObjects at index 0"
    ) as caught:
        one(objectVersionHistory=history)
    assert "objectVersionHistory is" in caught.value.problem
    assert "(line 5 of objects)" in caught.value.problem


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"objectName": ""}, "file name must not be empty"),
        ({"objectAlias": "/etc/passwd"}, "file name must be a relative path"),
        ({"objectAlias": "../passwd"}, "file name must not contain '..'"),
        ({"objectAlias": "a..b"}, "file name must not contain '..'"),
        ({"objectAlias": "."}, "is not in its shortest form"),
        ({"objectAlias": "a//b"}, "is not in its shortest form"),
        ({"objectAlias": "a/"}, "is not in its shortest form"),
        ({"objectAlias": "x" * 256}, "has an element longer than 255 bytes"),
        ({"objectAlias": '"a\\0b"'}, "the file name 'a?b' holds a NUL byte"),
        ({"objectType": ""}, "Invalid vaultObjectTypes. Should be secret, key, or cert"),
        ({"objectType": "Secret"}, "Invalid vaultObjectTypes. Should be secret, key, or cert"),
        ({"objectName": "a_b"}, "objectName is not a valid name of an object in a vault"),
        ({"objectName": "a/versions"}, "objectName is not a valid name of an object in a vault"),
        ({"objectVersion": "../x"}, "objectVersion is not a valid version of an object"),
    ],
)
def test_what_cannot_be_is_an_error(fields: dict[str, str], words: str) -> None:
    """Before any call to a vault."""
    assert words in problem(**fields)


def test_a_refused_entry_is_named_as_upstream_names_it() -> None:
    """Type, name and version precede the cause."""
    text = problem(objectVersion="v1", filePermission="900")
    assert text.startswith(
        "failed to get objectType:secret, objectName:secret1, objectVersion:v1: "
    )


def test_a_long_or_multi_line_text_is_shortened_in_messages() -> None:
    """What a class says must neither flood a log nor forge lines in it."""
    text = problem(objectType='"' + "x" * 5000 + '\\nforged: line"')
    assert len(text) < 500
    assert "\n" not in text


@pytest.mark.parametrize("text", ["", "   \n"])
def test_objects_must_be_set(text: str) -> None:
    """The words are upstream's."""
    with pytest.raises(ClassInvalidError, match="objects is not set"):
        parse_objects(text)


@pytest.mark.parametrize("text", ["array:", "array: []", "array: ~", "other: x", "{}"])
def test_no_entry_is_an_error(text: str) -> None:
    """Upstream's driver fails such a mount too, with words that nobody understands."""
    with pytest.raises(ClassInvalidError, match="objects lists no object"):
        parse_objects(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("invalid", "not a mapping with the key array (line 1 of objects)"),
        ("- objectName: x", "not a mapping with the key array (line 1 of objects)"),
        ("array:\n  - objectName: x\n", "the entry at index 0 is not a string"),
        ("array: x", "array is not a list (line 1 of objects)"),
        ("array: {}", "array is not a list (line 1 of objects)"),
        ("array:\n  - |\n    a: b\n bad", "not YAML"),
        ("array: []\narray: []", "the key 'array' stands twice in one mapping (line 2 of objects)"),
        ("x" * (10 << 20), "has 10485760 bytes"),
        ("[" * 100_000, "nested deeper"),
    ],
)
def test_a_malformed_list_is_an_error_with_its_line(text: str, words: str) -> None:
    """Upstream's words, then what and where."""
    with pytest.raises(ClassInvalidError) as caught:
        parse_objects(text)
    assert caught.value.problem.startswith("failed to yaml unmarshal objects, error: ")
    assert words in caught.value.problem


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("objectName: [", "not YAML"),
        ("just text", "error: not a mapping"),
        ("objectName: a\nobjectName: b", "the key 'objectName' stands twice"),
        ("objectName: {a: b}", "objectName is a list or a mapping"),
    ],
)
def test_a_malformed_entry_is_named_by_index_and_line(entry: str, words: str) -> None:
    """Entries count from 0 as upstream counts them; lines are those of `objects`."""
    good = "objectName: a\nobjectType: secret"
    with pytest.raises(ClassInvalidError) as caught:
        parse_objects(listed(good, entry))
    text = caught.value.problem
    assert text.startswith("unmarshal failed for keyVaultObjects at index 1, error: ")
    assert words in text
    assert text.endswith(" of objects)")


def test_the_line_of_a_malformed_entry_is_right() -> None:
    """array: is 1, the first entry 2 to 4, the second begins at 5; its repeated key is line 7."""
    good = "objectName: a\nobjectType: secret"
    with pytest.raises(ClassInvalidError, match=r"\(line 7 of objects\)"):
        parse_objects(listed(good, "objectName: a\nobjectName: b"))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a", "a", "two objects have the file path 'a'"),
        ("a", "a/b", "the file path 'a' of one object is a folder in the path 'a/b'"),
    ],
)
def test_two_objects_cannot_share_a_path(first: str, second: str, words: str) -> None:
    """Upstream keeps the last one in silence."""
    entry = "objectName: x\nobjectType: secret\nobjectAlias: "
    with pytest.raises(ClassInvalidError, match=words):
        parse_objects(listed(entry + first, entry + second))


def test_an_object_overrides_the_warning_of_its_class() -> None:
    """`0` switches it off for one that is expected to end."""
    warned = listed(
        "objectName: a\nobjectType: secret",
        "objectName: b\nobjectType: secret\nexpiryWarning: 7d",
        "objectName: c\nobjectType: secret\nexpiryWarning: 0",
    )
    found = parse_objects(warned, expiry_warning=3600.0)
    assert [3600.0, 604_800.0, 0.0] == [each.expiry_warning for each in found]
    assert 0.0 == one().expiry_warning


def test_a_bad_warning_names_its_entry() -> None:
    """Field, value, place and remedy."""
    assert "expiryWarning is not a duration: soon (entry" in problem(expiryWarning="soon")


def test_one_object_may_have_two_files() -> None:
    """Two aliases of the same object are equal in what they ask for."""
    entry = "objectName: x\nobjectType: secret\nobjectAlias: "
    first, second = parse_objects(listed(entry + "a", entry + "b"))
    assert first.ref == second.ref
    assert (first.path, second.path) == ("a", "b")


def test_unknown_fields_are_ignored() -> None:
    """As upstream does, so that classes for other versions work."""
    assert one(objectColour="blue") == one()
