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
    named_files,
    objects_text,
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
    return caught.value.full_problem


def test_entry_has_defaults() -> None:
    """Only type and name are required."""
    assert one() == KeyVaultObject(
        ref=ObjectRef(ObjectType.SECRET, "secret1", ""),
        path="secret1",
        mode=None,
        encoding=ObjectEncoding.UTF8,
        format=ObjectFormat.PEM,
        history=1,
    )


def test_alias_is_the_path() -> None:
    """It may have folders; the ID has the name of the object."""
    found = one(objectAlias="certs/SECRET_1")
    assert (found.path, found.ref.id) == ("certs/SECRET_1", "secret/secret1")


def test_texts_are_trimmed() -> None:
    """White space around a field is ignored."""
    found = one(objectName='"  secret1  "', objectVersion='" v1 "', objectEncoding='" hex "')
    assert found.ref == ObjectRef(ObjectType.SECRET, "secret1", "v1")
    assert found.encoding is ObjectEncoding.HEX


@pytest.mark.parametrize("version", ["0123", "12e34", "true", "2024-01-01"])
def test_version_is_text_even_if_it_looks_like_another_yaml_type(version: str) -> None:
    """Scalars are not converted."""
    assert one(objectVersion=version).ref.version == version


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0600", 0o600), ('"0600"', 0o600), ("755", 0o755), ("0755", 0o755), ("0", 0), ("", None)],
)
def test_permission_is_octal_text(text: str, mode: int | None) -> None:
    """Quoted or not, with or without the leading 0; empty means the default of the mount."""
    assert one(filePermission=text).mode == mode


@pytest.mark.parametrize("text", ["900", "0900", "0o644", "-7", "+7", "1755", "rw-r--r--", "8"])
def test_invalid_permission_is_an_error(text: str) -> None:
    """Upstream would write the file with mode 0."""
    assert f"filePermission '{text}' is not an octal mode" in problem(filePermission=text)


@pytest.mark.parametrize("text", ["utf-8", "UTF-8", "base64", "BasE64", "hex", "HEX"])
def test_encodings_are_not_case_sensitive(text: str) -> None:
    """Same as upstream."""
    assert one(objectEncoding=text).encoding.value == text.lower()


def test_unknown_encoding_is_an_error() -> None:
    """Upstream's text."""
    expected = "invalid objectEncoding: utf-16, should be hex, base64 or utf-8"
    assert expected in problem(objectEncoding="utf-16")


def test_encoding_is_only_for_secrets() -> None:
    """This check precedes the check of the value."""
    expected = "objectEncoding only supported for objectType: secret"
    assert expected in problem(objectType="key", objectEncoding="utf-16")


@pytest.mark.parametrize("text", ["pem", "PEM", ""])
def test_pem_is_the_default_format(text: str) -> None:
    """Not case-sensitive."""
    assert one(objectFormat=text).format is ObjectFormat.PEM


def test_unknown_format_is_an_error() -> None:
    """Upstream's text."""
    assert "invalid objectFormat: pkcs, should be PEM or PFX" in problem(objectFormat="pkcs")


def test_pfx_is_only_for_secrets() -> None:
    """Upstream's text."""
    expected = "PFX format only supported for objectType: secret"
    assert expected in problem(objectType="cert", objectFormat="pfx")


@pytest.mark.parametrize(
    ("text", "format_"),
    [("pfx", ObjectFormat.PFX), ("PFX", ObjectFormat.PFX), ("Pkcs12", ObjectFormat.PKCS12)],
)
def test_pkcs12_is_text_or_bytes(text: str, format_: ObjectFormat) -> None:
    """The format pfx is upstream's format; pkcs12 is a Keyferry extension."""
    assert format_ is one(objectFormat=text).format


@pytest.mark.parametrize("type_", ["key", "cert"])
def test_pfx_in_capitals_is_ignored_for_keys_and_certificates(type_: str) -> None:
    """Upstream's comparison is case-sensitive; such SecretProviderClasses must continue to work."""
    assert ObjectFormat.PEM is one(objectType=type_, objectFormat="PFX").format


@pytest.mark.parametrize("type_", ["key", "cert"])
def test_pkcs12_is_only_for_secrets(type_: str) -> None:
    """In any case: no SecretProviderClass for upstream contains it."""
    expected = "PFX format only supported for objectType: secret"
    assert expected in problem(objectType=type_, objectFormat="PKCS12")


def test_pkcs12_with_an_encoding_is_an_error() -> None:
    """The bytes are not encoded."""
    expected = "objectFormat: pkcs12 delivers bytes, which objectEncoding: hex cannot decode"
    assert expected in problem(objectFormat="pkcs12", objectEncoding="hex")


@pytest.mark.parametrize("type_", list(ObjectType))
def test_every_type_is_accepted(type_: ObjectType) -> None:
    """Secrets, keys and certificates."""
    assert ObjectRef(type_, "secret1", "") == one(objectType=type_.value).ref


def test_latest_is_the_current_version() -> None:
    """Upstream accepts the word only with a history."""
    assert "" == one(objectVersion="latest").ref.version


def test_history_is_a_folder_of_versions() -> None:
    """Upstream would write one file more than requested."""
    found = one(objectVersionHistory="3", objectAlias="folder/multiple")
    assert ("folder/multiple/0", "folder/multiple/1", "folder/multiple/2") == found.paths
    assert ("secret/secret1/0", "secret/secret1/1", "secret/secret1/2") == found.ids


def test_index_is_the_last_part_of_the_path() -> None:
    """Upstream's test vector: `folder/multiple-versions/8` is version 8."""
    found = one(objectVersionHistory="9", objectAlias="folder/multiple-versions")
    assert ("folder/multiple-versions/8", "secret/secret1/8") == (found.paths[8], found.ids[8])


def test_single_version_has_no_folder() -> None:
    """Its path is the alias; its ID has the name of the object."""
    found = one(objectAlias="a")
    assert (("a",), ("secret/secret1",)) == (found.paths, found.ids)


def test_history_is_limited() -> None:
    """Some SecretProviderClasses request all versions with a large number."""
    assert 1000 == one(objectVersionHistory="2147483647").history


def test_number_of_files_is_limited() -> None:
    """More is a mistake, and would exhaust the memory of the node."""
    entry = "objectName: x\nobjectType: secret\nobjectVersionHistory: 1000\nobjectAlias: a"
    with pytest.raises(ClassInvalidError, match="a volume has at most 4096"):
        parse_objects(listed(*(f"{entry}{number}" for number in range(11))))


def test_a_history_and_a_file_cannot_share_a_path() -> None:
    """A version of the history and the other object have the same path."""
    entry = "objectName: x\nobjectType: secret\nobjectAlias: "
    with pytest.raises(ClassInvalidError, match="two objects have the file path 'a/1'"):
        parse_objects(listed(entry + "a\nobjectVersionHistory: 2", entry + "a/1"))


@pytest.mark.parametrize("history", ["0", "1", "-5", "0x1", "", "~"])
def test_history_of_at_most_one_is_a_single_version(history: str) -> None:
    """Also negative numbers, as upstream."""
    assert one(objectVersionHistory=history).history == 1


@pytest.mark.parametrize(
    ("written", "history"),
    [("2.0", 2), ("2.9", 2), ("1e1", 10), ("0x10", 16), ("012", 10), ("08", 8), ("!!int '3'", 3)],
)
def test_history_can_be_any_number_of_yaml(written: str, history: int) -> None:
    """Templates write integers as floats; as in upstream, a fraction is dropped."""
    assert one(objectVersionHistory=written).history == history


@pytest.mark.parametrize("item", ["-", "- ~", "- null", "-   # nothing"])
def test_null_items_are_dropped(item: str) -> None:
    """A template whose loop ends with nothing leaves them behind."""
    text = f"array:\n{item}\n- 'objectName: x\n\n  objectType: secret'\n{item}\n"
    assert [found.ref.name for found in parse_objects(text)] == ["x"]


def test_entry_with_folded_lines_is_an_error_with_its_cause() -> None:
    """`>` joins the lines, so the YAML library sees a colon too many."""
    with pytest.raises(ClassInvalidError) as caught:
        parse_objects("array:\n- >\n  objectName: x\n  objectType: secret\n")
    assert "(line 2 of objects)" in caught.value.problem
    assert (
        caught.value.remedy == "Write '- |' instead of '- >': a '>' joins the lines of the entry."
    )


@pytest.mark.parametrize(
    "history", ['"5"', "five", "1.5.0", ".inf", "2147483648.0", "99999999999", "[1]", "''"]
)
def test_invalid_history_names_its_line(history: str) -> None:
    """Also a quoted number; line 5 of `objects` is the third line of the entry."""
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
def test_invalid_entry_is_an_error(fields: dict[str, str], words: str) -> None:
    """Before any request to a vault."""
    assert words in problem(**fields)


def test_invalid_entry_has_upstreams_prefix() -> None:
    """Type, name and version precede the cause."""
    text = problem(objectVersion="v1", filePermission="900")
    assert text.startswith(
        "failed to get objectType:secret, objectName:secret1, objectVersion:v1: "
    )


def test_a_long_or_multi_line_text_is_shortened_in_messages() -> None:
    """Input can neither flood a log nor forge lines in it."""
    text = problem(objectType='"' + "x" * 5000 + '\\nforged: line"')
    assert len(text) < 500
    assert "\n" not in text


@pytest.mark.parametrize("text", ["", "   \n"])
def test_objects_must_be_set(text: str) -> None:
    """Upstream's text."""
    with pytest.raises(ClassInvalidError, match="objects is not set"):
        objects_text({"objects": text})
    with pytest.raises(ClassInvalidError, match="objects is not set"):
        named_files({"objects": text})


@pytest.mark.parametrize("text", ["array:", "array: []", "array: ~", "other: x", "{}"])
def test_no_entry_is_an_error(text: str) -> None:
    """Upstream's driver also fails such a mount, with an unclear message."""
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
        ("array: []\narray: []", "the key 'array' occurs twice in one mapping (line 2 of objects)"),
        ("x" * (10 << 20), "has 10485760 bytes"),
        ("[" * 100_000, "nested deeper"),
    ],
)
def test_malformed_list_is_an_error_with_its_line(text: str, words: str) -> None:
    """Upstream's text, then the mistake and its line."""
    with pytest.raises(ClassInvalidError) as caught:
        parse_objects(text)
    assert caught.value.upstream_prefix == "failed to yaml unmarshal objects, error: "
    assert words in caught.value.problem


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("objectName: [", "not YAML"),
        ("just text", "not a mapping"),
        ("objectName: a\nobjectName: b", "the key 'objectName' occurs twice"),
        ("objectName: {a: b}", "objectName is a list or a mapping"),
    ],
)
def test_malformed_entry_is_an_error_with_index_and_line(entry: str, words: str) -> None:
    """Entries count from 0, as upstream counts; lines are those of `objects`."""
    good = "objectName: a\nobjectType: secret"
    with pytest.raises(ClassInvalidError) as caught:
        parse_objects(listed(good, entry))
    prefix, text = caught.value.upstream_prefix, caught.value.problem
    assert prefix == "unmarshal failed for keyVaultObjects at index 1, error: "
    assert words in text
    assert text.endswith(" of objects)")


def test_line_of_a_malformed_entry_is_counted_in_objects() -> None:
    """array: is line 1, the entries begin on lines 2 and 5, and the duplicate key is on line 7."""
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
    """Upstream delivers only the last one, without a message."""
    entry = "objectName: x\nobjectType: secret\nobjectAlias: "
    with pytest.raises(ClassInvalidError, match=words):
        parse_objects(listed(entry + first, entry + second))


def test_entry_overrides_the_default_expiry_warning() -> None:
    """`0` disables it for an object that is expected to expire."""
    warned = listed(
        "objectName: a\nobjectType: secret",
        "objectName: b\nobjectType: secret\nexpiryWarning: 7d",
        "objectName: c\nobjectType: secret\nexpiryWarning: 0",
    )
    found = parse_objects(warned, expiry_warning=3600.0)
    assert [3600.0, 604_800.0, 0.0] == [each.expiry_warning for each in found]
    assert 0.0 == one().expiry_warning


def test_invalid_expiry_warning_names_its_entry() -> None:
    """Field, value, location and remedy."""
    assert "expiryWarning is not a duration: soon (entry" in problem(expiryWarning="soon")


def test_one_object_may_have_two_files() -> None:
    """Two entries with different aliases have equal references."""
    entry = "objectName: x\nobjectType: secret\nobjectAlias: "
    first, second = parse_objects(listed(entry + "a", entry + "b"))
    assert first.ref == second.ref
    assert (first.path, second.path) == ("a", "b")


def test_unknown_fields_are_ignored() -> None:
    """Same as upstream: SecretProviderClasses for other versions work."""
    assert one(objectColour="blue") == one()
