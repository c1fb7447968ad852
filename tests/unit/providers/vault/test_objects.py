"""keyferry.providers.vault.objects: the YAML list of objects."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.providers.vault.objects import ValueEncoding, VaultObject, named_files, parse_objects
from keyferry.providers.vault.read.content import content_version

KEY = b"a" * 32


def one(text: str) -> VaultObject:
    (vault_object,) = parse_objects(f"- objectName: x\n  secretPath: a/b\n{text}")
    return vault_object


def test_object_defaults() -> None:
    """GET, the driver's mode, utf-8, the whole response."""
    vault_object = one("")
    assert ("GET", None, None, ValueEncoding.UTF8, "") == (
        vault_object.request.method,
        vault_object.request.arguments,
        vault_object.mode,
        vault_object.encoding,
        vault_object.key,
    )


def test_all_fields_are_parsed() -> None:
    """Arguments keep their types. Their order does not matter."""
    vault_object = one(
        "  secretKey: 0123\n  method: put\n  filePermission: 0600\n  encoding: BASE64\n"
        "  secretArgs: {zap: a string, bar: true, baz: 10, no: off}\n  unknown: 1\n"
    )
    assert ("0123", "PUT", 0o600, ValueEncoding.BASE64) == (
        vault_object.key,
        vault_object.request.method,
        vault_object.mode,
        vault_object.encoding,
    )
    assert b'{"bar":true,"baz":10,"no":"off","zap":"a string"}' == vault_object.request.arguments
    assert b"{}" == one("  secretArgs: {}\n").request.arguments
    assert one("  filePermission: 0\n").mode is None


@pytest.mark.parametrize(
    "text",
    [
        "- {objectName: x, secretPath: a}\n-\n",
        "- ~\n- {objectName: x, secretPath: a}\n- null # nothing\n",
        "- {objectName: x, secretPath: a}\n---\n",
        "- {objectName: x, secretPath: a}\n---\n- {objectName: [\n",
        "%YAML 1.2\n---\n- {objectName: x, secretPath: a}\n...\n",
        "- !own {objectName: !!str x, secretPath: !!binary YQ==}\n",
        "- {<<: {objectName: y, secretPath: a}, objectName: x}\n",
    ],
)
def test_yaml_is_read_as_upstream_reads_it(text: str) -> None:
    """Null items, closing markers, further documents, tags and merge keys."""
    (found,) = parse_objects(text)
    assert ("x", "a") == (found.name, str(found.request.path))


def test_merge_keys_share_fields() -> None:
    """The usual shape: each entry merges the first, and overrides some fields."""
    text = """\
- &db {objectName: user, secretPath: secret/data/db, secretKey: user, filePermission: 0600}
- <<: *db
  objectName: password
  secretKey: password
"""
    found = parse_objects(text)
    assert [("user", "user", 0o600), ("password", "password", 0o600)] == [
        (each.name, each.key, each.mode) for each in found
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("objects", "not a YAML list"),
        ("array:\n- a", "without 'array:'"),
        ("- a: [", "not a YAML list"),
        ("[]", "an empty list"),
        ("", "an empty list"),
        ("- text", "not a mapping"),
        ("- secretPath: a", "objectName is missing"),
        (
            "- {objectname: a, secretPath: a}",
            "you wrote objectname .*Rename objectname to objectName",
        ),
        (
            "- {objectName: a, SecretPath: a}",
            "you wrote SecretPath .*Rename SecretPath to secretPath",
        ),
        ("- {objectName: ../x, secretPath: a}", "leads out of the volume"),
        ("- {objectName: /x, secretPath: a}", "is absolute"),
        ("- objectName: x", "secretPath is missing"),
        ("- {objectName: x, secretPath: ../../sys}", "leaves the API"),
        ("- {objectName: x, secretPath: 'a?b=%zz'}", "invalid percent escape"),
        ("- {objectName: x, secretPath: [a]}", "secretPath is a list or a mapping"),
        ("- {objectName: x, secretPath: a, filePermission: '0644'}", "not a mode"),
        ("- {objectName: x, secretPath: a, filePermission: 644}", "not a mode"),
        ("- {objectName: x, secretPath: a, encoding: rot13}", "encoding 'rot13' is unknown"),
        ("- {objectName: x, secretPath: a, method: 'A B'}", "not a valid HTTP method"),
        ("- {objectName: x, secretPath: a, secretArgs: [a]}", "secretArgs is not a mapping"),
        ("- {objectName: x, secretPath: a, secretArgs: {a: 1, a: 2}}", "twice"),
        ("- &a {objectName: x, secretPath: a}\n- *a\n- *a", "not unique: x."),
        ("- {objectName: x, secretPath: a}\n- {objectName: x/y, secretPath: a}", "is a directory"),
    ],
)
def test_invalid_object_is_an_error_with_its_location(text: str, words: str) -> None:
    """It is raised before any request."""
    with pytest.raises(ClassInvalidError, match=words):
        parse_objects(text)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("secret/foo", "/v1/secret/foo"),
        ("/secret/foo", "/v1/secret/foo"),
        ("v1/secret/foo", "/v1/secret/foo"),
        ("/v1/secret/foo", "/v1/secret/foo"),
        ("1/secret/foo", "/v1/1/secret/foo"),
        ("/v1/v1/x", "/v1/v1/x"),
        ("/v2/secret/foo", "/v1/v2/secret/foo"),
        ("a//b/./c/../d/", "/v1/a/b/d"),
        ("kv/data/x?version=3", "/v1/kv/data/x?version=3"),
        ("x?b=2&a=1&a=%20", "/v1/x?a=1&a=+&b=2"),
        ("x?", "/v1/x"),
        ("a b/ü", "/v1/a%20b/%C3%BC"),
    ],
)
def test_spellings_of_a_path_are_normalized(written: str, sent: str) -> None:
    """With or without v1; the path is cleaned and the query sorted."""
    (vault_object,) = parse_objects(f"- objectName: x\n  secretPath: '{written}'")
    assert sent == vault_object.request.path.encoded


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "- {objectName: object-one, secretPath: path/one, secretKey: the-key}",
            "0uxNScp43Aguz265wy8cT0ZY51xzck4wZX4bovLmYTI=",
        ),
        (
            (
                "- objectName: certs\n  secretPath: pki/issue/example-dot-com\n  method: PUT\n"
                "  secretArgs: {ttl: 24h, common_name: test.example.com}\n"
                "  filePermission: 0624\n  encoding: base64"
            ),
            "6iq36MCqcxxTbKuDRQACvyD00KfyTHq2ONDOHDmnq8s=",
        ),
    ],
)
def test_versions_equal_those_of_upstream(text: str, version: str) -> None:
    """Byte for byte, with the same key."""
    (vault_object,) = parse_objects(text)
    assert version == content_version(KEY, vault_object, b"bar")


def test_path_is_the_only_name_of_a_file() -> None:
    """Objects of Vault have no other name."""
    (first, second) = named_files(
        {"objects": "- {objectName: a/b, secretPath: x}\n- {objectName: c, secretPath: x}"}
    )
    assert ("a/b", "c", frozenset()) == (first.path, second.path, first.aliases)
