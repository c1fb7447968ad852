"""`keyferry demo`: runs the complete flow end to end, on this machine.

`environment` has the processes and the folder in which it runs.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
import time
from contextlib import contextmanager
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from keyferry.cli.local.files import visible_files
from keyferry.errors import InternalError
from keyferry.formats.kubernetes_yaml import parse_documents
from keyferry_devvault.demo.environment import DemoEnvironment, Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VAULT = "contoso"
SECRET = "sql-password"  # noqa: S105 - a name
TENANT = "72f988bf-0000-4000-8000-0000000000d3"
CLIENT = "6b1c7d1e-0000-4000-8000-00000000c11e"
SPC_NAME = "azure-kvname"
POD = "nginx-secrets-store-inline"
_MAX_YAML = 1 << 20


@click.command()
@click.option(
    "--show-values",
    is_flag=True,
    help="Print the secret values of the demo instead of masking them.",
)
def demo(show_values: bool) -> None:
    """Run the complete flow end to end: vault, driver, volume, Secret, rotation."""
    interrupts = Interrupts()
    try:
        with DemoEnvironment(interrupts) as environment:
            _Walkthrough(
                environment, Console(highlight=False, soft_wrap=True), show_values=show_values
            ).run()
    except KeyboardInterrupt:
        click.echo("\nInterrupted. The demo has removed everything that it created.", err=True)
        sys.exit(130)


class _Walkthrough:
    """Runs and prints the steps of the demo.

    Args:
        environment: the processes and folders.
        console: the output.
        show_values: whether secret values are printed unmasked.
    """

    def __init__(
        self, environment: DemoEnvironment, console: Console, *, show_values: bool
    ) -> None:
        self._environment = environment
        self._console = console
        self._show_values = show_values
        self._step_count = 0

    def run(self) -> None:
        """Run all steps.

        Raises:
            InternalError: a step had a wrong result.
        """
        start = time.perf_counter()
        self._print(
            "This demo runs the complete flow end to end: from a secret in a vault to a pod,"
        )
        self._print("with real processes and a real CSI socket. No request leaves this machine.")
        self._print(f"DEMO={self._environment.folder}; the demo removes this folder at the end.")
        self._print(
            "You are root: the volume is a tmpfs."
            if self._environment.tmpfs
            else "You are not root: the volume is a private folder on disk, not a tmpfs."
        )
        self._start_vault()
        self._put_secret("Store a secret in the vault")
        self._allow_identity()
        self._apply_spc()
        self._start_driver()
        self._publish("Publish the volume of the pod, as kubelet does (NodePublishVolume)")
        before = self._show_contents()
        self._put_secret("Set a new version of the secret")
        self._publish("Publish again, as kubelet does about every minute")
        if before == self._show_contents():
            raise InternalError("file and Secret do not contain the new version")
        self._print("  File and Secret contain the new version.")
        self._unpublish()
        self._stop()
        self._print(f"\nDone in {time.perf_counter() - start:.1f} s.")
        self._print('Next: "Mount a secret on your machine" in docs/getting-started.md.')

    def _start_vault(self) -> None:
        environment = self._environment
        with self._step("Start the development vault, which emulates Key Vault, Entra ID and IMDS"):
            self._print_command(f"keyferry devvault run --data {environment.vault}")
            environment.start_vault()

    def _put_secret(self, title: str) -> None:
        value = f"demo-{secrets.token_hex(6)}"
        with self._step(title):
            self._print_command(
                f"keyferry devvault set {VAULT} {SECRET} --data {self._environment.vault}",
                f"az keyvault secret set --name {SECRET} --value ... --vault-name {VAULT}",
            )
            self._environment.devvault("set", VAULT, SECRET, text=value)
        self._print(f"  value: {self._mask(value.encode())}")

    def _allow_identity(self) -> None:
        with self._step("Permit the managed identity of this machine to read the secret"):
            arguments = ("identity", "add-managed", CLIENT, "--tenant", TENANT, "--vault", VAULT)
            self._print_command(
                f"keyferry devvault {' '.join(arguments)} --data {self._environment.vault}",
                f"az keyvault set-policy -n {VAULT} --secret-permissions get --spn {CLIENT}",
            )
            self._environment.devvault(*arguments)

    def _apply_spc(self) -> None:
        text = Template(_read_article("secretproviderclass.yaml")).substitute(
            clientId=CLIENT,
            keyVaultName=VAULT,
            secretName=SECRET,
            tenantId=TENANT,
            KeyvaultResourceGroupName="demo",
            subscriptionId="00000000-0000-0000-0000-000000000000",
        )
        with self._step("Apply a SecretProviderClass"):
            path = self._environment.manifests / "secretproviderclass.yaml"
            self._print_command(
                f"envsubst < secretproviderclass.yaml > {path}",
                "envsubst < secretproviderclass.yaml | kubectl apply -f -",
            )
            path.write_text(text)
        shown = ("kind:", "  provider:", "objectName:", "objectAlias:", "  - secretName:", "key:")
        for line in text.splitlines():
            if any(word in line for word in shown):
                self._print(f"  | {line.split('#')[0].rstrip()}", style="dim")

    def _start_driver(self) -> None:
        with self._step("Start the driver as a process with a CSI socket"):
            self._print_command(" ".join(("keyferry", *self._environment.driver_arguments())))
            self._environment.start_driver()

    def _publish(self, title: str) -> None:
        environment = self._environment
        with self._step(title):
            self._print_command(
                f"keyferry mount {environment.manifests}/secretproviderclass.yaml by-hand"
                f" --dev-vault {environment.vault}",
                "kubectl apply -f pod.yaml",
                prompt="without a driver:",
            )
            environment.publish(class_name=SPC_NAME, pod=POD)

    def _show_contents(self) -> tuple[bytes, bytes]:
        """Print the file and the Secret, and return the contents of both."""
        target, secret = self._environment.target, self._environment.secret("default", "sqlserver")
        with self._step("Show the file in the volume"):
            self._print_command(
                f"ls -lL {target}", f"kubectl exec {POD} -- ls -lL /mnt/secrets-store"
            )
        visible = visible_files(target)
        for file in visible:
            self._print(f"  {file.mode:04o}  {file.path}  {self._mask(file.contents)}")
        with self._step("Show the Kubernetes Secret"):
            self._print_command(f"cat {secret}", "kubectl get secret sqlserver -o yaml")
        value = _secret_value(secret, "dbpassword")
        self._print(f"  Secret sqlserver, key dbpassword: {self._mask(value)}")
        contents = [file.contents for file in visible]
        if contents != [value]:
            raise InternalError("the file and the Secret differ")
        return contents[0], value

    def _unpublish(self) -> None:
        environment = self._environment
        with self._step(
            "Unpublish the volume, as kubelet does after the pod is deleted (NodeUnpublishVolume)"
        ):
            self._print_command(
                "keyferry unmount by-hand",
                f"kubectl delete pod {POD}",
                prompt="without a driver:",
            )
            environment.unpublish()
        leftovers = environment.leftovers()
        if leftovers:
            raise InternalError(f"not removed: {', '.join(leftovers)}")
        self._print("  File, mount, Secret and pod status are removed.")

    def _stop(self) -> None:
        with self._step("Stop the driver and the vault"):
            self._print_command(f"kill {' '.join(map(str, self._environment.pids()))}")
            self._environment.stop()

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        self._step_count += 1
        self._console.print(Text(f"\n{self._step_count}. {title}", style="bold"))
        start = time.perf_counter()
        yield
        self._print(f"  took {(time.perf_counter() - start) * 1000:.0f} ms", style="green")

    def _print_command(self, local: str, cluster: str = "", *, prompt: str = "$") -> None:
        """Print the command for this step, and the one for it in a cluster."""
        local = local.replace(str(self._environment.folder), "$DEMO")
        self._print(f"  {prompt} {local}", style="cyan")
        if cluster:
            self._print(f"  in the cloud: {cluster}", style="dim")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def _mask(self, value: bytes) -> str:
        if self._show_values:
            return value.decode()
        digest = hashlib.sha256(value).hexdigest()[:8]
        return f"******** ({len(value)} bytes, sha256 {digest}...)"


def _read_article(name: str) -> str:
    return files("keyferry_devvault.demo").joinpath("article", name).read_text()


def _secret_value(manifest: Path, key: str) -> bytes:
    document = parse_documents(manifest.read_bytes(), max_bytes=_MAX_YAML)[0].value
    if not isinstance(document, dict) or not isinstance(document.get("data"), dict):
        raise InternalError(f"{manifest.name} is not a Secret")
    data = document["data"]
    assert isinstance(data, dict)
    return base64.b64decode(str(data[key]))
