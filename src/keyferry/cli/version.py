"""`keyferry version`: what to name in a bug report."""

from __future__ import annotations

import platform

from keyferry import __version__
from keyferry.cli.build import commit
from keyferry.cli.commands import command
from keyferry.cli.output import OutputFormat, output_option, print_details

PROVIDER_PROTOCOL = "v1alpha1"
"""`API_VERSION` of `keyferry.providers.api`, whose import takes 50 ms; a test compares them."""


@command(examples=("keyferry version", "keyferry version -o json"))
@output_option
def version(output: OutputFormat) -> None:
    """Print the version, the commit, and the versions of Python and of the provider protocol."""
    print_details(
        {
            "version": __version__,
            "commit": commit(),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "platform": f"{platform.system().lower()}/{platform.machine()}",
            "providerProtocol": PROVIDER_PROTOCOL,
        },
        output,
    )
