"""Examples for the help of the commands of the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.commands import Command, Group

if TYPE_CHECKING:
    import click

_CLIENT = "aaaaaaaa-0000-4000-8000-000000000001"

EXAMPLES = {
    "": ("run --data ./vault", "set contoso db-password --data ./vault"),
    "run": ("run --data ./vault", "run --listen 127.0.0.1:8443"),
    "status": ("status --data ./vault", "status -o json"),
    "tune": (
        "tune --latency 20ms --throttle 10/s",
        "tune --fault 'contoso.vault.azure.net/secrets 429 retry-after=2 x3'",
        "tune --clear",
    ),
    "set": ("set contoso db-password", "set contoso tls --value-file bundle.pem"),
    "get": ("get contoso db-password", "get contoso db-password --show-value"),
    "list": ("list contoso", "list contoso db-password -o json"),
    "disable": ("disable contoso db-password",),
    "enable": ("enable contoso db-password",),
    "delete": ("delete contoso db-password", "delete contoso db-password --recover"),
    "policy": ("policy contoso", "policy contoso system --allow get,list"),
    "token": ("token --subject system:serviceaccount:shop:web > tokens.json",),
    "key": ("key create contoso signing --kty EC",),
    "key create": ("key create contoso signing --kty EC",),
    "key import": ("key import contoso signing key.pem",),
    "key get": ("key get contoso signing",),
    "key list": ("key list contoso",),
    "key disable": ("key disable contoso signing",),
    "key enable": ("key enable contoso signing",),
    "key delete": ("key delete contoso signing",),
    "cert": ("cert create contoso web --host web.example.com",),
    "cert create": ("cert create contoso web --host web.example.com --form pem --ca",),
    "cert import": ("cert import contoso web bundle.pem",),
    "cert get": ("cert get contoso web",),
    "cert list": ("cert list contoso",),
    "cert disable": ("cert disable contoso web",),
    "cert enable": ("cert enable contoso web",),
    "cert delete": ("cert delete contoso web",),
    "identity": ("identity list",),
    "identity add-app": (f"identity add-app {_CLIENT} --no-secret --vault contoso",),
    "identity add-managed": (f"identity add-managed {_CLIENT} --vault contoso",),
    "identity federate": (f"identity federate {_CLIENT} --subject system:serviceaccount:shop:web",),
    "identity assign-pod": (f"identity assign-pod {_CLIENT} --namespace shop",),
    "identity remove": (f"identity remove {_CLIENT}",),
    "identity list": ("identity list", "identity list -o json"),
    "issuer": ("issuer list",),
    "issuer add": ("issuer add https://oidc.example.com --jwks jwks.json",),
    "issuer list": ("issuer list",),
}
"""Words after `keyferry devvault`, by the names of the command."""


def add_examples(command: click.Command, names: tuple[str, ...] = ()) -> None:
    """Add their examples to a command and to the commands below it."""
    if isinstance(command, Command | Group):
        found = EXAMPLES.get(" ".join(names), ())
        command.examples = tuple(f"keyferry devvault {words}" for words in found)
    if isinstance(command, Group):
        for name, below in command.commands.items():
            add_examples(below, (*names, name))
