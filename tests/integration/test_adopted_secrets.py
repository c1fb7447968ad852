"""`keyferry mount` adds a key to a Secret that somebody else created, and removes only that key.

Argo CD owns `argocd-secret`, and one key of it comes from a vault.

Source: https://github.com/aws/secrets-store-csi-driver-provider-aws/issues/643
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from tests.fakes.cli import run_cli
from tests.fakes.devvault import running_devvault

CLIENT = "22222222-0000-4000-8000-000000000000"
ADOPTING_CLASS = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: mrg, namespace: default, annotations: {keyferry.dev/adopt-secrets: argocd-secret}}
spec:
  provider: azure
  parameters:
    useVMManagedIdentity: "true"
    userAssignedIdentityID: 22222222-0000-4000-8000-000000000000
    keyvaultName: contoso
    tenantId: 11111111-0000-4000-8000-000000000000
    objects: |
      array:
      - |
        objectName: secret1
        objectType: secret
  secretObjects:
  - secretName: argocd-secret
    type: Opaque
    data:
    - {objectName: secret1, key: oidc.clientSecret}
"""
THEIRS = {"server.secretkey": "dGhlaXJz", "admin.password": "dGhlaXJz"}
REPLACED = (
    "warning: adopted secret argocd-secret; its other keys, labels and annotations are not changed,"
    " but the previous values of these keys were replaced: oidc.clientSecret"
)
ARGOCD_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "argocd-secret",
        "namespace": "default",
        "labels": {"app.kubernetes.io/part-of": "argocd"},
    },
    "type": "Opaque",
    "data": THEIRS,
}

pytestmark = pytest.mark.usefixtures("mount_home")


async def test_keys_of_an_adopted_secret_survive_mount_and_unmount(tmp_path: Path) -> None:
    """The Secret is afterwards as before."""
    spc = tmp_path / "class.yaml"
    spc.write_text(ADOPTING_CLASS)
    path = tmp_path / "s/secrets/default/argocd-secret.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(ARGOCD_SECRET))
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "secret1", "from-vault")
        vault.add_managed_identity(CLIENT, tenant="11111111-0000-4000-8000-000000000000")
        vault.grant("contoso", CLIENT, "get")
        targets = [tmp_path / "one", tmp_path / "two"]
        for target in targets:
            done = await run_cli(
                *("mount", spc, target, "--secrets-dir", tmp_path / "s"),
                *("--dev-vault", tmp_path / "devvault"),
            )
            assert 0 == done.exit_code, done.stderr
        mounted = yaml.safe_load(path.read_text())
        added = {"oidc.clientSecret": base64.b64encode(b"from-vault").decode()}
        assert THEIRS | added == mounted["data"]
        assert "argocd" == mounted["metadata"]["labels"]["app.kubernetes.io/part-of"]
        for target in targets:
            assert added.items() <= yaml.safe_load(path.read_text())["data"].items()
            done = await run_cli("unmount", target, "--secrets-dir", tmp_path / "s")
            assert 0 == done.exit_code, done.stderr
        assert ARGOCD_SECRET == yaml.safe_load(path.read_text())


async def test_replaced_key_and_refused_type_are_reported(tmp_path: Path) -> None:
    """Standard error says which values were lost, and why a Secret cannot be adopted."""
    spc = tmp_path / "class.yaml"
    spc.write_text(ADOPTING_CLASS)
    path = tmp_path / "s/secrets/default/argocd-secret.yaml"
    path.parent.mkdir(parents=True)
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "secret1", "from-vault")
        vault.add_managed_identity(CLIENT, tenant="11111111-0000-4000-8000-000000000000")
        vault.grant("contoso", CLIENT, "get")
        arguments = (
            *("mount", spc, tmp_path / "one", "--secrets-dir", tmp_path / "s"),
            *("--dev-vault", tmp_path / "devvault"),
        )
        theirs = {**ARGOCD_SECRET, "data": {**THEIRS, "oidc.clientSecret": "b2xk"}}
        path.write_text(yaml.safe_dump(theirs))
        done = await run_cli(*arguments)
        assert 0 == done.exit_code, done.stderr
        assert REPLACED in done.stderr
        assert "argocd-secret.yaml" in done.stdout
        done = await run_cli(*arguments)
        assert "warning: adopted" not in done.stderr

        typed = yaml.safe_dump({**theirs, "type": "example.com/own"})
        path.write_text(typed)
        done = await run_cli(*arguments)
        assert 0 != done.exit_code
        assert "it has type example.com/own, and" in done.stderr
        assert "argocd-secret.yaml" not in done.stdout
        assert typed == path.read_text()
