"""The files of a SecretSync: paths, names, parts of certificates, and what its author reads."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyferry.content import MissingObject, NamedFile, SecretFile
from keyferry.errors import KeyferryError, ObjectNamesError, SecretDataError
from keyferry.kubernetes.objects import OwnerReference, SecretKeyMapping, SecretObject
from keyferry.secrets.builder import (
    MAX_SECRET_BYTES,
    ChosenFiles,
    Definition,
    build_secret,
    choose_files,
)
from keyferry.secrets.jobs import data_of
from keyferry.secrets.secret_data import FilePart, KeyedFile, SecretDataRequest, secret_data
from tests.fakes.certificates import IssuedCertificate, issue_certificate, new_ec_key
from tests.fakes.jobs import RecordingJobRunner

TLS = "kubernetes.io/tls"


@pytest.fixture(scope="module")
def web() -> IssuedCertificate:
    return issue_certificate("web.example.com", new_ec_key())


def key_of(issued: IssuedCertificate) -> bytes:
    """The key as in the Secrets of upstream."""
    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def secret(secret_type: str, **keys: str) -> SecretObject:
    """A Secret with these files by key; `_` in a key means a dot."""
    data = tuple(
        SecretKeyMapping(path, key.replace("_", "."))  # tls_crt means tls.crt
        for key, path in keys.items()
    )
    return SecretObject("web", secret_type, data)


def files_of(**contents: bytes) -> list[SecretFile]:
    return [SecretFile(path, 0o644, content) for path, content in contents.items()]


def chosen(
    wanted: SecretObject,
    files: list[SecretFile],
    names: tuple[NamedFile, ...] = (),
    missing: tuple[MissingObject, ...] = (),
) -> ChosenFiles:
    return choose_files(wanted, files, names, missing, definition=Definition.SECRET_SYNC)


def data(
    wanted: SecretObject, files: list[SecretFile], names: tuple[NamedFile, ...] = ()
) -> dict[str, bytes]:
    request = chosen(wanted, files, names).request
    assert request is not None
    return secret_data(request) if request.is_parsed else request.verbatim()


def problem(
    wanted: SecretObject, files: list[SecretFile], names: tuple[NamedFile, ...] = ()
) -> KeyferryError:
    with pytest.raises(KeyferryError) as caught:
        data(wanted, files, names)
    assert "canary" not in str(caught.value)
    return caught.value


# --- parts of a certificate -----------------------------------------------------------------------


@pytest.mark.parametrize("secret_type", ["Opaque", TLS, "example.com/own"])
def test_certificate_and_key_of_one_object(secret_type: str, web: IssuedCertificate) -> None:
    """As in Azure's sync controller, whatever the type."""
    wanted = secret(secret_type, tls_crt="cert/tls.crt", tls_key="cert/tls.key")
    expected = {"tls.crt": web.pem, "tls.key": key_of(web)}
    assert expected == data(wanted, files_of(cert=web.key_pem + web.pem))


def test_parts_have_any_key(web: IssuedCertificate) -> None:
    """Beside the whole object."""
    whole = web.pem + web.key_pem
    wanted = secret("Opaque", server_crt="cert/tls.crt", all="cert")
    assert {"server.crt": web.pem, "all": whole} == data(wanted, files_of(cert=whole))


def test_parts_of_a_pfx_file(web: IssuedCertificate) -> None:
    """Key Vault stores it in base64."""
    wanted = secret("Opaque", crt="cert/tls.crt", key="cert/tls.key")
    found = data(wanted, files_of(cert=base64.b64decode(web.pkcs12())))
    assert web.pem == found["crt"]
    assert key_of(web) == found["key"]


def test_whole_certificate_as_a_tls_secret_is_split(web: IssuedCertificate) -> None:
    """As the driver does it."""
    wanted = secret(TLS, tls_crt="cert", tls_key="cert")
    expected = {"tls.crt": web.pem, "tls.key": key_of(web)}
    assert expected == data(wanted, files_of(cert=web.pem + web.key_pem))


def test_name_may_be_that_of_the_object(web: IssuedCertificate) -> None:
    """The alias is not needed, also in a history."""
    names = (
        NamedFile("SERVER", frozenset({"server"}), "cert server"),
        NamedFile("old/0", frozenset(), "cert old"),
    )
    files = [
        SecretFile("SERVER", 0o644, web.pem + web.key_pem),
        SecretFile("old/0", 0o644, web.pem),
    ]
    wanted = secret("Opaque", a="server/tls.crt", b="SERVER/tls.key", c="old/0/tls.crt")
    assert {"a": web.pem, "b": key_of(web), "c": web.pem} == data(wanted, files, names)


def test_existing_file_has_precedence() -> None:
    """It has the path of a part by its alias, or the provider makes it."""
    files = [SecretFile("cert/tls.crt", 0o644, b"own"), SecretFile("cert", 0o644, b"other")]
    wanted = secret("Opaque", a="cert/tls.crt")
    assert {"a": b"own"} == data(wanted, files)
    names = (NamedFile("X", frozenset({"cert/tls.crt"}), "secret x"),)
    assert {"a": b"x"} == data(wanted, files_of(X=b"x", cert=b"other"), names)


def test_other_suffix_is_no_part() -> None:
    """Nor are the parts those of `secretObjects`, as upstream knows none."""
    files = files_of(cert=b"canary")
    assert "'cert/ca.crt' matches no file" in str(problem(secret("Opaque", a="cert/ca.crt"), files))
    with pytest.raises(ObjectNamesError):
        choose_files(secret("Opaque", a="cert/tls.crt"), files, ())


@pytest.mark.parametrize(
    ("path", "found"), [("cert/tls.crt", "no certificate"), ("cert/tls.key", "no private key")]
)
def test_object_without_the_part_is_named(path: str, found: str, web: IssuedCertificate) -> None:
    """With what it has instead."""
    content = web.key_pem if path.endswith("crt") else web.pem
    error = problem(secret("Opaque", a=path), files_of(cert=content))
    assert isinstance(error, SecretDataError)
    assert "file 'cert'" in error.problem
    assert found in error.problem


async def test_parts_are_parsed_in_another_process(web: IssuedCertificate) -> None:
    """An Opaque Secret without parts needs none."""
    jobs = RecordingJobRunner()
    plain = SecretDataRequest("Opaque", (KeyedFile("a", "a", b"canary"),))
    assert {"a": b"canary"} == await data_of(plain, jobs, tenant="shop")
    assert [] == jobs.runs
    part = KeyedFile("a", "cert", web.pem + web.key_pem, FilePart.CERTIFICATE)
    request = SecretDataRequest("Opaque", (part, KeyedFile("b", "b", b"\xff")))
    assert {"a": web.pem, "b": b"\xff"} == await data_of(request, jobs, tenant="shop")
    assert [("secret-data", "shop")] == jobs.runs
    assert "canary" not in repr(plain)


# --- optional objects -----------------------------------------------------------------------------

OPTIONAL = (
    NamedFile("cert", frozenset(), "cert cert", optional=True),
    NamedFile("a", frozenset(), "secret a"),
)


@pytest.mark.parametrize("keeps", [True, False])
def test_part_of_a_missing_object_is_left_out(keeps: bool) -> None:
    """Its key is kept or removed, as its entry says."""
    missing = (MissingObject("cert/cert", ("cert",), "it is disabled", keeps=keeps),)
    wanted = secret("Opaque", tls_crt="cert/tls.crt", a="a")
    found = chosen(wanted, files_of(a=b"1"), OPTIONAL, missing)
    assert found.request == SecretDataRequest("Opaque", (KeyedFile("a", "a", b"1"),))
    assert found.kept_keys == (frozenset({"tls.crt"}) if keeps else frozenset())


@pytest.mark.parametrize("keeps", [True, False])
def test_tls_secret_of_a_missing_object_is_left_out(keeps: bool) -> None:
    """Its keys belong together."""
    missing = (MissingObject("cert/cert", ("cert",), "it is disabled", keeps=keeps),)
    wanted = secret(TLS, tls_crt="cert/tls.crt", tls_key="cert/tls.key")
    found = chosen(wanted, [], OPTIONAL, missing)
    assert found.request is None
    assert found.kept_keys == (frozenset({"tls.crt", "tls.key"}) if keeps else frozenset())


# --- mistakes, in the words of a SecretSync -------------------------------------------------------


def test_unknown_path_lists_the_candidates() -> None:
    """And the object of each."""
    names = (NamedFile("DB", frozenset({"db-password"}), "secret db-password"),)
    error = problem(secret("Opaque", a="db-pasword"), files_of(DB=b"canary", user=b"1"), names)
    assert isinstance(error, ObjectNamesError)
    assert error.problem == (
        "sourcePath 'db-pasword' matches no file; the SecretProviderClass has"
        " DB (secret db-password), user"
    )
    assert error.remedy == "Did you mean 'db-password'?"


@pytest.mark.parametrize("part", ["tls.crt", "tls.key"])
def test_part_of_an_unknown_name_lists_the_candidates(part: str) -> None:
    """The message has the path as the author wrote it."""
    error = problem(secret("Opaque", a=f"server/{part}"), files_of(cert=b"canary", user=b"1"))
    assert isinstance(error, ObjectNamesError)
    assert error.problem == (
        f"sourcePath 'server/{part}' matches no file; the SecretProviderClass has cert, user"
    )


def test_ambiguous_name_is_that_of_a_source_path() -> None:
    """The path of the file is not ambiguous."""
    names = (
        NamedFile("a", frozenset({"x"}), "secret x"),
        NamedFile("b", frozenset({"x"}), "secret x"),
    )
    error = problem(secret("Opaque", a="x"), files_of(a=b"1", b=b"2"), names)
    assert error.problem == ("sourcePath 'x' is ambiguous: it matches a (secret x), b (secret x)")


def test_file_that_was_not_returned_is_no_matter_of_a_pod() -> None:
    """A SecretSync has none."""
    names = (NamedFile("b", frozenset(), "secret b"),)
    error = problem(secret("Opaque", a="b"), files_of(a=b"1"), names)
    assert error.remedy == "The provider did not return that file: check its object in the vault."


def test_large_secret_is_split_over_secret_syncs() -> None:
    """The limit is that of Kubernetes."""
    owner = OwnerReference("v1", "SecretSync", "web", "uid")
    large = {"a": bytes(MAX_SECRET_BYTES + 1)}
    with pytest.raises(SecretDataError) as caught:
        build_secret(
            "shop", secret("Opaque", a="a"), large, (owner,), definition=Definition.SECRET_SYNC
        )
    assert caught.value.remedy == "Split them over several SecretSyncs."
