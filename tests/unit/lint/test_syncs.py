"""`keyferry.lint`: what is found in SecretSyncs, and where."""

from __future__ import annotations

import re

import pytest

from keyferry.lint.linter import lint

CLASS = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: web, namespace: shop}
spec:
  provider: azure
  parameters:
    keyvaultName: contoso
    tenantID: 11111111-1111-1111-1111-111111111111
    clientID: 22222222-2222-2222-2222-222222222222
    objects: |
      array:
        - |
          objectName: db-password
          objectType: secret
          objectAlias: password
"""
SYNC = """\
apiVersion: secret-sync.x-k8s.io/v1alpha1
kind: SecretSync
metadata:
  name: db
  namespace: shop
  annotations: {}
spec:
  secretProviderClassName: web
  serviceAccountName: web
  secretObject:
    type: Opaque
    data:
      - sourcePath: password
        targetKey: password
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers:
    - name: web
      env:
        - name: DB_PASSWORD
          valueFrom: {secretKeyRef: {name: db, key: password}}
  volumes:
    - name: secret
      secret: {secretName: db, items: [{key: password, path: a}]}
    - name: projected
      projected: {sources: [{secret: {name: db, items: [{key: password, path: b}]}}]}
"""
APPROLE = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: web, namespace: shop}
spec:
  provider: vault
  parameters:
    vaultAuthMethod: approle
    objects: |
      - objectName: password
        secretPath: secret/data/api
        secretKey: password
"""
AS = "  annotations: {}\n"
CLIENT = "    clientID: 22222222-2222-2222-2222-222222222222\n"


def found(*texts: str, target: str = "keyferry") -> list[str]:
    """The findings as `file:line rule: problem. remedy`; files are numbered from 0."""
    findings, _ = lint(
        [(str(at), text.encode()) for at, text in enumerate(texts)],
        disabled=() if target == "upstream" else ("upstream",),
    )
    return [f"{f.place} {f.rule.id}: {f.problem}. {f.remedy}" for f in findings]


def annotated(line: str) -> str:
    """The SecretSync with an annotation in line 7."""
    return SYNC.replace(AS, f"  annotations:\n    {line}\n")


@pytest.mark.parametrize("group", ["secret-sync.x-k8s.io/v1alpha1", "secret-sync.gke.io/v1"])
def test_a_good_sync_has_no_findings(group: str) -> None:
    """In both API groups; each object is counted."""
    text = SYNC.replace("secret-sync.x-k8s.io/v1alpha1", group)
    files = [(str(at), each.encode()) for at, each in enumerate((CLASS, text, POD))]
    assert ([], 3) == lint(files)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("v1alpha1", "v1", "1:1 sync: apiVersion 'secret-sync.x-k8s.io/v1' is not sup.*v1alpha1."),
        ("apiVersion: secret-sync.x-k8s.io/v1alpha1\n", "", "1:1 sync: apiVersion is not set"),
        ("name: db", "name: D_b", "1:4 sync: metadata.name must consist of"),
        ("  name: db\n", "", "1:3 sync: metadata.name is empty"),
        ("  annotations: {}", "  annotations: [a]", "1:6 sync: metadata.annotations is a list"),
        ("AccountName: web", "AccountName: yes_", "1:9 sync: spec.serviceAccountName 'yes_' must"),
        ("AccountName: web", "AccountName: true", '1:9 sync: .*is a boolean.*Name: "true".'),
        ("  serviceAccountName: web\n", "", "1:7 sync: spec.serviceAccountName is not set"),
        (
            "  serviceAccountName",
            "  serviceAcountName",
            "1:9 unknown-field: .*mean serviceAccountName",
        ),
        ("    type", "    typ: a\n    type", "1:11 unknown-field: unknown field .*Object.typ"),
        ("targetKey: password", "targetKey: a/b", r"1:14 sync: spec.*data\[0\].targetKey 'a/b' is"),
        ("sourcePath: password", "sourcePath: ../a", r"1:13 sync: spec.*data\[0\].sourcePath '../"),
        (
            "        targetKey: password\n",
            "        targetKey: a\n      - {sourcePath: password, targetKey: a}\n",
            "1:15 sync: .*'a' occurs twice",
        ),
        (
            "    type",
            "    labels: {secrets-store.sync.x-k8s.io/a: b}\n    type",
            "1:11 sync: .*secrets-store.sync.x-k8s.io/a is reserved",
        ),
        (
            "    type",
            "    annotations: {secrets-store.sync.x-k8s.io: b}\n    type",
            "1:11 sync: .*annotation secrets-store.sync.x-k8s.io is reserved",
        ),
        (
            "sourcePath: password",
            "sourcePath: passwort",
            "1:13 sync-source: sourcePath 'passwort' matches no file; .* has password .*mean",
        ),
        ("Opaque", "kubernetes.io/tls", "1:11 sync-source: .*requires the keys tls.crt and tls"),
        ("Opaque", "kubernetes.io/ssh-auth", "1:11 sync-source: .*requires the key ssh-privatek"),
        ("Opaque", "kubernetes.io/service-account-token", "1:11 sync-source: .*a token of a servi"),
        ("ClassName: web", "ClassName: wbe", "1:8 class-not-found: .*namespace shop. Did you mean"),
    ],
)
def test_mistakes_are_found(before: str, after: str, expected: str) -> None:
    """With the line and the rule."""
    assert before in SYNC
    findings = found(CLASS, SYNC.replace(before, after, 1))
    assert any(re.search(expected, each) for each in findings), findings


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("keyferry.dev/refresh-interval: 10m", ()),
        (
            "keyferry.dev/refresh-interval: ten",
            ("1:7 sync-annotation: annotation keyferry.dev/re",),
        ),
        ("keyferry.dev/drift: ignored", ("1:7 sync-annotation: .*'ignored' is invalid. Write",)),
        ("keyferry.dev/adopt: 'yes'", ("1:7 sync-annotation: .*'yes' is invalid. Write",)),
        ("keyferry.dev/adopt: true", ("1:7 sync: .*is a boolean",)),
        ("keyferry.dev/refreshInterval: 1m", ("1:7 unknown-field: .*mean keyferry.dev/refresh-i",)),
        ("keyferry.dev/credentials-secret: A_b", ("1:7 sync: annotation .*'A_b' must",)),
        ("example.com/a: b", ()),
    ],
)
def test_annotations(annotation: str, expected: tuple[str, ...]) -> None:
    """Only those of Keyferry are checked."""
    findings = found(CLASS, annotated(annotation))
    assert len(expected) == len(findings), findings
    for pattern, each in zip(expected, findings, strict=True):
        assert re.match(pattern, each)


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("db-password", True),
        ("password/tls.crt", True),
        ("password.crt", True),
        ("password/tls.pem", False),
        ("Password", False),
    ],
)
def test_source_paths_are_those_of_the_controller(source: str, is_found: bool) -> None:
    """Names of objects, and parts of certificates."""
    findings = found(CLASS, SYNC.replace("sourcePath: password", f"sourcePath: {source}"))
    assert is_found == (findings == [])


@pytest.mark.parametrize(
    "text",
    [
        CLASS.replace("azure", "aws"),
        CLASS.replace("objectName: db-password", "find: {name: {regexp: db}}").replace(
            "          objectAlias: password\n", ""
        ),
        CLASS.replace("          objectAlias", "          expandKeys: true\n          objectAlias"),
    ],
)
def test_files_that_only_the_vault_knows_are_no_findings(text: str) -> None:
    """Of an external provider, of selected objects, and of a folder."""
    assert [] == found(text, SYNC.replace("sourcePath: password", "sourcePath: password/user"))


def test_a_class_that_is_not_checked_may_be_in_the_cluster() -> None:
    """Without any SecretProviderClass, nothing is said; the type is checked nevertheless."""
    assert [] == found(SYNC)
    (finding,) = found(
        SYNC.replace("Opaque", "kubernetes.io/basic-auth").replace("Key: p", "Key: ")
    )
    assert "requires username or password, not assword" in finding
    other = CLASS.replace("namespace: shop", "namespace: other")
    (finding,) = found(other, SYNC)
    assert finding.startswith("1:8 class-not-found: ")


def test_credentials() -> None:
    """A service principal and AppRole need a Secret; workload identity does not."""
    expected = "1:6 sync-identity: the identity mode of SecretProviderClass web needs credentials"
    for text in (APPROLE, CLASS.replace(CLIENT, "")):
        (finding,) = found(text, SYNC)
        assert finding.startswith(expected)
        assert [] == found(text, annotated("keyferry.dev/credentials-secret: login"))


def test_pod_identity_needs_a_pod() -> None:
    """As for the controller."""
    text = CLASS.replace(CLIENT, "    usePodIdentity: 'true'\n")
    findings = [each for each in found(text, SYNC) if "deprecated" not in each]
    (finding,) = findings
    assert finding.startswith("1:8 sync-identity: SecretProviderClass web: usePodIdentity selects")


def test_one_secret_has_one_maker() -> None:
    """Of two SecretSyncs, in one API group or two, and of secretObjects."""
    assert found(CLASS, SYNC, SYNC)[0].startswith("2:1 duplicate-sync: it is also defined in 1:1")
    gke = SYNC.replace("secret-sync.x-k8s.io/v1alpha1", "secret-sync.gke.io/v1")
    (finding,) = found(CLASS, SYNC, gke)
    assert (
        "2:1 duplicate-sync: secret db is also made by the SecretSync of secret-sync.x" in finding
    )
    assert [] == found(CLASS, SYNC, SYNC.replace("name: db", "name: other"))
    entry = "{secretName: db, type: Opaque, data: [{objectName: password, key: a}]}"
    text = f"{CLASS}  secretObjects:\n    - {entry}\n"
    (finding,) = found(text, SYNC)
    assert finding.startswith("1:4 claimed-secret: secret db is also made by secretObjects of Secr")


def test_pods_use_its_secret_without_a_volume() -> None:
    """The keys of variables and volumes are checked."""
    expected = "secret-key: secret db has no key passwort; its keys are: password. Did you mean"
    for at, line in enumerate((9, 12, 14)):
        parts = POD.split("key: password")
        text = "key: password".join(parts[: at + 1]) + "key: passwort"
        (finding,) = found(CLASS, SYNC, text + "key: password".join(parts[at + 1 :]))
        assert finding.startswith(f"2:{line} {expected}")
    assert [] == found(CLASS, SYNC, POD.replace("name: db, key: password", "name: x, key: y"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SYNC, ""),
        (
            annotated("keyferry.dev/adopt: 'true'"),
            "1:7 .*keyferry.dev/adopt: upstream's controller",
        ),
        (annotated("keyferry.dev/credentials-secret: a"), "1:7 .*ignores it, and cannot log in"),
        (SYNC.replace("Path: password", "Path: db-password"), "1:13 .*finds no file"),
        (SYNC.replace("Key: password", "Key: DB__PASSWORD"), "1:14 .*targetKey: .*refuses it"),
        (
            SYNC.replace("  secretP", "  secretSyncControllerName: a\n  secretP"),
            "1:8 .*secretSyncControllerName: upstream's controller ignores it",
        ),
    ],
)
def test_what_upstream_reads_differently_is_named(text: str, expected: str) -> None:
    """Only with `--target upstream`."""
    findings = [each for each in found(CLASS, text, target="upstream") if each[:2] == "1:"]
    assert bool(expected) == len(findings), findings
    assert all(re.match(expected, each) for each in findings), findings
    assert [] == found(CLASS, text)


def test_paths_with_a_slash_are_refused_by_upstream() -> None:
    """Its CRD has a pattern."""
    texts = (each.replace(": password", ": db/pw") for each in (CLASS, SYNC))
    findings = found(*(text.replace("Key: db/pw", "Key: pw") for text in texts), target="upstream")
    assert ["1:13"] == [each.split()[0] for each in findings]
    assert "refuses it: its CRD permits only" in findings[0]


def test_kinds_of_the_same_name_are_skipped() -> None:
    """In the API group of somebody else."""
    assert [] == found(SYNC.replace("secret-sync.x-k8s.io/v1alpha1", "example.com/v1"))


def test_a_sync_of_any_shape_is_no_crash() -> None:
    """Fields of the wrong type are reported."""
    for junk in ("1", "[]", "{}", "null", "[[]]", "{a: []}", '"x"', "[1, {name: 2}]"):
        for before in ("data:", "secretObject:", "spec:", "metadata:"):
            text = re.sub(rf"{re.escape(before)}\n(?: .*\n)+", f"{before} {junk}\n", SYNC)
            assert found(CLASS, text)
