"""`keyferry mount` and `keyferry unmount`, as processes, on the development vault."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from keyferry.cli.flags.providers import PROVIDER_FLAGS
from keyferry_devvault.http_types import RequestKind
from tests.fakes.cli import run_cli, start_cli
from tests.fakes.devvault import CertificateSpec, DevVault, Hang, running_devvault
from tests.fakes.mounts import mounted_below

TENANT = "11111111-0000-4000-8000-000000000000"
CLIENT = "22222222-0000-4000-8000-000000000000"
CANARY = "canary-9f2b61c0"
CLASS = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: {name}
spec:
  provider: azure
  secretObjects:
  - secretName: app
    type: Opaque
    data:
    - objectName: {object_name}
      key: password
  parameters:
    {identity}
    keyvaultName: contoso
    tenantID: {tenant}
    objects: |
      array:
      - |
        objectName: db-password
        objectAlias: SECRET_1
        objectType: secret
        filePermission: 0640
"""
MANAGED = f'useVMManagedIdentity: "true"\n    userAssignedIdentityID: {CLIENT}'


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVault]:
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", CANARY)
        vault.add_managed_identity(CLIENT, tenant=TENANT)
        vault.grant("contoso", CLIENT, "get")
        yield vault


pytestmark = pytest.mark.usefixtures("mount_home")


def _class(
    folder: Path, *, identity: str = MANAGED, object_name: str = "db-password", name: str = "app"
) -> Path:
    path = folder / f"{name}.yaml"
    text = CLASS.format(identity=identity, tenant=TENANT, object_name=object_name, name=name)
    path.write_text(text)
    return path


async def test_mount_creates_file_and_secret_and_unmount_removes_them(
    tmp_path: Path, vault: DevVault
) -> None:
    """The round of a laptop: file with its mode, Secret as a manifest, then nothing."""
    target, secrets = tmp_path / "target", tmp_path / "secrets"
    dev = ("--dev-vault", tmp_path / "devvault")

    done = await run_cli("mount", _class(tmp_path), target, "--secrets-dir", secrets, *dev)

    assert 0 == done.exit_code, done.stderr
    assert CANARY == (target / "SECRET_1").read_text()
    assert 0o640 == (target / "SECRET_1").stat().st_mode & 0o777
    secret = yaml.safe_load((secrets / "secrets/default/app.yaml").read_text())
    assert CANARY == base64.b64decode(secret["data"]["password"]).decode()
    assert "SECRET_1  0640  15 bytes" in done.stdout
    assert CANARY not in done.stdout + done.stderr

    done = await run_cli("unmount", target, "--secrets-dir", secrets)

    assert (0, f"unmounted {target}\n") == (done.exit_code, done.stdout)
    assert not target.exists()
    assert [] == mounted_below(tmp_path)
    assert [] == list(secrets.rglob("*.yaml"))


async def test_vault_qps_limits_the_request_rate(tmp_path: Path, vault: DevVault) -> None:
    """From the first call on: nobody else shares the volume, so no burst is wanted."""
    entries = "".join(
        f"      - |\n        objectName: object-{number}\n        objectType: secret\n"
        for number in range(7)
    )
    for number in range(7):
        vault.set_secret("contoso", f"object-{number}", CANARY)
    vault.tune(throttle_per_second=5)
    path = _class(tmp_path, object_name="object-0")
    head, _, _ = path.read_text().partition("      - |\n        objectName: db-password")
    path.write_text(head + entries)
    dev = ("--dev-vault", tmp_path / "devvault")

    done = await run_cli("mount", path, tmp_path / "target", "--vault-qps=2", *dev)

    assert 0 == done.exit_code, done.stderr
    assert (7, 0) == (vault.count(RequestKind.SECRET, status=200), vault.count(status=429))


async def test_repeated_mount_refreshes_to_a_new_version(tmp_path: Path, vault: DevVault) -> None:
    """Calling mount for a mounted target refreshes it."""
    arguments = (
        "mount",
        _class(tmp_path),
        tmp_path / "target",
        "--dev-vault",
        tmp_path / "devvault",
    )
    await run_cli(*arguments)
    vault.set_secret("contoso", "db-password", "second")

    done = await run_cli(*arguments)

    assert 0 == done.exit_code, done.stderr
    assert "second" == (tmp_path / "target/SECRET_1").read_text()


async def test_repeated_mount_keeps_an_optional_object(tmp_path: Path, vault: DevVault) -> None:
    """Also without a folder for Secrets, in which the last mount is recorded."""
    spc, target = _class(tmp_path), tmp_path / "target"
    spc.write_text(spc.read_text() + "        optional: true\n")
    mount = ("mount", spc, target, "-q", "--dev-vault", tmp_path / "devvault")
    assert 0 == (await run_cli(*mount)).exit_code
    delete = ("devvault", "delete", "contoso", "db-password", "--data", tmp_path / "devvault")
    assert 0 == (await run_cli(*delete)).exit_code
    done = await run_cli(*mount[:3], *mount[4:])
    assert 0 == done.exit_code
    assert (
        "warning: optional object secret/db-password is missing: secret db-password does not exist"
        " in vault contoso; the volume keeps its last content\n"
    ) in done.stderr
    assert CANARY == (target / "SECRET_1").read_text()
    await run_cli("unmount", target)


async def test_watch_refreshes_until_interrupted_and_keeps_the_files(
    tmp_path: Path, vault: DevVault
) -> None:
    """--watch refreshes until SIGINT, survives a failing vault, and leaves the files."""
    target = tmp_path / "target"
    process = await start_cli(
        *("mount", _class(tmp_path), target, "--watch", "--interval", "50ms"),
        *("--dev-vault", tmp_path / "devvault"),
    )
    try:
        assert process.stdout
        assert process.stderr
        await _line_with(process.stderr, "refreshing every")
        vault.revoke("contoso", CLIENT)
        await _line_with(process.stderr, "The files are unchanged.")
        assert CANARY == (target / "SECRET_1").read_text()
        vault.grant("contoso", CLIENT, "get")
        vault.set_secret("contoso", "db-password", "second")
        await _line_with(process.stdout, "changed SECRET_1")
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, err.decode()
    assert "second" == (target / "SECRET_1").read_text()


async def _line_with(stream: asyncio.StreamReader, text: str) -> None:
    async with asyncio.timeout(100):
        while text not in (line := (await stream.readline()).decode()):
            assert line, f"ended without {text!r}"


async def test_credentials_are_read_from_a_secret_manifest(tmp_path: Path, vault: DevVault) -> None:
    """--credentials takes what nodePublishSecretRef names in a pod, plain or in base64."""
    vault.add_app("app-1", tenant=TENANT, secret="pass-word")
    vault.grant("contoso", "app-1", "get")
    credentials = tmp_path / "credentials.yaml"
    encoded = base64.b64encode(b"app-1").decode()
    credentials.write_text(
        f"kind: Secret\ndata: {{clientid: {encoded}}}\nstringData: {{clientsecret: pass-word}}\n"
    )
    cls = _class(tmp_path, identity='useVMManagedIdentity: "false"')

    done = await run_cli(
        *("mount", cls, tmp_path / "target", "--credentials", credentials),
        *("--dev-vault", tmp_path / "devvault"),
    )

    assert 0 == done.exit_code, done.stderr
    assert CANARY == (tmp_path / "target/SECRET_1").read_text()


async def test_workload_identity_uses_a_token_of_devvault(tmp_path: Path, vault: DevVault) -> None:
    """--service-account-tokens takes kubelet's JSON, as `devvault token` prints it."""
    vault.add_app("app-2", tenant=TENANT, secret=None)
    vault.federate("app-2", subject="system:serviceaccount:default:web")
    vault.grant("contoso", "app-2", "get")
    tokens = tmp_path / "tokens.json"
    tokens.write_text(vault.service_account_token("system:serviceaccount:default:web"))
    cls = _class(tmp_path, identity="clientID: app-2")

    done = await run_cli(
        *("mount", cls, tmp_path / "target", "--service-account-tokens", tokens),
        *("--dev-vault", tmp_path / "devvault"),
    )

    assert 0 == done.exit_code, done.stderr
    assert CANARY == (tmp_path / "target/SECRET_1").read_text()


async def test_failed_mount_prints_problem_and_remedy_and_leaves_no_files(
    tmp_path: Path, vault: DevVault
) -> None:
    """Without upstream's prefixes and without a traceback; no folder, no mount stays."""
    vault.delete("contoso", "db-password")
    target = tmp_path / "target"

    done = await run_cli("mount", _class(tmp_path), target, "--dev-vault", tmp_path / "devvault")

    assert 3 == done.exit_code
    note, error, hint = done.stderr.splitlines()
    assert note.startswith("DEVELOPMENT ONLY: ")
    assert error.startswith("error: secret db-password does not exist in vault contoso")
    assert hint.startswith("hint: ")
    assert not target.exists()
    assert [] == mounted_below(tmp_path)


async def test_failed_mount_keeps_an_existing_folder(tmp_path: Path, vault: DevVault) -> None:
    """A target folder that somebody made stays, empty."""
    vault.delete("contoso", "db-password")
    target = tmp_path / "target"
    target.mkdir()

    await run_cli("mount", _class(tmp_path), target, "--dev-vault", tmp_path / "devvault")

    assert target.is_dir()
    assert [] == list(target.iterdir())


async def test_failed_secret_is_an_error_and_the_files_stay_mounted(
    tmp_path: Path, vault: DevVault
) -> None:
    """An unknown objectName: the files are there, the candidates are listed, the exit code is 1."""
    cls = _class(tmp_path, object_name="db-passwort")

    done = await run_cli(
        *("mount", cls, tmp_path / "target", "--secrets-dir", tmp_path / "secrets"),
        *("--dev-vault", tmp_path / "devvault"),
    )

    assert 1 == done.exit_code
    assert (tmp_path / "target/SECRET_1").is_file()
    assert "db-passwort" in done.stderr
    assert "SECRET_1" in done.stderr


async def test_file_with_two_classes_requires_the_class_option(
    tmp_path: Path, vault: DevVault
) -> None:
    """--class chooses; without it both are named."""
    both = tmp_path / "both.yaml"
    one, two = _class(tmp_path, name="one").read_text(), _class(tmp_path, name="two").read_text()
    both.write_text(f"{one}---\n{two}")
    dev = ("--dev-vault", tmp_path / "devvault")

    done = await run_cli("mount", both, tmp_path / "target", *dev)
    assert 2 == done.exit_code
    assert "default/one, default/two" in done.stderr
    assert "--class" in done.stderr

    done = await run_cli("mount", both, tmp_path / "target", "--class", "three", *dev)
    assert "no SecretProviderClass 'three'" in done.stderr

    done = await run_cli("mount", both, tmp_path / "target", "--class", "two", *dev)
    assert 0 == done.exit_code, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--credentials", "none.yaml"), "none.yaml cannot be read"),
        (("--credentials", "list.yaml"), "exactly one Secret manifest"),
        (("--credentials", "number.yaml"), "stringData.clientid is not a string"),
        (("--credentials", "broken.yaml"), "data.clientid is not base64"),
        (("--service-account-tokens", "list.yaml"), "not a valid JSON file of service"),
        (("--interval", "often"), "duration"),
        (("--interval", "-1s"), "must be greater than 0"),
        (("--interval", "0s"), "must be greater than 0"),
    ],
)
async def test_invalid_input_file_is_named(
    tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    """The error names the file and does not quote its content."""
    (tmp_path / "list.yaml").write_text(f"[{CANARY}]")
    (tmp_path / "number.yaml").write_text("kind: Secret\nstringData: {clientid: 17}")
    (tmp_path / "broken.yaml").write_text(f"kind: Secret\ndata: {{clientid: '{CANARY}!'}}")
    cls = _class(tmp_path)

    done = await run_cli("mount", cls, "target", *arguments, cwd=tmp_path)

    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert not (tmp_path / "target").exists()


async def test_unmount_rejects_a_folder_that_is_not_a_volume(tmp_path: Path) -> None:
    """A folder of somebody is refused and stays whole; an absent target is fine."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")

    done = await run_cli("unmount", mine)

    assert 1 == done.exit_code
    assert "years of work" == (mine / "thesis.txt").read_text()
    done = await run_cli("unmount", tmp_path / "absent")
    assert (0, f"nothing is mounted at {tmp_path / 'absent'}\n") == (done.exit_code, done.stdout)


async def test_relative_target_is_below_the_working_directory(
    tmp_path: Path, vault: DevVault
) -> None:
    """`keyferry mount app.yaml secrets` works where it is called."""
    _class(tmp_path)
    done = await run_cli("mount", "app.yaml", "secrets", "--dev-vault", "devvault", cwd=tmp_path)
    assert 0 == done.exit_code, done.stderr
    assert (tmp_path / "secrets/SECRET_1").is_file()
    done = await run_cli("unmount", "secrets", cwd=tmp_path)
    assert not (tmp_path / "secrets").exists()


async def test_target_is_recognized_by_any_relative_path(tmp_path: Path, vault: DevVault) -> None:
    """Mounted as ../files from below, unmounted as files from above: the Secrets go too."""
    (tmp_path / "below").mkdir()
    secrets, dev = tmp_path / "secrets", ("--dev-vault", tmp_path / "devvault")
    done = await run_cli(
        *("mount", _class(tmp_path), "../files", "--secrets-dir", secrets, *dev),
        cwd=tmp_path / "below",
    )
    assert 0 == done.exit_code, done.stderr
    assert [] != list(secrets.rglob("app.yaml"))

    done = await run_cli("unmount", "files", "--secrets-dir", secrets, cwd=tmp_path)

    assert 0 == done.exit_code, done.stderr
    assert [] == list(secrets.rglob("*.yaml"))


async def test_mount_accepts_the_provider_flags(tmp_path: Path, vault: DevVault) -> None:
    """In the spelling that they have elsewhere: certificate and key come beside the bundle."""
    vault.create_certificate("contoso", "web", CertificateSpec(kind="EC"))
    class_file, target = _class(tmp_path, object_name="web"), tmp_path / "target"
    class_file.write_text(
        class_file.read_text().replace("objectName: db-password", "objectName: web")
    )
    separate = "--write-cert-and-key-in-separate-files=true"

    done = await run_cli(
        "mount", class_file, target, "--dev-vault", tmp_path / "devvault", separate
    )

    assert 0 == done.exit_code, done.stderr
    assert ["SECRET_1", "SECRET_1.crt", "SECRET_1.key"] == [
        line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")
    ]
    await run_cli("unmount", target)


@pytest.mark.parametrize(
    ("flag", "code", "words"),
    [
        (
            "--construct-pem-chain=maybe",
            2,
            "'maybe' for flag -construct-pem-chain: must be true or",
        ),
        ("--cloud-name=AzureMoon", 2, "AzureMoon"),
    ],
)
async def test_invalid_provider_flag_fails_before_the_mount(
    tmp_path: Path, flag: str, code: int, words: str
) -> None:
    """With its name, the value, and what it takes."""
    done = await run_cli("mount", _class(tmp_path), tmp_path / "target", flag)
    assert (code, True) == (done.exit_code, words in done.stderr), done.stderr
    assert not (tmp_path / "target").exists()


async def test_mount_has_every_provider_flag() -> None:
    """A new one needs no second place."""
    done = await run_cli("mount", "--help")
    shown = done.stdout
    listed = [flag.name for flag in PROVIDER_FLAGS if not flag.name.startswith("openbao-")]
    assert [] == [name for name in listed if f"--{name} " not in shown]
    assert "for OpenBao, write --openbao- in place of --vault-" in shown


@pytest.mark.parametrize("words", [("mount", "target"), ("get", "db-password")])
async def test_timeout_names_what_was_awaited(
    tmp_path: Path, vault: DevVault, words: tuple[str, str]
) -> None:
    """With the exit code of an outage; nothing is left."""
    vault.add_fault("/metadata", Hang(), times=None)
    dev = ("--dev-vault", "devvault", "--timeout", "5s")
    done = await run_cli(words[0], _class(tmp_path), words[1], *dev, cwd=tmp_path)
    assert (4, "") == (done.exit_code, done.stdout)
    assert "within 5 s (--timeout); it was waiting for a token from 169.254.169.254" in done.stderr
    assert "keyferry devvault tune --clear --data devvault" in done.stderr
    assert not (tmp_path / "target").exists()


async def test_result_is_json_on_request(tmp_path: Path, vault: DevVault) -> None:
    """Names, modes and sizes, never a value."""
    del vault
    words = (_class(tmp_path), "target", "--secrets-dir", "out", "--dev-vault", "devvault")
    done = await run_cli("mount", *words, "-o", "json", cwd=tmp_path)
    result = json.loads(done.stdout)
    owner = {"uid": os.geteuid(), "gid": os.getegid()}
    file = {"path": "SECRET_1", "mode": "0640", **owner, "bytes": len(CANARY)}
    assert [file] == result["files"]
    manifest = "out/secrets/default/app.yaml"
    assert [{"namespace": "default", "name": "app", "manifest": manifest}] == result["secrets"]
    assert CANARY not in done.stdout + done.stderr
    refused = await run_cli("mount", *words, "-o", "yaml", "--watch", cwd=tmp_path)
    assert (2, "") == (refused.exit_code, refused.stdout)
    assert "-o yaml and --watch exclude each other" in refused.stderr
