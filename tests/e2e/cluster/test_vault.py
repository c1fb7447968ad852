"""The end-to-end behavior of the upstream Vault provider, on a real cluster with a real server.

The numbers are those of docs/reference/compatibility-vault.md, which describes each behavior.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509

from keyferry.providers.vault.product import VAULT
from tests.e2e.cluster import upstream_manifests
from tests.e2e.cluster.installation import NAMESPACE
from tests.e2e.cluster.manifests import deployment, pod, secret_object
from tests.e2e.cluster.namespace import but_api_access, new_namespace
from tests.e2e.cluster.option_examples import vault_example
from tests.e2e.cluster.vault_cluster import TLS_FILES, VaultCluster
from tests.e2e.cluster.vault_guide import run_guide
from tests.e2e.cluster.versioned_pods import CONTENT, version_by, versioned_pods
from tests.e2e.cluster.waiting import eventually
from tests.e2e.vault.classes import Entry, entry
from tests.e2e.vault.engines import database_role, enable_kv, jwt_role, put_kv
from tests.fakes.memory_folder import tmpfs_directory

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

WHILE_IT_STARTS = (
    "list of registered CSI drivers",
    "csi.sock: connect: no such file",
    "csi.sock: connect: connection refused",
)
"""Messages that kubelet may log while a driver restarts."""
NO_OTHER_SECRETS = {"syncSecret": {"enabled": False}}
"""Values of the chart that permit the driver to read only the Secrets with the HMAC keys."""
IN_NAMESPACE = f"--namespace={NAMESPACE}"
DATABASE = (
    entry("dbUsername", "database/creds/app", "username"),
    entry("dbPassword", "database/creds/app", "password"),
)
PKI = entry(
    "certs",
    "pki/issue/web",
    method="PUT",
    secretArgs={"common_name": "test.example.com", "ttl": "24h"},
)


async def test_1_a_pod_reads_files_with_their_modes(bao: VaultCluster) -> None:
    """KV 2, one object with its own mode."""
    await put_kv(bao.openbao, "secret/data/foo1", bar="hello1")
    await put_kv(bao.openbao, "secret/data/foo2", bar="hello2")
    async with new_namespace(bao.installed, "inline") as shop:
        await bao.role("inline", "secret/data/foo1", "secret/data/foo2", namespace=shop.name)
        objects = (
            entry("secret-1", "/v1/secret/data/foo1", "bar", filePermission=0o624),
            entry("secret-2", "/v1/secret/data/foo2", "bar"),
        )
        await shop.apply(bao.vault_class("web", *objects, role="inline"), pod("web", "web"))
        await shop.ready("web")
        assert "hello1" == await shop.read("web", "/mnt/web/secret-1")
        assert "hello2" == await shop.read("web", "/mnt/web/secret-2")
        modes = await shop.run("web", "sh", "-c", "cd /mnt/web/..data/ && stat -c %a secret-*")
        assert ["624", "644"] == modes.split()


async def test_2_a_secret_is_synced_while_a_deployment_has_pods(bao: VaultCluster) -> None:
    """Three spellings of paths, an encoding, a variable, a label, an owner; through mutual TLS."""
    await put_kv(bao.openbao, "secret/data/sync1", bar="hello-sync1")
    await put_kv(bao.openbao, "secret/data/sync2", bar="hello-sync2")
    await put_kv(bao.openbao, "secret/data/sync3", bar="aGVsbG8tc3luYzM=")
    async with new_namespace(bao.installed, "sync") as shop:
        await bao.role("sync", "secret/data/+", namespace=shop.name)
        objects = (
            entry("secret-1", "/v1/secret/data/sync1", "bar"),
            entry("secret-2", "v1/secret/data/sync2", "bar"),
            entry("secret-3", "secret/data/sync3", "bar", encoding="base64"),
        )
        mirrored = secret_object(
            "kvsecret",
            {"pwd": "secret-1", "username": "secret-2", "decoded": "secret-3"},
            labels={"environment": "test"},
        )
        await shop.apply(
            bao.vault_class("web", *objects, role="sync", mutual=True, secret_objects=[mirrored]),
            deployment("web", "web", env={"SECRET_USERNAME": ("kvsecret", "username")}),
        )
        await shop.wait("condition=Available", "deployment/web")
        values = {"pwd": "hello-sync1", "username": "hello-sync2", "decoded": "hello-sync3"}
        assert values == await shop.secret_data("kvsecret")
        seen = await shop.run("deployment/web", "sh", "-c", 'printf %s "$SECRET_USERNAME"')
        assert "hello-sync2" == seen
        labels = (await shop.get("secret", "kvsecret"))["metadata"]["labels"]
        assert "test" == labels["environment"]
        await shop.owner_count("kvsecret", 1)
        await shop.delete("deployment/web")
        await shop.secret_removed("kvsecret")


async def test_3_a_secret_provider_class_of_another_namespace_cannot_be_used(
    bao: VaultCluster,
) -> None:
    """The event of the pod names the missing one."""
    async with (
        new_namespace(bao.installed, "classes") as there,
        new_namespace(bao.installed, "no-classes") as here,
    ):
        await there.apply(bao.vault_class("web", entry("x", "secret/data/foo1", "bar"), role="x"))
        await here.apply(pod("web", "web"))
        said = await here.says("FailedMount", "failed to get secretproviderclass no-classes/web")
        assert "not found" in said


async def test_4_a_pod_has_two_secret_provider_classes(bao: VaultCluster) -> None:
    """Two volumes, two Secrets, two variables."""
    await put_kv(bao.openbao, "secret/data/one", bar="of one")
    await put_kv(bao.openbao, "secret/data/two", bar="of two")
    async with new_namespace(bao.installed, "two-classes") as shop:
        await bao.role("two-classes", "secret/data/+", namespace=shop.name)
        for name in ("one", "two"):
            mirrored = secret_object(f"{name}-secret", {"value": "file"})
            wanted = entry("file", f"secret/data/{name}", "bar")
            await shop.apply(
                bao.vault_class(name, wanted, role="two-classes", secret_objects=[mirrored])
            )
        env = {"ONE": ("one-secret", "value"), "TWO": ("two-secret", "value")}
        await shop.apply(pod("web", "one", "two", env=env))
        await shop.ready("web")
        assert "of one" == await shop.read("web", "/mnt/one/file")
        assert "of two" == await shop.read("web", "/mnt/two/file")
        seen = await shop.run("web", "sh", "-c", 'printf "%s, %s" "$ONE" "$TWO"')
        assert "of one, of two" == seen


async def test_5_a_certificate_is_issued_with_arguments(bao: VaultCluster) -> None:
    """The file contains the complete response as JSON."""
    async with new_namespace(bao.installed, "pki") as shop:
        await bao.role("pki", "pki/issue/web", namespace=shop.name)
        await shop.apply(bao.vault_class("web", PKI, role="pki"), pod("web", "web"))
        await shop.ready("web")
        data = json.loads(await shop.read("web", "/mnt/web/certs"))["data"]
        certificate = x509.load_pem_x509_certificate(data["certificate"].encode())
        assert "CN=test.example.com" == certificate.subject.rfc4514_string()
        authority = x509.load_pem_x509_certificate(data["issuing_ca"].encode())
        certificate.verify_directly_issued_by(authority)


async def test_6_database_credentials_are_valid_while_the_pod_exists(bao: VaultCluster) -> None:
    """Name and password belong to one lease, which is revoked with the volume."""
    async with new_namespace(bao.installed, "database") as shop:
        await bao.role("database", "database/creds/app", namespace=shop.name)
        await shop.apply(bao.vault_class("web", *DATABASE, role="database"), pod("web", "web"))
        await shop.ready("web")
        name = await shop.read("web", "/mnt/web/dbUsername")
        password = await shop.read("web", "/mnt/web/dbPassword")
        assert name == await bao.postgres.login(name, password)
        await shop.delete("pod/web")
        assert name not in await _users_but(bao, name)


@pytest_asyncio.fixture(loop_scope="session")
async def keeping(bao: VaultCluster) -> AsyncIterator[VaultCluster]:
    """The driver stores leases on a tmpfs, wherever /run of this machine is."""
    with tmpfs_directory() as leases:
        await bao.install(leaseDir=str(leases))
        yield bao
        await bao.install()


async def test_database_credentials_survive_a_driver_restart(keeping: VaultCluster) -> None:
    """The new driver pod renews the lease, keeps the files, and revokes the lease with the pod."""
    bao = keeping
    await database_role(bao.openbao, "lasting", ttl="30s", max_ttl="1h")
    async with new_namespace(bao.installed, "lasting-user") as shop:
        await bao.role("lasting", "database/creds/lasting", namespace=shop.name)
        objects = (
            entry("dbUsername", "database/creds/lasting", "username"),
            entry("dbPassword", "database/creds/lasting", "password"),
        )
        await shop.apply(bao.vault_class("web", *objects, role="lasting"), pod("web", "web"))
        await shop.ready("web")
        name = await shop.read("web", "/mnt/web/dbUsername")
        password = await shop.read("web", "/mnt/web/dbPassword")
        await bao.installed.restart_driver()
        mark = bao.openbao.audit.mark()

        async def renewed() -> bool | None:
            entries = bao.openbao.audit.entries(after=mark)
            renewals = [one for one in entries if one.path.startswith("sys/leases/renew")]
            return True if len([one for one in renewals if not one.error]) >= 2 else None

        await eventually(renewed, "two renewals by the new driver", seconds=90)
        assert name == await bao.postgres.login(name, password)
        assert [] == bao.openbao.audit.of_path("database/creds/lasting", after=mark)
        await shop.delete("pod/web")
        assert name not in await _users_but(bao, name)


async def _users_but(bao: VaultCluster, name: str) -> list[str]:
    """Wait until a user is removed; return the remaining ones."""

    async def removed() -> list[str] | None:
        users = await bao.postgres.made_users()
        return None if name in users else users

    return await eventually(removed, f"user {name} to be removed")


async def test_7_one_secret_provider_class_has_database_kv_and_pki(bao: VaultCluster) -> None:
    """At most two logins: a shared one, and one for the dynamic secrets of the pod."""
    await put_kv(bao.openbao, "secret/data/all", bar="hello")
    async with new_namespace(bao.installed, "all-engines") as shop:
        paths = ("secret/data/all", "database/creds/app", "pki/issue/web")
        await bao.role("all-engines", *paths, namespace=shop.name)
        mark = bao.openbao.audit.mark()
        kv = entry("secret-1", "secret/data/all", "bar")
        await shop.apply(
            bao.vault_class("web", *DATABASE, kv, PKI, role="all-engines"), pod("web", "web")
        )
        await shop.ready("web")
        assert len(bao.openbao.audit.logins(after=mark)) <= 2
        files = await shop.run("web", "sh", "-c", "cd /mnt/web && ls")
        assert ["certs", "dbPassword", "dbUsername", "secret-1"] == sorted(files.split())


async def test_8_a_wrong_service_account_is_refused_with_the_error_of_the_server(
    bao: VaultCluster,
) -> None:
    """The event contains the remedy; a pod with the right account starts."""
    async with new_namespace(bao.installed, "accounts") as shop:
        await put_kv(bao.openbao, "secret/data/accounts", bar="hello")
        await bao.role("accounts", "secret/data/accounts", namespace=shop.name, account="right")
        for account in ("right", "wrong"):
            await shop.kubectl("create", "serviceaccount", account)
        wanted = entry("file", "secret/data/accounts", "bar")
        await shop.apply(
            bao.vault_class("web", wanted, role="accounts"),
            pod("right", "web", serviceAccountName="right"),
            pod("wrong", "web", serviceAccountName="wrong"),
        )
        await shop.ready("right")
        said = await shop.says("FailedMount", "service account name not authorized")
        assert "the role does not permit this service account" in said
        assert "bound_service_account_names=wrong" in said


async def test_9_a_namespace_of_the_server(bao: VaultCluster) -> None:
    """Engines, roles and the auth method belong to that namespace."""
    inner = "team"
    openbao = bao.openbao
    await openbao.write(f"sys/namespaces/{inner}", {})
    await enable_kv(openbao, "secret", version=2, namespace=inner)
    await openbao.write("secret/data/foo", {"data": {"bar": "of the team"}}, namespace=inner)
    policy = 'path "secret/data/foo" { capabilities = ["read"] }'
    await openbao.write("sys/policies/acl/team", {"policy": policy}, namespace=inner)
    await openbao.write("sys/auth/jwt", {"type": "jwt"}, namespace=inner)
    cluster = bao.installed.cluster
    discovery = {
        "oidc_discovery_url": cluster.server.address.url,
        "oidc_discovery_ca_pem": cluster.ca.read_text(),
    }
    await openbao.write("auth/jwt/config", discovery, namespace=inner)
    async with new_namespace(bao.installed, "vault-namespace") as shop:
        role = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["vault"],
            "bound_subject": f"system:serviceaccount:{shop.name}:default",
            "token_policies": ["team"],
        }
        await openbao.write("auth/jwt/role/team", role, namespace=inner)
        await shop.apply(
            bao.vault_class(
                "web",
                entry("file", "secret/data/foo", "bar"),
                role="team",
                vaultNamespace=inner,
                vaultAuthMountPath="jwt",
            ),
            pod("web", "web"),
        )
        await shop.ready("web")
        assert "of the team" == await shop.read("web", "/mnt/web/file")


async def test_10_a_custom_audience(bao: VaultCluster) -> None:
    """The SecretProviderClass and the role name it; a token for another audience is refused."""
    async with new_namespace(bao.installed, "audience") as shop:
        await put_kv(bao.openbao, "secret/data/audience", bar="hello")
        await bao.role(
            "audience", "secret/data/audience", namespace=shop.name, audience="team-vault"
        )
        wanted = entry("file", "secret/data/audience", "bar")
        await shop.apply(
            bao.vault_class("web", wanted, role="audience", audience="team-vault"),
            bao.vault_class("other", wanted, role="audience"),
            pod("web", "web"),
            pod("other", "other"),
        )
        await shop.ready("web")
        assert "hello" == await shop.read("web", "/mnt/web/file")
        said = await shop.says("FailedMount", "the token has another audience")
        assert "vault read auth/kubernetes/role/audience" in said


async def test_10_an_audience_that_kubelet_sends_no_token_for(bao: VaultCluster) -> None:
    """The event names the audience to add; with `createPodTokens`, the driver requests a token."""
    async with new_namespace(bao.installed, "unsent") as shop:
        await put_kv(bao.openbao, "secret/data/unsent", bar="hello")
        await bao.role("unsent", "secret/data/unsent", namespace=shop.name, audience="unsent")
        wanted = entry("file", "secret/data/unsent", "bar")
        await shop.apply(
            bao.vault_class("web", wanted, role="unsent", audience="unsent"), pod("off", "web")
        )
        said = await shop.says("FailedMount", "no service-account token for the audience 'unsent'")
        assert "tokenRequests: [{audience: unsent}]" in said
        await bao.install(createPodTokens=True)
        try:
            await shop.apply(pod("on", "web"))
            await shop.ready("on")
            assert "hello" == await shop.read("on", "/mnt/web/file")
        finally:
            await bao.install()


async def test_11_object_versions_use_the_hmac_key_in_a_secret(bao: VaultCluster) -> None:
    """They survive pods and driver restarts, and change with the content."""
    await bao.install(**NO_OTHER_SECRETS)
    async with versioned_pods(bao, "versions") as pods:
        key = await bao.hmac_key()
        assert 32 == len(key)
        first = await pods.version_with(key)
        assert first == await pods.version_of_a_new_pod()
        await bao.installed.restart_driver()
        assert first == await pods.version_with(key)
        await put_kv(bao.openbao, "secret/data/versions", bar="second")
        await pods.shop.reads("web", "/mnt/web/file", "second")
        second = version_by(key, pods.wanted, "second")

        async def changed() -> bool | None:
            return (await pods.version()) == second or None

        await eventually(changed, "another version in the pod status")


async def test_11_a_deleted_hmac_secret_is_created_again(bao: VaultCluster) -> None:
    """With a new key and so new versions, if the driver may create Secrets."""
    await bao.install(versionHmac={"create": True}, **NO_OTHER_SECRETS)
    try:
        async with versioned_pods(bao, "new-key") as pods:
            await bao.hmac_key_exists()
            old = await bao.hmac_key()
            first = await pods.version_with(old)
            await bao.installed.kubectl(
                "delete", f"secret/{VAULT.default_hmac_secret}", IN_NAMESPACE
            )
            await pods.version_of_a_new_pod()
            await bao.hmac_key_exists()
            new = await bao.hmac_key()
            assert old != new
            second = await pods.version_with(new)
            assert first != second
            await bao.installed.restart_driver()
            assert second == await pods.version_with(new)
    finally:
        await bao.install()


async def test_11_without_access_to_the_hmac_secret_versions_survive_a_driver_restart(
    bao: VaultCluster,
) -> None:
    """They use a key of the node, and no mount fails."""
    binding = "rolebinding/secretprovider-version-hmac-rolebinding"
    await bao.install(**NO_OTHER_SECRETS)
    await bao.installed.kubectl("delete", binding, IN_NAMESPACE)
    await bao.installed.restart_driver()
    try:
        async with versioned_pods(bao, "no-right") as pods:
            first = await pods.version()
            assert first
            assert version_by(await bao.hmac_key(), pods.wanted, CONTENT) != first
            await bao.installed.restart_driver()
            assert first == await pods.version_of_a_new_pod()
            assert "rejected the request to get it (403)" in await bao.installed.driver_log()
            events = await pods.shop.kubectl("get", "events")
            failed = but_api_access(line for line in events.splitlines() if "FailedMount" in line)
            assert [] == [
                line for line in failed if not any(each in line for each in WHILE_IT_STARTS)
            ]
    finally:
        await bao.install()


async def test_12_the_server_verifies_tokens_with_published_keys(bao: VaultCluster) -> None:
    """auth/jwt with the JWKS of the cluster."""
    async with new_namespace(bao.installed, "jwt") as shop:
        await put_kv(bao.openbao, "secret/data/jwt", bar="hello")
        await bao.role("jwt", "secret/data/jwt", namespace=shop.name)
        subject = f"system:serviceaccount:{shop.name}:default"
        await jwt_role(bao.openbao, "jwt", "jwt", subject=subject, audience="vault")
        wanted: Entry = entry("file", "secret/data/jwt", "bar")
        await shop.apply(
            bao.vault_class("web", wanted, role="jwt", vaultAuthMountPath="jwt"), pod("web", "web")
        )
        await shop.ready("web")
        assert "hello" == await shop.read("web", "/mnt/web/file")


async def test_examples_of_options_work_with_openbao(bao: VaultCluster) -> None:
    """Files of the user of the container; variables that are in no Secret."""
    await put_kv(bao.openbao, "secret/data/db", password="first $HOME\nsecond")
    await put_kv(bao.openbao, "secret/data/api", key="canary-api")
    await put_kv(bao.openbao, "secret/data/tls", bundle="it's a file")
    async with new_namespace(bao.installed, "options") as shop:
        paths = [f"secret/data/{name}" for name in ("db", "api", "tls")]
        await bao.role("options", *paths, namespace=shop.name, account="web")
        for name in ("file-owner", "environment"):
            await shop.apply(*vault_example(name, bao, "options"))
        await shop.ready("file-owner-vault", "environment-vault")
        folder = "/mnt/secrets-store"
        assert "first $HOME\nsecond" == await shop.read("file-owner-vault", f"{folder}/db-password")
        with pytest.raises(AssertionError, match="Permission denied"):
            await shop.read("file-owner-vault", f"{folder}/api-key")
        environment = (await shop.read("environment-vault", "/proc/1/environ")).split("\0")
        assert {"DB_PASSWORD=first $HOME\nsecond", "PAYMENT_API_KEY=canary-api"} <= set(environment)
        assert [] == (await shop.get("secrets"))["items"]


async def test_guide_commands_work_unchanged(bao: VaultCluster, tmp_path: Path) -> None:
    """docs/guides/vault.md, except for the laptop section, which has its own test."""
    output = await run_guide(bao, tmp_path)
    assert 3 == output.count("Hello!"), output
    assert "-----BEGIN CERTIFICATE-----" in output
    assert "pod/vault-database condition met\nv-kubernet-app-" in output


async def test_upstream_manifests_run_the_keyferry_provider(bao: VaultCluster) -> None:
    """With upstream's permissions and arguments: the provider creates the Secret and tokens."""
    theirs = upstream_manifests
    folder = bao.installed.cluster.kubelet_root.parent / "providers"
    kubectl = bao.installed.kubectl
    await bao.install(builtinProviders=["azure"], tokenRequests=[])
    await bao.installed.make_namespace(theirs.NAMESPACE)
    try:
        documents = theirs.upstream_provider(
            sockets=folder, tls=bao.openbao.ca.parent, tls_mounted_at=TLS_FILES
        )
        await kubectl.apply(*documents, namespace=theirs.NAMESPACE)
        await kubectl(
            "rollout", "status", f"daemonset/{theirs.NAME}", "--timeout=110s", "--namespace=csi"
        )
        async with versioned_pods(bao, "original-manifests") as pods:
            assert CONTENT == await pods.shop.read("web", "/mnt/web/file")
            # The first mount uses the key of the node if the Secret takes more than two seconds.
            await bao.hmac_key_exists(theirs.KEY, namespace=theirs.NAMESPACE)
            key = await bao.hmac_key(theirs.KEY, namespace=theirs.NAMESPACE)
            first = await pods.version_with(key)
            assert first == await pods.version_of_a_new_pod()
            await kubectl("delete", f"secret/{theirs.KEY}", "--namespace=csi")
            await pods.version_of_a_new_pod()
            await bao.hmac_key_exists(theirs.KEY, namespace=theirs.NAMESPACE)
            new = await bao.hmac_key(theirs.KEY, namespace=theirs.NAMESPACE)
            assert first != await pods.version_with(new)
    finally:
        await kubectl("delete", "namespace", theirs.NAMESPACE, "--timeout=110s")
        (folder / "vault.sock").unlink(missing_ok=True)
        await bao.install()
