"""keyferry.providers.azure.content: all files of a volume, or an error."""

from __future__ import annotations

import json

import pytest

from keyferry.content import DEFAULT_MAX_BYTES, FileLimit, FileOwner, ObjectVersion, SecretFile
from keyferry.errors import (
    ClassInvalidError,
    KeyferryError,
    MountLimitError,
    ObjectMissingError,
    ObjectNotFoundError,
)
from keyferry.formats.certs.material import parse_material
from keyferry.providers.azure.content import (
    PEM_TYPE,
    PKCS12_TYPE,
    RenderedVolume,
    materials,
    render_all,
)
from keyferry.providers.azure.objects import parse_objects
from keyferry.providers.azure.params import BundleOptions
from keyferry.providers.azure.responses import (
    KeyVaultSecret,
    LeafCertificate,
    Properties,
    PublicKey,
)
from keyferry.providers.azure.versions import FetchOutcome, ObjectRequest, request_for
from keyferry.providers.expiry import Expiry
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.fakes.keyvault_peer import entry

MADE = issue_certificate("test.domain.com", new_ec_key())
BUNDLE = KeyVaultSecret(
    (MADE.key_pem + MADE.pem).decode(),
    "v1",
    backs_certificate=True,
    properties=Properties(PEM_TYPE),
)
SEPARATE = BundleOptions(separate_files=True)


def delivered(
    *asked: tuple[str, FetchOutcome],
    options: BundleOptions | None = None,
    mode: int = 0o644,
    limit: int = DEFAULT_MAX_BYTES,
) -> RenderedVolume:
    """What becomes of entries and of what came for each."""
    objects = parse_objects(json.dumps({"array": [text for text, _ in asked]}))
    came = [contents for _, contents in asked]
    fetched = {request_for(found): contents for found, contents in zip(objects, came, strict=True)}
    options = options or BundleOptions()
    parsed = {found: parse_material(found) for found in materials(objects, fetched, options)}
    return render_all(
        objects,
        fetched,
        default_mode=mode,
        options=options,
        parse=parsed.__getitem__,
        limit=FileLimit(limit),
    )


def test_one_object_in_many_files_counts_for_each() -> None:
    """They are rendered from one response, so its size does not bound theirs."""
    wanted = [entry("secret", "web", objectAlias=f"file{number}") for number in range(4)]
    assert 4 == len(delivered(*((text, (BUNDLE,)) for text in wanted)).result.files)
    size = len(BUNDLE.value) + len("file0")
    with pytest.raises(MountLimitError, match="its first 3 files"):
        delivered(*((text, (BUNDLE,)) for text in wanted), limit=2 * size)


def test_separate_files_share_mode_id_and_version() -> None:
    """Certificate, key and bundle, in upstream's order."""
    text = entry("secret", "web", objectAlias="tls", filePermission="0600")
    result = delivered((text, (BUNDLE,)), options=SEPARATE).result
    assert (
        SecretFile("tls.crt", 0o600, MADE.pem),
        SecretFile("tls.key", 0o600, MADE.key_pem),
        SecretFile("tls", 0o600, MADE.key_pem + MADE.pem),
    ) == result.files
    assert (ObjectVersion("secret/web", "v1"),) * 3 == result.versions


def test_all_files_of_an_entry_have_its_owner() -> None:
    """Certificate, key and bundle."""
    text = entry("secret", "web", objectAlias="tls", fileOwner="999:998")
    result = delivered((text, (BUNDLE,)), options=SEPARATE).result
    assert [FileOwner(999, 998)] * 3 == [file.owner for file in result.files]


def test_file_of_another_object_does_not_belong_to_a_missing_one() -> None:
    """Otherwise a volume would keep its last content, too."""
    disabled = ObjectMissingError("it is disabled")
    (missing,) = delivered(
        (entry("secret", "web", optional="true"), disabled),
        (entry("secret", "chain", objectAlias="web.crt"), (BUNDLE,)),
    ).result.missing
    assert ["web", "web.key"] == list(filter(missing.has, ("web", "web.crt", "web.key")))


def test_missing_history_names_all_its_versions() -> None:
    """A volume may have had any of them."""
    text = entry("secret", "web", objectVersionHistory=3, optional="true")
    result = delivered((text, ObjectMissingError("it is disabled"))).result
    assert (ObjectVersion("secret/web/0", "missing"),) == result.versions
    (missing,) = result.missing
    assert ("secret/web/1", "secret/web/2") == missing.further_ids
    assert missing.has("web/2.key")


def test_separate_files_of_each_version_in_a_history() -> None:
    """`web/0.crt`, `web/0.key`, `web/0`."""
    text = entry("secret", "web", objectVersionHistory=5)
    result = delivered((text, (BUNDLE, BUNDLE)), options=SEPARATE).result
    paths = [f"web/{number}{end}" for number in (0, 1) for end in (".crt", ".key", "")]
    assert paths == [file.path for file in result.files]
    ids = [f"secret/web/{number}" for number in (0, 0, 0, 1, 1, 1)]
    assert ids == [version.id for version in result.versions]


def test_separate_file_with_the_path_of_another_object_is_an_error() -> None:
    """Known only after the fetch."""
    other = (entry("cert", "web", objectAlias="web.crt"), (LeafCertificate(b"x", "v1"),))
    with pytest.raises(ClassInvalidError, match=r"two files have the path 'web\.crt'"):
        delivered((entry("secret", "web"), (BUNDLE,)), other, options=SEPARATE)


def test_every_failed_object_is_named() -> None:
    """Fetch and rendering errors; the first one in full; nothing is delivered."""
    with pytest.raises(KeyferryError) as caught:
        delivered(
            (entry("secret", "good"), (KeyVaultSecret("x", "v1"),)),
            (entry("secret", "bad", objectEncoding="hex"), (KeyVaultSecret("x", "v1"),)),
            (entry("key", "removed", objectVersion="v7"), ObjectNotFoundError("it is removed")),
        )
    assert caught.value.full_problem == (
        "failed to get objectType:secret, objectName:bad, objectVersion:: "
        "the value is not valid hex, but objectEncoding is hex: it contains characters that are "
        "not hexadecimal digits; also failed: key removed version v7"
    )
    assert "secret bad" == caught.value.log_pairs()["object"]


def test_expiry_is_reported() -> None:
    """Only of the newest version; older versions are expected to expire."""
    ends = [KeyVaultSecret("x", f"v{at}", properties=Properties(expires_at=at)) for at in (20, 10)]
    forever = KeyVaultSecret("x", "v1")
    found = delivered(
        (entry("secret", "a", objectVersionHistory=2, expiryWarning="1h"), tuple(ends)),
        (entry("secret", "b"), (ends[0],)),
        (entry("secret", "c", expiryWarning="1h"), (forever,)),
        (entry("secret", "a", objectAlias="again", expiryWarning="1h"), (ends[0],)),
    )
    assert (
        Expiry("secret a", 20, 3600.0, "secret/a/0"),
        Expiry("secret b", 20, 0.0, "secret/b"),
        Expiry("secret a", 20, 3600.0, "secret/a"),
    ) == found.result.expiries


def test_incomplete_chain_is_reported_once() -> None:
    """Even if several versions have it."""
    stranger = issue_certificate("other", new_ec_key(), is_ca=True)
    text = MADE.pkcs12(stranger.certificate).decode()
    content = KeyVaultSecret(text, "v1", backs_certificate=True, properties=Properties(PKCS12_TYPE))
    asked = entry("secret", "web", objectVersionHistory=2)
    found = delivered((asked, (content, content)))
    assert ["secret web"] == [str(ref) for ref in found.incomplete_chains]
    unordered = delivered((asked, (content, content)), options=BundleOptions(ordered_chain=False))
    assert () == unordered.incomplete_chains


@pytest.mark.parametrize(
    ("contents", "names"),
    [
        ((KeyVaultSecret("s3cret", "v1"),), []),
        ((LeafCertificate(b"der", "v1"),), []),
        (ObjectNotFoundError("no such secret"), []),
        ((PublicKey("EC", "P-256", {"x": b"1", "y": b"1"}, "v1"),), ["secret web"]),
        ((BUNDLE, KeyVaultSecret("s3cret", "v2")), ["secret web"]),
    ],
)
def test_only_certificates_and_keys_are_parsed(contents: FetchOutcome, names: list[str]) -> None:
    """Plain secrets need neither a job nor the library."""
    (other,) = parse_objects(json.dumps({"array": [entry("secret", "other")]}))
    (found,) = parse_objects(
        json.dumps({"array": [entry("secret", "web", objectVersionHistory=2)]})
    )
    fetched: dict[ObjectRequest, FetchOutcome] = {
        request_for(other): (KeyVaultSecret("s3cret", "v1"),),
        request_for(found): contents,
    }
    asked = materials([other, found, found], fetched, BundleOptions())
    assert names == [str(ref) for ref in asked.values()]
