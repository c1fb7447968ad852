"""One Kubernetes Secret from the files of a volume."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from keyferry.content import MissingObject, NamedFile, SecretFile
from keyferry.errors import KeyferryError, ObjectNamesError, SecretDataError
from keyferry.kubernetes.objects import (
    DesiredSecret,
    OwnerReference,
    SecretKeyMapping,
    SecretObject,
)
from keyferry.records import replace
from keyferry.secrets.builder import (
    MAX_SECRET_BYTES,
    build_secret,
    check_single_entry,
    choose_files,
)
from keyferry.secrets.secret_data import secret_data
from tests.fakes.certificates import issue_certificate, new_ec_key

OPAQUE = SecretObject(
    name="db",
    type="Opaque",
    data=(SecretKeyMapping("SECRET_1", "password"),),
    labels={"environment": "test"},
    annotations={"note": "yes"},
)
OWNER = OwnerReference("v1", "Pod", "web", "uid")


def of_type(secret_type: str, *keys: str) -> SecretObject:
    """A Secret whose keys all come from files of the same name."""
    return SecretObject("db", secret_type, tuple(SecretKeyMapping(key, key) for key in keys))


def build(secret_object: SecretObject, **files: bytes) -> DesiredSecret:
    return built(secret_object, files)


def built(secret_object: SecretObject, files: dict[str, bytes]) -> DesiredSecret:
    volume = [SecretFile(path, 0o644, contents) for path, contents in files.items()]
    return whole(secret_object, volume)


def whole(
    secret_object: SecretObject, files: list[SecretFile], names: tuple[NamedFile, ...] = ()
) -> DesiredSecret:
    """All steps of the reconciler, without a job."""
    chosen = choose_files(secret_object, files, names)
    assert chosen.request is not None
    data = secret_data(chosen.request)
    return build_secret("shop", secret_object, data, (OWNER,))


def problem(secret_object: SecretObject, files: dict[str, bytes]) -> KeyferryError:
    with pytest.raises(KeyferryError) as caught:
        built(secret_object, files)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


class TestAnyType:
    def test_holds_the_bytes_of_the_files(self) -> None:
        """Bytes stay as they are, newline and all; labels, annotations and owners go along."""
        files = [SecretFile("SECRET_1", 0o644, b"canary\xff\n")]

        assert DesiredSecret(
            namespace="shop",
            name="db",
            type="Opaque",
            data={"password": b"canary\xff\n"},
            labels={"environment": "test"},
            annotations={"note": "yes"},
            owners=(OWNER,),
        ) == whole(OPAQUE, files)

    def test_finds_files_by_the_name_of_their_object(self) -> None:
        """The names that the provider knows count."""
        files = [SecretFile("alias", 0o644, b"x")]
        names = (NamedFile("alias", frozenset({"SECRET_1"}), "secret SECRET_1"),)

        assert {"password": b"x"} == whole(OPAQUE, files, names).data

    def test_is_refused_when_two_objects_have_one_key(self) -> None:
        """One of them would be lost; the message names both."""
        twice = replace(OPAQUE, data=(SecretKeyMapping("a", "k"), SecretKeyMapping("b", "k")))

        error = problem(twice, {"a": b"1", "b": b"2"})

        assert (
            f"data[0] (objectName 'a') and data[1] (objectName 'b') of secret {OPAQUE.name!r} have "
            "the same key 'k'"
        ) == error.problem

    def test_may_list_one_key_of_one_object_twice(self) -> None:
        """Nothing is lost."""
        twice = replace(OPAQUE, data=(SecretKeyMapping("a", "k"), SecretKeyMapping("a", "k")))

        assert {"k": b"1"} == build(twice, a=b"1").data

    def test_says_which_file_is_missing(self) -> None:
        """An unknown objectName is an error of the names."""
        assert isinstance(problem(OPAQUE, {}), ObjectNamesError)

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            (replace(OPAQUE, name=""), "an entry of spec.secretObjects has no secretName"),
            (replace(OPAQUE, name="My_Secret"), "secretName 'My_Secret' must consist of"),
            (replace(OPAQUE, type=""), "secret 'db' has no type"),
            (replace(OPAQUE, data=()), "secret 'db' has no data"),
            (
                replace(OPAQUE, data=(SecretKeyMapping("SECRET_1", ""),)),
                "data[0] of secret 'db' has no key",
            ),
            (
                replace(OPAQUE, data=(SecretKeyMapping("SECRET_1", "a/b"),)),
                "key 'a/b' of secret 'db'",
            ),
            (
                replace(OPAQUE, data=(SecretKeyMapping("SECRET_1", "..a"),)),
                "key '..a' of secret 'db'",
            ),
            (replace(OPAQUE, data=(SecretKeyMapping("", "a"),)), "objectName is empty"),
        ],
    )
    def test_is_refused_when_a_field_is_missing(self, entry: SecretObject, expected: str) -> None:
        """What the API server would refuse is said with the name of the field."""
        assert problem(entry, {"SECRET_1": b"canary"}).problem.startswith(expected)

    def test_is_refused_when_it_is_too_large(self) -> None:
        """1 MiB is the limit of Kubernetes, over all values."""
        pair = of_type("Opaque", "a", "b")

        assert build(pair, a=b"x" * (MAX_SECRET_BYTES - 1), b=b"y").data["b"] == b"y"
        error = problem(pair, {"a": b"x" * MAX_SECRET_BYTES, "b": b"y"})
        assert "secret 'db' have 1048577 bytes in total; the limit of Kubernetes is 1048576" in (
            error.problem
        )

    def test_of_a_service_account_token_is_refused(self) -> None:
        """Kubernetes would add a token that does not expire."""
        entry = of_type("kubernetes.io/service-account-token", "a")
        assert "Kubernetes would add a token" in problem(entry, {"a": b"canary"}).problem

    def test_of_an_unknown_type_passes(self) -> None:
        """A type that Kubernetes does not check is the author's own."""
        assert {"a": b"x"} == build(of_type("example.com/mine", "a"), a=b"x").data


class TestBasicAuth:
    @pytest.mark.parametrize("keys", [("username",), ("password",), ("username", "password", "x")])
    def test_has_a_user_or_a_password(self, keys: tuple[str, ...]) -> None:
        """One of the two is enough, and other keys may come along."""
        files = dict.fromkeys(keys, b"v")

        assert files == built(of_type("kubernetes.io/basic-auth", *keys), files).data

    def test_is_refused_without_either(self) -> None:
        """The API server asks for one of them."""
        error = problem(of_type("kubernetes.io/basic-auth", "user"), {"user": b"canary"})

        assert "requires username or password, not user" in error.problem


class TestSshAuth:
    def test_has_a_private_key(self) -> None:
        """The key is taken as it is."""
        files = {"ssh-privatekey": b"-----BEGIN OPENSSH PRIVATE KEY-----", "known_hosts": b""}

        assert files == built(of_type("kubernetes.io/ssh-auth", *files), files).data

    def test_is_refused_without_one(self) -> None:
        """The key of the Secret must be there, and must not be empty."""
        missing = problem(of_type("kubernetes.io/ssh-auth", "id_rsa"), {"id_rsa": b"canary"})
        empty = problem(
            of_type("kubernetes.io/ssh-auth", "ssh-privatekey"), {"ssh-privatekey": b""}
        )

        assert "requires the key ssh-privatekey, not id_rsa" in missing.problem
        assert "file 'ssh-privatekey' is empty" in empty.problem


class TestDockerConfig:
    JSON = "kubernetes.io/dockerconfigjson"
    OLD = "kubernetes.io/dockercfg"

    @pytest.mark.parametrize(
        ("secret_type", "key", "content"),
        [
            (JSON, ".dockerconfigjson", {"auths": {"r.io": {"auth": "x"}}, "credHelpers": {}}),
            (JSON, ".dockerconfigjson", {"auths": {}}),
            (OLD, ".dockercfg", {"r.io": {"auth": "x"}}),
        ],
    )
    def test_is_json_of_its_form(self, secret_type: str, key: str, content: object) -> None:
        """The bytes are kept as they are."""
        files = {key: json.dumps(content, indent=3).encode()}

        assert files == built(of_type(secret_type, key), files).data

    @pytest.mark.parametrize(
        ("secret_type", "key"), [(JSON, ".dockerconfigjson"), (OLD, ".dockercfg")]
    )
    def test_is_refused_without_its_key(self, secret_type: str, key: str) -> None:
        """The kubelet looks for exactly that key."""
        error = problem(of_type(secret_type, "config.json"), {"config.json": b"{}"})

        assert f"type {secret_type} requires the key {key}, not config.json" == error.problem

    @pytest.mark.parametrize(
        ("secret_type", "key", "content"),
        [
            (JSON, ".dockerconfigjson", b"canary"),
            (JSON, ".dockerconfigjson", b'{"r.io": {"auth": "canary"}}'),
            (JSON, ".dockerconfigjson", b'{"auths": "canary"}'),
            (JSON, ".dockerconfigjson", b'{"auths": {"a": canary}}'),
            (JSON, ".dockerconfigjson", b"\xff\xfe"),
            (OLD, ".dockercfg", b'["canary"]'),
        ],
    )
    def test_is_refused_in_another_form(self, secret_type: str, key: str, content: bytes) -> None:
        """A pull would fail much later, without a hint at the cause; the value is not repeated."""
        error = problem(of_type(secret_type, key), {key: content})

        assert isinstance(error, SecretDataError)
        assert f"file {key!r} is not the JSON" in error.problem


@pytest.mark.parametrize(
    ("content", "said", "remedy"),
    [
        (b"", "it is empty", "Store the JSON"),
        (b"eyJhdXRocyI6IHsiciI6IHsiYXV0aCI6ICJ4In19fQ==", "base64 text of that", "base64"),
        (b"eyJhdXRocyI6IHsi\nciI6IHsiYXV0aCI6ICJ4In19fQ==\n", "base64 text of that", "encoding"),
        (b'\xef\xbb\xbf{"auths": {}}', "byte order mark", "UTF-8 without"),
        ('{"auths": {}}'.encode("utf-16"), "UTF-16", "UTF-8"),
        (b'"{\\"auths\\": {}}"', "a JSON string", "without quotes"),
        (b'{"r.io": {"auth": "canary"}}', "the format of ~/.dockercfg", "kubernetes.io/dockercfg"),
        (b'{"Auths": {}}', "JSON without the key auths", "config.json"),
        (b"[]", "JSON, but not an object", "whole file"),
        (b"canary:canary", "not JSON", "whole file"),
    ],
)
def test_docker_config_in_another_form_is_recognized(
    content: bytes, said: str, remedy: str
) -> None:
    """The message says what the value is instead, and what to do."""
    key = ".dockerconfigjson"

    error = problem(of_type("kubernetes.io/dockerconfigjson", key), {key: content})

    assert error.problem.startswith(f"file {key!r} is not the JSON of ~/.docker/config.json")
    assert said in error.problem
    assert remedy in error.remedy


def certificate_with_key() -> bytes:
    """A self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web")])
    start = datetime(2030, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ) + certificate.public_bytes(Encoding.PEM)


class TestTls:
    TLS = SecretObject(
        "web",
        "kubernetes.io/tls",
        (SecretKeyMapping("web", "tls.crt"), SecretKeyMapping("web", "tls.key")),
    )

    def test_is_split_from_one_object(self) -> None:
        """One object with certificate and key fills both keys."""
        data = build(self.TLS, web=certificate_with_key()).data

        assert {"tls.crt", "tls.key"} == set(data)
        assert data["tls.crt"].startswith(b"-----BEGIN CERTIFICATE-----\n")
        assert data["tls.key"].startswith(b"-----BEGIN EC PRIVATE KEY-----\n")

    @pytest.mark.parametrize("keys", [("tls.crt",), ("tls.key",), ("ca.crt", "tls.key")])
    def test_has_both_keys(self, keys: tuple[str, ...]) -> None:
        """The API server asks for both."""
        error = problem(of_type("kubernetes.io/tls", *keys), dict.fromkeys(keys, b"canary"))

        assert "requires the keys tls.crt and tls.key, not " + ", ".join(sorted(keys)) in (
            error.problem
        )

    def test_is_refused_when_key_and_certificate_differ(self) -> None:
        """Two objects that do not belong together make no server start."""
        entry = of_type("kubernetes.io/tls", "tls.crt", "tls.key")

        error = problem(
            entry, {"tls.crt": certificate_with_key(), "tls.key": certificate_with_key()}
        )

        assert "does not belong to any of the certificates" in error.problem

    def test_begins_with_the_certificate_of_the_key(self) -> None:
        """Vaults may hold the root first; no server takes such a file."""
        root = issue_certificate("root", new_ec_key(), is_ca=True)
        leaf = issue_certificate("leaf", new_ec_key(), root)
        data = build(self.TLS, web=root.pem + leaf.pem + leaf.key_pem).data
        assert leaf.pem + root.pem == data["tls.crt"]

    def test_names_the_file_that_is_wrong(self) -> None:
        """The message names the file in the volume."""
        assert (
            "file 'web' holds neither PEM nor PKCS#12"
            in problem(self.TLS, {"web": b"canary"}).problem
        )


def test_tls_secret_may_have_further_keys() -> None:
    """As in Kubernetes. `ca.crt` never contains the private key of its object."""
    root = issue_certificate("root", new_ec_key(), is_ca=True)
    leaf = issue_certificate("leaf", new_ec_key(), root)
    keys = ("tls.crt", "tls.key", "ca.crt", "dhparam.pem")
    whole = leaf.key_pem + leaf.pem
    files = dict.fromkeys(("tls.crt", "tls.key"), whole)
    files |= {"ca.crt": root.key_pem + root.pem, "dhparam.pem": b"any"}

    data = built(of_type("kubernetes.io/tls", *keys), files).data

    assert {"tls.crt", "tls.key", "ca.crt", "dhparam.pem"} == set(data)
    assert leaf.pem == data["tls.crt"]
    assert root.pem == data["ca.crt"]
    assert b"any" == data["dhparam.pem"]


LACKS_B = MissingObject("secret/b", ("b",), "it is disabled", keeps=False)


@pytest.mark.parametrize(
    ("secret_type", "missing_objects", "kept"),
    [
        ("Opaque", (LACKS_B,), set()),
        ("kubernetes.io/basic-auth", (LACKS_B,), set()),
        ("Opaque", (replace(LACKS_B, keeps=True),), {"b"}),
        ("kubernetes.io/basic-auth", (replace(LACKS_B, keeps=True),), {"a", "b"}),
        # The SecretProviderClass was edited, and the volume was not refreshed since then.
        ("Opaque", (), {"b"}),
        ("kubernetes.io/basic-auth", (), {"a", "b"}),
    ],
)
def test_only_an_object_that_the_vault_lacks_is_removed_from_a_secret(
    secret_type: str, missing_objects: tuple[MissingObject, ...], kept: set[str]
) -> None:
    """With `onMissing: remove`."""
    names = [NamedFile(path, frozenset(), path, optional=path == "b") for path in ("a", "b")]
    files = [SecretFile("a", 0o644, b"1")]
    chosen = choose_files(of_type(secret_type, "a", "b"), files, names, missing_objects)
    assert kept == chosen.kept_keys
    assert (secret_type == "Opaque") == (chosen.request is not None)


def test_two_entries_for_one_secret_are_an_error_that_names_both() -> None:
    """Only one of them could be written."""
    other = SecretObject("other", "Opaque", (SecretKeyMapping("a", "k"),))
    second = replace(OPAQUE, data=(SecretKeyMapping("b", "other"),))

    with pytest.raises(SecretDataError) as caught:
        check_single_entry((OPAQUE, other, second), OPAQUE.name)

    assert (
        f"spec.secretObjects[0] and spec.secretObjects[2] define the same secret {OPAQUE.name!r}"
    ) == caught.value.problem


def test_equal_entries_for_one_secret_are_one() -> None:
    """Nothing is lost."""
    check_single_entry((OPAQUE, replace(OPAQUE)), OPAQUE.name)


ALL_FILES = replace(OPAQUE, data=(SecretKeyMapping("*", "*"),))


def test_all_files_of_the_volume() -> None:
    """A key cannot contain the '/' of a path."""
    files = {"db/password": b"1", "api": b"2"}
    assert built(ALL_FILES, files).data == {"db.password": b"1", "api": b"2"}


@pytest.mark.parametrize(
    ("data", "files", "problem"),
    [
        ([("*", "*")], {"a b": b""}, "the file 'a b' cannot be a key of secret 'db'"),
        ([("*", "a")], {"a": b""}, "'*' as only one of objectName and key"),
        ([("a", "*")], {"a": b""}, "'*' as only one of objectName and key"),
        (
            [("*", "*")],
            {"a/b": b"", "a.b": b""},
            "the file 'a.b' and the file 'a/b' of secret 'db' have the same key 'a.b'",
        ),
    ],
)
def test_mistakes_with_all_files(
    data: list[tuple[str, str]], files: dict[str, bytes], problem: str
) -> None:
    """The message names the file."""
    mappings = tuple(SecretKeyMapping(*each) for each in data)
    with pytest.raises(SecretDataError) as caught:
        built(replace(OPAQUE, data=mappings), files)
    assert problem in caught.value.problem
