"""Certificates and typed Secrets of public reports, and their siblings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.fakes.certificates import (
    IssuedCertificate,
    issue_certificate,
    new_ec_key,
    new_rsa_key,
)
from tests.integration.cases.world import (
    HERE,
    VAULT_MANIFEST,
    World,
    bundle,
    manifest,
    tls_secret,
)

PFX_TYPE = "application/x-pkcs12"
PEM_TYPE = "application/x-pem-file"
LAYOUTS = sorted(
    path.name.removesuffix(".pfx.b64") for path in (HERE / "pfx-layouts").glob("*.b64")
)


def names_of(pem: bytes) -> list[str]:
    """Return the common names of the certificates in PEM, in their order."""
    return [
        str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        for certificate in x509.load_pem_x509_certificates(pem)
    ]


def fits(secret: dict[str, bytes]) -> bool:
    """Whether the key of a TLS Secret is that of its first certificate, as servers require."""
    first = x509.load_pem_x509_certificates(secret["tls.crt"])[0]
    key = load_pem_private_key(secret["tls.key"], None)
    return bool(first.public_key() == key.public_key())


class Chain:
    """Two roots, an intermediate that both signed, and two leaves."""

    def __init__(self) -> None:
        self.root = issue_certificate("root", new_ec_key(), is_ca=True)
        self.old_root = issue_certificate("old root", new_ec_key(), is_ca=True)
        key = new_ec_key()
        self.inner = issue_certificate("inner", key, self.root, is_ca=True)
        self.cross = issue_certificate("inner", key, self.old_root, is_ca=True)
        self.leaf = issue_certificate("leaf", new_ec_key(), self.inner)
        self.other = issue_certificate("other", new_ec_key(), self.inner)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


def pem(*certificates: IssuedCertificate) -> bytes:
    return b"".join(each.pem for each in certificates)


ORDERS: dict[str, tuple[Callable[[Chain], Sequence[IssuedCertificate]], list[str]]] = {
    "leaf first": (lambda c: (c.leaf, c.inner, c.root), ["leaf", "inner", "root"]),
    "root first": (lambda c: (c.root, c.inner, c.leaf), ["leaf", "inner", "root"]),
    "intermediate first": (lambda c: (c.inner, c.leaf), ["leaf", "inner"]),
    "leaf in the middle": (lambda c: (c.root, c.leaf, c.inner), ["leaf", "inner", "root"]),
    "no intermediate": (lambda c: (c.root, c.leaf), ["leaf", "root"]),
    "only the leaf": (lambda c: (c.leaf,), ["leaf"]),
    "duplicates": (lambda c: (c.root, c.leaf, c.root, c.leaf), ["leaf", "root"]),
    "two leaves": (lambda c: (c.other, c.inner, c.leaf), ["leaf", "inner", "other"]),
    "cross-signed": (
        lambda c: (c.old_root, c.cross, c.inner, c.leaf),
        ["leaf", "inner", "old root", "inner"],
    ),
    "another chain": (lambda c: (c.old_root, c.root, c.leaf), ["leaf", "old root", "root"]),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("provider", ["azure", "vault"])
@pytest.mark.parametrize("objects", ["one", "two"])
async def test_tls_secret_begins_with_the_certificate_of_its_key(
    world: World, chain: Chain, order: str, provider: str, objects: str
) -> None:
    """Whatever the order, the provider, and the number of objects; issuers follow in order."""
    choose, expected = ORDERS[order]
    certificates, key = pem(*choose(chain)), chain.leaf.key_pem
    parts = {"web": key + certificates} if objects == "one" else {"web": certificates, "key": key}
    key_object = "web" if objects == "one" else "key"
    text = vault_or_azure(world, provider, parts, tls_secret("web", key_object))

    outcome = await world.mount(text)

    assert ("", ()) == (outcome.error, outcome.problems)
    secret = dict(outcome.secrets["tls"])
    assert fits(secret)
    assert expected[:2] == names_of(secret["tls.crt"])[:2]
    assert sorted(expected) == sorted(names_of(secret["tls.crt"]))


def vault_or_azure(world: World, provider: str, parts: dict[str, bytes], secret: str) -> str:
    """Store `parts`, and return a SecretProviderClass with them and the Secret `secret`."""
    if provider == "azure":
        for name, value in parts.items():
            world.azure.set_secret("contoso", name, value.decode())
        return manifest(*parts, secrets=f"[{secret}]")
    world.vault.write("secret", "tls", {name: value.decode() for name, value in parts.items()})
    entries = "".join(
        f"      - {{objectName: {name}, secretPath: secret/data/tls, secretKey: {name}}}\n"
        for name in parts
    )
    return VAULT_MANIFEST + entries + f"  secretObjects: [{secret}]\n"


async def test_chain_of_a_report_is_put_in_order(world: World) -> None:
    """`pem-root-first`: key, root, intermediate, leaf."""
    root = issue_certificate("Test Root", new_rsa_key(), is_ca=True)
    inner = issue_certificate("Test Intermediate", new_rsa_key(), root, is_ca=True)
    leaf = issue_certificate("web.example.com", new_rsa_key(), inner)
    value = leaf.key_pem + pem(root, inner, leaf)
    world.azure.set_secret("contoso", "chainroot", value.decode(), content_type=PEM_TYPE)

    outcome = await world.mount_case("pem-root-first")

    assert ("", ()) == (outcome.error, outcome.problems)
    assert fits(dict(outcome.secrets["web"]))
    assert ["web.example.com", "Test Intermediate", "Test Root"] == names_of(
        outcome.secrets["web"]["tls.crt"]
    )
    assert value == outcome.files["chainroot"]


async def test_key_of_another_certificate_is_an_error(world: World, chain: Chain) -> None:
    """Servers would not start with it."""
    parts = {"web": pem(chain.other, chain.inner), "key": chain.leaf.key_pem}

    outcome = await world.mount(vault_or_azure(world, "azure", parts, tls_secret("web", "key")))

    (problem,) = outcome.problems
    assert "the private key does not belong to any of the certificates" in problem
    assert {} == outcome.secrets


async def test_further_keys_of_a_tls_secret_are_written(world: World, chain: Chain) -> None:
    """`ca-in-tls-secret`: as Kubernetes permits; `ca.crt` has no private key."""
    parts = {"web": chain.leaf.key_pem + chain.leaf.pem, "ca": chain.root.key_pem + chain.root.pem}
    extra = ", {objectName: ca, key: ca.crt}"

    outcome = await world.mount(
        vault_or_azure(world, "azure", parts, tls_secret("web", extra=extra))
    )

    assert ("", ()) == (outcome.error, outcome.problems)
    assert {"ca.crt", "tls.crt", "tls.key"} == outcome.secrets["tls"].keys()
    assert chain.root.pem == outcome.secrets["tls"]["ca.crt"]


@pytest.mark.parametrize("name", LAYOUTS)
async def test_pfx_of_any_cipher_becomes_a_tls_secret(world: World, name: str) -> None:
    """`pfx-layouts`: RC2, triple DES, AES, unencrypted certificates, no MAC."""
    value = base64.b64encode(bundle("pfx-layouts", name)).decode()
    world.azure.set_secret("contoso", "web", value, content_type=PFX_TYPE)

    outcome = await world.mount(manifest("web", secrets=f"[{tls_secret('web')}]"))

    assert ("", ()) == (outcome.error, outcome.problems)
    assert fits(dict(outcome.secrets["tls"]))
    assert value.encode() == outcome.files["web"]


async def test_pfx_in_a_plain_secret_is_delivered_as_bytes(world: World) -> None:
    """`pfx-as-plain-secret`: `objectFormat: pkcs12` decodes it, as for a certificate."""
    contents = bundle("pfx-as-plain-secret")
    value = base64.b64encode(contents).decode()
    world.azure.set_secret("contoso", "q02-unmanaged-pfx", value, content_type=PFX_TYPE)

    outcome = await world.mount_case("pfx-as-plain-secret")

    assert "" == outcome.error
    assert contents == outcome.files["q02-unmanaged-pfx"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("p@ssw0rd", "the value is not PKCS#12"),
        (base64.b64encode(b"p@ssw0rd").decode(), "the value is not PKCS#12"),
        ("-----BEGIN CERTIFICATE-----", "the value is not PKCS#12"),
        ("", "the value is not PKCS#12"),
    ],
)
async def test_plain_secret_without_pkcs12_is_an_error(
    world: World, value: str, words: str
) -> None:
    """Rather than a file that no program opens."""
    world.azure.set_secret("contoso", "plain", value)

    outcome = await world.mount(manifest("plain", objectFormat="pkcs12"))

    assert words in outcome.error
    assert "objectFormat" in outcome.error
    assert "p@ss" not in outcome.error


async def test_certificate_without_its_key_is_a_file_and_no_secret(world: World) -> None:
    """`certificate-without-key`: the error says how the vault gives the key."""
    value = base64.b64encode(bundle("certificate-without-key"))
    world.azure.set_secret("contoso", "web", value.decode(), content_type=PFX_TYPE)

    outcome = await world.mount(manifest("web", secrets=f"[{tls_secret('web')}]"))

    (problem,) = outcome.problems
    assert "file 'web' holds no private key" in problem
    assert "whose key is exportable" in problem
    assert {"web": value} == outcome.files


# --- values in another form than the Secret requires ----------------------------------------------

LEAF = issue_certificate("leaf", new_ec_key())
WHOLE = (LEAF.key_pem + LEAF.pem).decode()

WRONG_FORMS = {
    "blanks": (WHOLE.replace("\n", " "), "holds PEM whose line breaks are lost", "from a file"),
    "nothing": (WHOLE.replace("\n", ""), "holds PEM whose line breaks are lost", "from a file"),
    "backslashes": (
        WHOLE.replace("\n", "\\n"),
        "holds PEM with the characters \\n instead of line breaks",
        "from a file",
    ),
    "json": (
        json.dumps({"tls.crt": LEAF.pem.decode(), "tls.key": LEAF.key_pem.decode()}),
        "is JSON with the keys tls.crt, tls.key",
        "in one object or in two",
    ),
    "base64": (
        base64.b64encode(WHOLE.encode()).decode(),
        "is the base64 text of PEM",
        "objectEncoding: base64",
    ),
    "empty": ("", "is empty", "Store the certificate"),
    "password": ("p@ssw0rd", "holds neither PEM nor PKCS#12", "PKCS#12 with an empty password"),
}


@pytest.mark.parametrize("form", WRONG_FORMS)
async def test_event_says_what_the_value_is(world: World, form: str) -> None:
    """`lost-line-ends` and `json-for-tls`, and others that people meet."""
    value, words, remedy = WRONG_FORMS[form]
    world.azure.set_secret("contoso", "web", value)

    outcome = await world.mount(manifest("web", secrets=f"[{tls_secret('web')}]"))

    (problem,) = outcome.problems
    assert f"file 'web' {words}" in problem
    assert remedy in problem
    assert {} == outcome.secrets
    assert {"web": value.encode()} == outcome.files


CONFIG = json.dumps({"auths": {"registry.example.com": {"auth": "canary"}}})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (base64.b64encode(CONFIG.encode()).decode(), "it is the base64 text of that. Set"),
        (base64.encodebytes(CONFIG.encode()).decode(), "objectEncoding: base64"),
        (json.dumps(CONFIG), "it is a JSON string"),
        (json.dumps(json.loads(CONFIG)["auths"]), "it has the format of ~/.dockercfg"),
        ("user:canary", "it is not JSON"),
    ],
)
async def test_docker_config_in_another_form_is_named(world: World, value: str, words: str) -> None:
    """`docker-config-in-base64`: the vault has what kubectl printed."""
    world.azure.set_secret("contoso", "docker", value)
    secret = (
        "{secretName: d, type: kubernetes.io/dockerconfigjson, "
        "data: [{objectName: docker, key: .dockerconfigjson}]}"
    )

    outcome = await world.mount(manifest("docker", secrets=f"[{secret}]"))

    (problem,) = outcome.problems
    assert "file 'docker' is not the JSON of ~/.docker/config.json" in problem
    assert words in problem
    assert "canary" not in problem
    assert {} == outcome.secrets


async def test_docker_config_in_base64_is_decoded_with_object_encoding(world: World) -> None:
    """The remedy works."""
    world.azure.set_secret("contoso", "docker", base64.b64encode(CONFIG.encode()).decode())
    secret = (
        "{secretName: d, type: kubernetes.io/dockerconfigjson, "
        "data: [{objectName: docker, key: .dockerconfigjson}]}"
    )

    outcome = await world.mount(manifest("docker", secrets=f"[{secret}]", objectEncoding="base64"))

    assert ("", ()) == (outcome.error, outcome.problems)
    assert {".dockerconfigjson": CONFIG.encode()} == outcome.secrets["d"]
