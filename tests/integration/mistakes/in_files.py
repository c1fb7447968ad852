"""Mistakes in files, folders and their permissions."""

from __future__ import annotations

from pathlib import Path

from tests.integration.mistakes.mistake import (
    AZURE,
    CREDENTIALS,
    MOUNT_DEV,
    Mistake,
    Prepare,
    azure,
    edited,
)

_CREDENTIALS = f"{MOUNT_DEV} --credentials credentials.yaml"
_TOKENS = f"{MOUNT_DEV} --service-account-tokens other.json"
_SECRETS = f"{MOUNT_DEV} --secrets-dir kube"
_CLASS = {"web.yaml": AZURE}


def _unreadable(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        path = folder / name
        if not path.exists():
            path.mkdir()
        path.chmod(0)

    return prepare


def _folder(name: str) -> Prepare:
    return lambda folder: (folder / name).mkdir(parents=True)


def _file(name: str) -> Prepare:
    return lambda folder: (folder / name).write_text("mine\n")


def _foreign_folder(folder: Path) -> None:
    (folder / "secrets").mkdir()
    (folder / "secrets/notes.txt").write_text("mine\n")


def _read_only_parent(folder: Path) -> None:
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0o555)


def _link(name: str, target: str) -> Prepare:
    return lambda folder: (folder / name).symlink_to(target)


def _two_files(folder: Path) -> None:
    (folder / "classes").mkdir()
    (folder / "classes/good.yaml").write_text(AZURE)
    (folder / "classes/bad.yaml").write_text("kind: [\n")


def _broken_file(folder: Path) -> None:
    _two_files(folder)
    (folder / "classes/good.yaml").unlink()


def _nested(depth: int) -> str:
    return AZURE + "  extra: " + "[" * depth + "]" * depth + "\n"


SECRET_PROVIDER_CLASS = (
    Mistake("The file does not exist", MOUNT_DEV),
    Mistake("The file is not readable", MOUNT_DEV, _CLASS, _unreadable("web.yaml")),
    Mistake("The file is empty", MOUNT_DEV, {"web.yaml": ""}),
    Mistake("The file has only comments", MOUNT_DEV, {"web.yaml": "# later\n---\n"}),
    Mistake("The file is not text", MOUNT_DEV, {"web.yaml": b"\x7fELF\x02\x01\x01\x00\xff\xfe"}),
    Mistake("The file is larger than the limit", MOUNT_DEV, {"web.yaml": "# " + "x" * (9 << 20)}),
    Mistake("The file is an empty folder", MOUNT_DEV, prepare=_folder("web.yaml")),
    Mistake("The file is a dangling link", MOUNT_DEV, prepare=_link("web.yaml", "nowhere.yaml")),
    Mistake(
        "The folder contains a broken file",
        "mount classes secrets --class web --dev-vault vault",
        prepare=_two_files,
        is_warning=True,
    ),
    Mistake(
        "The folder contains only a broken file",
        "mount classes secrets --dev-vault vault",
        prepare=_broken_file,
    ),
    Mistake(
        "The file has another kind",
        MOUNT_DEV,
        {"web.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n"},
    ),
    azure("The kind is misspelt", ("kind: SecretProviderClass", "kind: SecretProviderclass")),
    azure("The apiVersion is wrong", ("csi.x-k8s.io/v1\n", "csi.x-k8s.io/v2\n")),
    azure("The apiVersion is missing", ("apiVersion: secrets-store.csi.x-k8s.io/v1\n", "")),
    azure("metadata.name is missing", ("  name: web\n", "")),
    azure("metadata.name is not a valid name", ("  name: web\n", "  name: Web_1\n")),
    Mistake("spec is missing", MOUNT_DEV, {"web.yaml": AZURE.partition("spec:")[0]}),
    azure("spec is misspelt", ("spec:\n", "specs:\n")),
    azure("A tab instead of spaces", ("    keyvaultName", "\tkeyvaultName")),
    azure("A quote is not closed", ('"true"', '"true')),
    azure("A colon without a space", ("keyvaultName: contoso", "keyvaultName:contoso")),
    azure("A value that begins with @", ("contoso", "@contoso")),
    azure("A value with a second colon", ("contoso", "contoso: west")),
    azure("A key with a wrong indentation", ("    keyvaultName", "   keyvaultName")),
    azure(
        "A key that occurs twice", ("    keyvaultName", "    keyvaultName: other\n    keyvaultName")
    ),
    azure("An unrendered Helm template", ("contoso", "{{ .Values.vault }}")),
    azure("An unrendered Helm block", ("spec:\n", "{{- if .Values.enabled }}\nspec:\n")),
    azure("An alias without an anchor", ("contoso", "*vault")),
    Mistake("YAML is nested too deep", MOUNT_DEV, {"web.yaml": _nested(20_000)}),
    Mistake(
        "A JSON file that is cut off", MOUNT_DEV, {"web.yaml": '{"kind": "SecretProviderClass", '}
    ),
    Mistake(
        "Two SecretProviderClasses without --class",
        MOUNT_DEV,
        {"web.yaml": AZURE + "---\n" + edited(AZURE, ("name: web\n", "name: api\n"))},
    ),
    Mistake("--class names no SecretProviderClass of the file", f"{MOUNT_DEV} --class api", _CLASS),
    Mistake("--class names another namespace", f"{MOUNT_DEV} --class dev/web", _CLASS),
)

TARGET = (
    Mistake("TARGET is a folder with files", MOUNT_DEV, _CLASS, _foreign_folder),
    Mistake("TARGET is a file", MOUNT_DEV, _CLASS, _file("secrets")),
    Mistake("TARGET is a link to nothing", MOUNT_DEV, _CLASS, _link("secrets", "nowhere/here")),
    Mistake("TARGET is not readable", MOUNT_DEV, _CLASS, _unreadable("secrets")),
    Mistake(
        "The parent of TARGET is not writable",
        "mount web.yaml closed/secrets --dev-vault vault",
        _CLASS,
        _read_only_parent,
    ),
    Mistake("TARGET is the root folder", "mount web.yaml / --dev-vault vault", _CLASS),
    Mistake("TARGET is the current folder", "mount web.yaml . --dev-vault vault", _CLASS),
    Mistake("TARGET is below a file", "mount web.yaml web.yaml/secrets --dev-vault vault", _CLASS),
    Mistake("TARGET is empty", "mount web.yaml '' --dev-vault vault", _CLASS),
    Mistake("unmount of a folder of other files", "unmount secrets", prepare=_foreign_folder),
    Mistake("unmount of a file", "unmount secrets", prepare=_file("secrets")),
    Mistake(
        "unmount of a folder that is not readable",
        "unmount secrets",
        prepare=_unreadable("secrets"),
    ),
    Mistake("unmount of nothing", "unmount secrets", is_warning=True),
    Mistake("--secrets-dir is a file", _SECRETS, _CLASS, _file("kube")),
    Mistake("--secrets-dir is not readable", _SECRETS, _CLASS, _unreadable("kube")),
    Mistake(
        "--secrets-dir of unmount is not readable",
        "unmount secrets --secrets-dir kube",
        prepare=_unreadable("kube"),
    ),
)

CREDENTIAL_FILES = (
    Mistake("--credentials does not exist", _CREDENTIALS, _CLASS),
    Mistake("--credentials is a folder", _CREDENTIALS, _CLASS, _folder("credentials.yaml")),
    Mistake(
        "--credentials is not readable",
        _CREDENTIALS,
        {**_CLASS, "credentials.yaml": CREDENTIALS},
        _unreadable("credentials.yaml"),
    ),
    Mistake("--credentials is not a Secret", _CREDENTIALS, {**_CLASS, "credentials.yaml": AZURE}),
    Mistake(
        "--credentials is not YAML", _CREDENTIALS, {**_CLASS, "credentials.yaml": "kind: [Secret"}
    ),
    Mistake(
        "A value in data is not base64",
        _CREDENTIALS,
        {**_CLASS, "credentials.yaml": edited(CREDENTIALS, ("stringData", "data"))},
    ),
    Mistake(
        "A value in stringData is a number",
        _CREDENTIALS,
        {**_CLASS, "credentials.yaml": CREDENTIALS + "  token: 1234\n"},
    ),
    Mistake("The token file does not exist", _TOKENS, _CLASS),
    Mistake("The token file is not JSON", _TOKENS, {**_CLASS, "other.json": "eyJhbGciOi"}),
    Mistake(
        "The token file has another shape", _TOKENS, {**_CLASS, "other.json": '{"token": "x"}'}
    ),
)

FILE_GROUPS: tuple[tuple[str, tuple[Mistake, ...]], ...] = (
    ("Files with SecretProviderClasses", SECRET_PROVIDER_CLASS),
    ("Targets and folders", TARGET),
    ("Credentials and tokens", CREDENTIAL_FILES),
)
