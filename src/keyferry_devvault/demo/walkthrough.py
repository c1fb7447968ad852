"""`keyferry demo`: runs the complete flow end to end, on this machine.

`environment` has the processes and the folder in which it runs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import sys
import time
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import click

from keyferry.cli.commands import command
from keyferry.cli.local.files import visible_files
from keyferry.errors import InternalError
from keyferry.formats.kubernetes_yaml import parse_documents
from keyferry_devvault.demo.environment import DemoEnvironment, Interrupts, stop_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

VAULT = "contoso"
SECRET = "sql-password"  # noqa: S105 - a name
TENANT = "72f988bf-0000-4000-8000-0000000000d3"
CLIENT = "6b1c7d1e-0000-4000-8000-00000000c11e"
SPC_NAME = "azure-kvname"
POD = "nginx-secrets-store-inline"
_MAX_YAML = 1 << 20


@command(examples=("keyferry demo", "keyferry demo --keep"))
@click.option(
    "--keep",
    is_flag=True,
    help="Leave everything running, so that the printed commands can be repeated.",
)
@click.option(
    "--stop",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Stop a demo that was started with --keep, and remove its folder.",
)
@click.option(
    "--show-values",
    is_flag=True,
    help="Print the secret values of the demo instead of masking them.",
)
def demo(*, keep: bool, stop: Path | None, show_values: bool) -> None:
    """Run the complete flow end to end: vault, driver, volume, Secret, rotation."""
    if stop is not None:
        if keep or show_values:
            raise click.UsageError("--stop excludes the other options.")
        stop_kept(stop)
        click.echo(f"Stopped the demo and removed {stop}.")
        return
    interrupts = Interrupts()
    try:
        with DemoEnvironment(interrupts) as environment:
            _Walkthrough(environment, show_values=show_values).run(keep=keep)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. The demo has removed everything that it created.", err=True)
        sys.exit(130)


class _Walkthrough:
    """Runs and prints the steps of the demo.

    A line that begins with `$` is a command that does what the step did, and can be repeated while
    the environment is kept.

    Args:
        environment: the processes and folders.
        show_values: whether secret values are printed unmasked.
    """

    def __init__(self, environment: DemoEnvironment, *, show_values: bool) -> None:
        self._environment = environment
        self._show_values = show_values
        self._step_count = 0
        self._version = 0
        self._color = False if os.environ.get("NO_COLOR") else None

    def run(self, *, keep: bool) -> None:
        """Run all steps; without the last two, if everything is to be kept.

        Raises:
            InternalError: a step had a wrong result.
        """
        start = time.perf_counter()
        self._introduce(keep=keep)
        self._start_vault()
        self._put_secret("Store a secret in the vault")
        self._allow_identity()
        self._apply_spc()
        self._start_driver()
        self._publish("Publish the volume of a Pod, as kubelet does", cluster="apply -f {pod}")
        before = self._show_contents()
        self._put_secret("Store a new version of the secret")
        self._publish("Publish again, as kubelet does about every minute")
        if before == self._show_contents():
            raise InternalError("file and Secret do not contain the new version")
        self._print("  File and Secret contain the new version.")
        if not keep:
            self._unpublish()
            self._stop()
        self._print(f"\nDone in {time.perf_counter() - start:.1f} s.")
        if keep:
            self._keep()
        else:
            self._print("To repeat the commands yourself: keyferry demo --keep")

    def _introduce(self, *, keep: bool) -> None:
        self._print(
            "This demo runs the complete flow: from a secret in a vault to a Pod, with real"
        )
        self._print("processes and a real CSI socket. No request leaves this machine.")
        self._print(
            "You are root: the volume is a tmpfs."
            if self._environment.tmpfs
            else "You are not root: the volume is a private folder on disk, not a tmpfs."
        )
        self._print("")
        self._print(f"DEMO={self._environment.folder}", fg="cyan")
        if not keep:
            self._print("The demo removes this folder when it ends.")

    def _start_vault(self) -> None:
        with self._step("Start the emulator of Key Vault, Entra ID and IMDS"):
            self._environment.start_vault()
            self._print_process("vault", self._environment.vault_arguments())

    def _put_secret(self, title: str) -> None:
        self._version += 1
        value = f"demo-{secrets.token_hex(6)}"
        file = self._environment.folder / f"value-{self._version}"
        file.write_text(value)
        arguments = ("set", VAULT, SECRET, "--value-file", str(file))
        with self._step(title):
            self._print_devvault(*arguments)
            self._print_hint(
                "in Azure",
                f"az keyvault secret set --vault-name {VAULT} --name {SECRET} --file {file}",
            )
            self._environment.devvault(*arguments)
        self._print(f"  value: {self._mask(value.encode())}")

    def _allow_identity(self) -> None:
        arguments = ("identity", "add-managed", CLIENT, "--tenant", TENANT, "--vault", VAULT)
        with self._step("Permit the managed identity of this machine to read the secret"):
            self._print_devvault(*arguments)
            self._print_hint(
                "in Azure",
                f"az keyvault set-policy --name {VAULT} --secret-permissions get --spn {CLIENT}",
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
        environment = self._environment
        environment.spc.write_text(text)
        (environment.folder / "pod.yaml").write_text(_read_article("pod.yaml"))
        with self._step("Apply a SecretProviderClass"):
            self._print_command(f"cp {environment.spc} {environment.manifests}/")
            self._print_hint("in a cluster", f"kubectl apply -f {environment.spc}")
            shutil.copy(environment.spc, environment.manifests)
        shown = ("kind:", "  provider:", "objectName:", "objectAlias:", "  - secretName:", "key:")
        for line in text.splitlines():
            if any(word in line for word in shown):
                self._print(f"  | {line.split('#')[0].rstrip()}", dim=True)

    def _start_driver(self) -> None:
        with self._step("Start the driver"):
            self._environment.start_driver()
            self._print_process("driver", self._environment.driver_arguments())

    def _publish(self, title: str, *, cluster: str = "") -> None:
        environment = self._environment
        with self._step(title):
            self._print_call("NodePublishVolume")
            if cluster:
                self._print_hint(
                    "in a cluster", f"kubectl {cluster}".format(pod=environment.folder / "pod.yaml")
                )
            environment.publish(class_name=SPC_NAME, pod=POD)

    def _show_contents(self) -> tuple[bytes, bytes]:
        """Print the file and the Secret, and return the contents of both."""
        target, secret = self._environment.target, self._environment.secret("default", "sqlserver")
        with self._step("Show the file in the volume"):
            self._print_command(f"ls -lL {target}")
            self._print_hint("in a cluster", f"kubectl exec {POD} -- ls -lL /mnt/secrets-store")
            visible = visible_files(target)
        for file in visible:
            self._print(f"  {file.mode:04o}  {file.path}  {self._mask(file.contents)}")
        with self._step("Show the Kubernetes Secret"):
            self._print_command(f"cat {secret}")
            self._print_hint("in a cluster", "kubectl get secret sqlserver --output yaml")
            value = _secret_value(secret, "dbpassword")
        self._print(f"  Secret sqlserver, key dbpassword: {self._mask(value)}")
        contents = [file.contents for file in visible]
        if contents != [value]:
            raise InternalError("the file and the Secret differ")
        return contents[0], value

    def _unpublish(self) -> None:
        environment = self._environment
        with self._step("Unpublish the volume, as kubelet does after the Pod is deleted"):
            self._print_call("NodeUnpublishVolume")
            self._print_hint("in a cluster", f"kubectl delete pod {POD}")
            environment.unpublish()
        leftovers = environment.leftovers()
        if leftovers:
            raise InternalError(f"not removed: {', '.join(leftovers)}")
        self._print("  File, mount, Secret and pod status are removed.")

    def _stop(self) -> None:
        with self._step("Stop the driver and the emulator"):
            pids = (self._environment.pid(name) for name in ("driver", "vault"))
            self._print("  SIGTERM to the processes {} and {}".format(*pids))
            self._environment.stop()

    def _keep(self) -> None:
        environment = self._environment
        environment.keep()
        self._print("Everything is still running. Set the variable to repeat the commands above:")
        self._print(f"  $ DEMO={environment.folder}", fg="cyan")
        self._print("The same without a driver:")
        mount = f"mount {environment.spc} {environment.folder}/by-hand"
        self._print_command(f"keyferry {mount} --dev-vault {environment.vault}")
        self._print_command(f"keyferry unmount {environment.folder}/by-hand")
        self._print_command(
            f"keyferry get {environment.spc} SECRET_1 --dev-vault {environment.vault}"
        )
        self._print("Stop everything and remove the folder:")
        self._print(f"  $ keyferry demo --stop {environment.folder}", fg="cyan")

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        self._step_count += 1
        self._print("")
        self._print(f"{self._step_count}. {title}", bold=True)
        start = time.perf_counter()
        yield
        self._print(f"  took {(time.perf_counter() - start) * 1000:.0f} ms", fg="green")

    def _print_devvault(self, *arguments: str) -> None:
        command = " ".join(("keyferry", "devvault", *arguments))
        self._print_command(f"{command} --data {self._environment.vault}")

    def _print_command(self, command: str) -> None:
        """Print a command that does what the step does, now or later."""
        self._print(f"  $ {self._shorten(command)}", fg="cyan")

    def _print_process(self, name: str, arguments: tuple[str, ...]) -> None:
        """Print the command that a process runs."""
        command = self._shorten(" ".join(("keyferry", *arguments)))
        self._print(f"  process {self._environment.pid(name)}: {command}", fg="cyan")

    def _print_call(self, method: str) -> None:
        """Print the gRPC call that the step makes; kubelet makes it in a cluster."""
        self._print(self._shorten(f"  call {method} at unix:{self._environment.socket}"), fg="cyan")

    def _print_hint(self, where: str, command: str) -> None:
        """Print the command that does the same elsewhere."""
        self._print(f"  {where}: {self._shorten(command)}", dim=True)

    def _shorten(self, text: str) -> str:
        return text.replace(str(self._environment.folder), "$DEMO")

    def _print(self, text: str, **style: Any) -> None:
        click.echo(click.style(text, **style), color=self._color)

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
