"""`keyferry.lint`: what is found in SecretProviderClasses and pods, and where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keyferry.lint.finding import RULES
from keyferry.lint.linter import lint

ROOT = Path(__file__).parents[3]
GOOD = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: web
  namespace: shop
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
  secretObjects:
    - secretName: db
      type: Opaque
      data:
        - objectName: db-password
          key: password
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
        - name: web
          env:
            - name: DB_PASSWORD
              valueFrom:
                secretKeyRef:
                  name: db
                  key: password
          volumeMounts:
            - name: secrets
              mountPath: /secrets
      volumes:
        - name: secrets
          csi:
            driver: secrets-store.csi.k8s.io
            readOnly: true
            volumeAttributes:
              secretProviderClass: web
"""
VAULT = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: api, namespace: shop}
spec:
  provider: vault
  parameters:
    roleName: api
    objects: |
      - objectName: password
        secretPath: secret/data/api
        secretKey: password
"""
FIELD = "          objectType: secret\n"
ENV = "                secretKeyRef:\n                  name: db\n                  key: password\n"
FILE_KEY = (
    "                fileKeyRef:\n                  volumeName: env\n                  key: A\n"
)
MOUNT = "              mountPath: /secrets\n"
VOLUME = "        - name: secrets\n          csi:\n"


def found(text: str, *, target: str = "keyferry") -> list[str]:
    """The findings as `line rule: problem. remedy`."""
    findings, _ = lint(
        [("web.yaml", text.encode())], disabled=() if target == "upstream" else ("upstream",)
    )
    return [f"{f.place.line} {f.rule.id}: {f.problem}. {f.remedy}" for f in findings]


def test_good_manifests_have_no_findings() -> None:
    """Of both providers, and each object is counted."""
    findings, checked = lint([("web.yaml", GOOD.encode()), ("api.yaml", VAULT.encode())])
    assert ([], 3) == (findings, checked)


def test_a_misspelled_provider_is_found() -> None:
    """Other names may be those of external providers."""
    misspelled = VAULT.replace("provider: vault", "provider: valut")
    (line,) = found(misspelled)
    assert line.startswith("5 provider: provider 'valut' is not built in. Did you mean 'vault'? ")
    assert not found(VAULT.replace("provider: vault", "provider: gcp"))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ passwort }}", "there is no file 'passwort'"),
        ("{{ password", "{{"),
        ("{{ password | nosuch }}", "nosuch"),
        ("postgresql://{{ password | url }}@db", ""),
    ],
)
def test_the_files_of_templates_are_checked(template: str, said: str) -> None:
    """The names and filters of its expressions, without a mount."""
    option = f"    templates: |\n      - path: url\n        template: '{template}'\n"
    findings = found(VAULT.replace("    objects: |", f"{option}    objects: |"))
    assert bool(said) == bool(findings)
    assert all(" class: " in each and said in each for each in findings)


def test_the_examples_have_no_errors() -> None:
    """With all rules, only warnings about what upstream does and about old identity modes."""
    paths = sorted((ROOT / "examples").rglob("*.yaml"))
    # Each alone: some are alternatives of each other.
    results = [lint([(str(path), path.read_bytes())]) for path in paths]
    assert sum(checked for _, checked in results) > len(paths) / 2
    rules = {found.rule.id for findings, _ in results for found in findings}
    assert {"upstream", "deprecated-identity"} >= rules


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("provider: azure", "provider: azure\n  provider: x", "8 file: .*provider"),
        ("kind: SecretP", "kind: [SecretP", "file: "),
        ("    keyvaultName: contoso", "    keyvaultName: [a]", "9 class: spec.parameters.keyvau"),
        ("keyvaultName: contoso", "keyvaultName: con_toso", "9 class: .*vault"),
        ("    tenantID: 1", "    tenantID: x/1", "10 class: .*tenantId"),
        ("    keyvaultName: contoso\n", "", "class: keyvaultName is not provided"),
        (FIELD, "          objectType: secrets\n", "14 class: .*Write objectType: secret."),
        (FIELD, FIELD + "          objectAlias: ../a\n", "14 class: .*must not contain '..'"),
        (FIELD, FIELD + "          fileOwner: root\n", "14 class: .*fileOwner 'root'"),
        (FIELD, FIELD + "          objectalias: a\n", "17 unknown-field: .*mean objectAlias?"),
        ("    clientID", "    rotationPollInterval: 6\n    clientID", "11 class: .*text"),
        ("    clientID", '    rotationPollInterval: "6"\n    clientID', "11 class: rotationPoll"),
        ("    clientID", '    templates: "a: b"\n    clientID', "class: templates is not a list"),
        ("    clientID", '    usePodIdentity: "true"\n    clientID', "11 deprecated-identity: "),
        ("  secretObjects", "  params: {}\n  secretObjects", "17 unknown-field: .*parameters"),
        ("objectName: db-password\n          key", "objectName: pw\n          key", "18 secret-ob"),
        ("type: Opaque", "type: kubernetes.io/service-account-token", "18 secret-object: "),
        (
            "type: Opaque",
            "type: kubernetes.io/tls",
            "18 secret-object: .*requires the keys tls.crt",
        ),
        ("readOnly: true", "readOnly: false", "45 volume: volume secrets is not read-only"),
        ("secretProviderClass: web", "secretproviderclass: web", "volume: .*you wrote secretpr"),
        ("secretProviderClass: web", "secretProviderClass: wbe", "49 class-not-found: .*mean web"),
        (MOUNT, MOUNT + "              subPath: db\n", "43 sub-path: volume secrets is mounted"),
        (
            "                  key: password",
            "                  key: passwort",
            "secret-key: .*mean",
        ),
        (VOLUME, "        - name: secrets\n          x:\n", "secret-without-volume: secret db ex"),
        (
            "                  name: db",
            "                  name: dbs",
            "not-found: .*secret dbs. Did",
        ),
        ("                  name: db", "                  name: other", "not-found: .* secretObje"),
        (
            "    clientID: 22222222-2222-2222-2222-222222222222\n",
            "",
            "volume: .*secrets names none",
        ),
        (ENV, FILE_KEY.replace("env", "secrets"), "env-file: .*secrets, which is not an emptyDir"),
    ],
)
def test_mistakes_are_found(before: str, after: str, expected: str) -> None:
    """With the line and the rule."""
    assert before in GOOD
    findings = found(GOOD.replace(before, after, 1))
    assert any(re.search(expected, each) for each in findings), findings


PULL = "    spec:\n      imagePullSecrets: [{name: NAME}]\n      containers:"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("db", ["secret-key: secret db has no key .dockerconfigjson, so kubelet ignores it"]),
        ("registry", []),
        ("regstry", ["secret-not-found: .*makes secret regstry. Did you mean registry?"]),
    ],
)
def test_pull_secrets(name: str, expected: list[str]) -> None:
    """They are references to Secrets like others, with a key that kubelet expects."""
    registry = """\
    - secretName: registry
      type: kubernetes.io/dockerconfigjson
      data: [{objectName: db-password, key: .dockerconfigjson}]
"""
    text = GOOD.replace("  secretObjects:\n", f"  secretObjects:\n{registry}")
    text = text.replace("    spec:\n      containers:", PULL.replace("NAME", name))
    findings = found(text)
    assert len(expected) == len(findings), findings
    for pattern, finding in zip(expected, findings, strict=True):
        assert re.search(pattern, finding), findings


@pytest.mark.parametrize(
    "manifest",
    [
        "kind: Secret\nmetadata: {name: other, namespace: shop}\n",
        "kind: SealedSecret\nmetadata: {name: other, namespace: shop}\n",
        "kind: ExternalSecret\nmetadata: {name: other, namespace: shop}\n",
        "kind: ExternalSecret\nmetadata: {namespace: shop}\nspec: {target: {name: other}}\n",
        "kind: Certificate\nmetadata: {name: a, namespace: shop}\nspec: {secretName: other}\n",
    ],
)
def test_secrets_that_other_manifests_make(manifest: str) -> None:
    """Nobody expects them from a volume."""
    text = GOOD.replace("                  name: db\n", "                  name: other\n")
    assert ["secret-not-found"] == [each.split()[1].rstrip(":") for each in found(text)]
    assert [] == found(f"{text}---\n{manifest}")
    optional = "                  name: other\n                  optional: true\n"
    assert [] == found(text.replace("                  name: other\n", optional))


def test_a_secret_of_a_pod_without_volumes_may_exist() -> None:
    """Without a SecretProviderClass in the pod, only a likely misspelling is reported."""
    text = GOOD.replace(VOLUME, "        - name: secrets\n          x:\n")
    text = text.replace("                  name: db\n", "                  name: other\n")
    assert [] == found(text)


def test_variables_from_a_file_on_disk() -> None:
    """Only memory is as safe as the volume."""
    volume = "        - name: env\n          emptyDir: {}\n"
    text = GOOD.replace(ENV, FILE_KEY).replace(VOLUME, volume + VOLUME)
    assert ["env-file-on-disk"] == [each.split()[1].rstrip(":") for each in found(text)]
    assert [] == found(text.replace("emptyDir: {}", "emptyDir: {medium: Memory}"))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("envFile: .env", ["env-file-key: .*the variable A; they write: DB_PASSWORD"]),
        ("envFile: .env\n    envNames: 'db-password: A'", []),
        (
            "envFile: .env\n    envNames: 'db-password: B'",
            ["variable A; they write: B. Set the name"],
        ),
        ("envFile: .env\n    envNames: 'later: A'", ["they write: DB_PASSWORD"]),
        ("envFile: .env\n    envNames: 'db-password.key: A'", []),
        ("fileOwner: '1'", []),
        ("envFile: /env", ["class: envFile '/env' is absolute"]),
        ("envFile: .env\n    envNames: 'a: B-C'", ["13 class: envNames: 'B-C' cannot be"]),
    ],
)
def test_variables_of_a_file(parameters: str, expected: list[str]) -> None:
    """Those that a container reads and the SecretProviderClass of the pod writes."""
    volume = "        - name: env\n          emptyDir: {medium: Memory}\n"
    text = GOOD.replace(ENV, FILE_KEY).replace(VOLUME, volume + VOLUME)
    findings = found(text.replace("    clientID", f"    {parameters}\n    clientID", 1))
    assert len(expected) == len(findings), findings
    for pattern, finding in zip(expected, findings, strict=True):
        assert re.search(pattern, finding), findings


def test_files_with_one_variable_name_and_secrets_of_derived_files() -> None:
    """As a mount would find them."""
    text = GOOD.replace("    clientID", "    envFile: .env\n    clientID")
    key = "objectName: db-password\n          key"
    text = text.replace(key, key.replace("db-password", ".env"))
    assert [] == found(text)
    entry = f"        - |\n          objectName: db-password\n{FIELD}"
    again = f"{entry}          objectAlias: db.password\n"
    (finding,) = found(text.replace(entry, entry + again))
    assert "'db-password' and 'db.password' would both be the variable DB_PASSWORD" in finding


def test_secrets_of_expanded_keys() -> None:
    """Any file in the folder may exist; the folder is not a file."""
    text = GOOD.replace(FIELD, FIELD + "          expandKeys: true\n")
    (finding,) = found(text)
    assert "name one of its files, such as 'db-password/KEY'." in finding
    key = "objectName: db-password\n          key"
    assert [] == found(text.replace(key, key.replace("db-password", "db-password/user")))


def test_two_definitions_and_a_shared_secret() -> None:
    """The second one is reported and names the first."""
    again = GOOD.partition("---\n")[0]
    other = again.replace("name: web", "name: web2")
    findings = found(f"{GOOD}---\n{again}---\n{other}")
    assert ["duplicate-class", "shared-secret"] == [
        each.split()[1].rstrip(":") for each in findings
    ]
    assert "web.yaml:1" in findings[0]
    assert "SecretProviderClass shop/web in web.yaml:1" in findings[1]


def test_only_classes_of_the_same_namespace_count() -> None:
    """As for kubelet."""
    text = GOOD.replace("  namespace: shop\nspec:\n  template", "spec:\n  template")
    assert any("class-not-found" in each for each in found(text))
    findings, _ = lint([("web.yaml", text.encode())], default_namespace="shop")
    assert [] == findings


def test_lists_of_kubectl_are_read() -> None:
    """As `kubectl get -o yaml` prints them, with the lines of the items."""
    item = GOOD.partition("---\n")[0].replace("objectType: secret", "objectType: x")
    indented = item.replace("\n", "\n  ").rstrip()
    findings = found(f"apiVersion: v1\nkind: List\nitems:\n- {indented}\n")
    assert ["17 class"] == [each.partition(":")[0] for each in findings]


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        (GOOD.replace(FIELD, FIELD + "          optional: true\n"), "objects[0].optional", 17),
        (GOOD.replace("    clientID", '    optional: "true"\n    clientID'), "optional", 11),
        (GOOD.replace(FIELD, FIELD + "          keyvaultName: b\n"), "objects[0].keyvaultName", 17),
        (GOOD.replace("keyvaultName: contoso", "keyvaultURL: https://c.vault.azure.net"), "key", 9),
        (VAULT.replace("    roleName", "    vaultAuthMethod: jwt\n    roleName"), "vaultAuth", 7),
        (VAULT + "        jmesPath: []\n", "objects[0].jmesPath", 12),
    ],
)
def test_what_upstream_reads_differently_is_named(text: str, field: str, line: int) -> None:
    """Only with `--target upstream`."""
    (finding,) = [each for each in found(text, target="upstream") if " upstream: " in each]
    assert finding.startswith(f"{line} upstream: spec.parameters.{field}")
    assert ": the upstream driver " in finding
    assert not any(" upstream: " in each for each in found(text))


def test_a_manifest_of_any_shape_is_no_crash() -> None:
    """Fields of the wrong type are skipped or reported."""
    for junk in ("1", "[]", "{}", "null", "[[]]", "{a: []}", '"x"', "[1, {name: 2}]"):
        for before in ("[a]", "volumes:", "containers:", "template:", "spec:", "metadata:", "csi:"):
            text = re.sub(rf"{re.escape(before)}\n(?: .*\n)+", f"{before} {junk}\n", GOOD)
            lint([("web.yaml", text.encode())])


def test_the_page_lists_all_rules() -> None:
    """With severity and summary, in the order of the code."""
    page = (ROOT / "docs/reference/lint.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (error|warning) \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(rule.id, str(rule.severity), rule.summary) for rule in RULES.values()]
