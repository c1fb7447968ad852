"""Builds the request that kubelet would send, from the files of a command."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from keyferry.cli.console import console
from keyferry.cli.local.inputs import read_credentials, read_tokens
from keyferry.cli.local.options import STDIN
from keyferry.driver.request import PublishRequest
from keyferry.kubernetes import PodRef
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT_TOKENS,
    SPC_ATTRIBUTE,
)

if TYPE_CHECKING:
    from keyferry.cli.local.options import LocalOptions
    from keyferry.cli.local.unknown_fields import UnknownFieldWarnings
    from keyferry.kubernetes.files.store import ManifestsStore


async def choose_class(options: LocalOptions, store: ManifestsStore) -> tuple[str, str]:
    """Return namespace and name of the SecretProviderClass that the options mean.

    Raises:
        KeyferryError: the file is invalid, or does not name one SecretProviderClass.
    """
    file = "standard input" if options.spc_file == STDIN else options.spc_file
    listing = await store.list_classes()
    namespace, name = listing.choose(options.spc_name, file)
    for problem in listing.problems:
        console().warn(str(problem))
    return namespace, name


def pod_context(namespace: str, name: str, target: str) -> tuple[PodRef, dict[str, str]]:
    """Return the pod that kubelet would name, and its attributes.

    Args:
        namespace: of the SecretProviderClass.
        name: of the SecretProviderClass.
        target: the mount path, which names the pod.
    """
    digest = hashlib.sha256(target.encode(errors="surrogateescape")).hexdigest()
    pod = PodRef(namespace, f"local-{digest[:10]}", digest[:32])
    return pod, {
        SPC_ATTRIBUTE: name,
        POD_NAMESPACE: pod.namespace,
        POD_NAME: pod.name,
        POD_UID: pod.uid,
    }


async def publish_request(
    options: LocalOptions, store: ManifestsStore, target: str, warnings: UnknownFieldWarnings
) -> PublishRequest:
    """Return the request that kubelet would send for a pod that is named after the target.

    Args:
        options: the SecretProviderClass and the credentials.
        store: reads the SecretProviderClass.
        target: the absolute mount path.
        warnings: prints the fields of credentials that have no effect.

    Raises:
        KeyferryError: an input file is invalid, or does not name one SecretProviderClass.
    """
    namespace, name = await choose_class(options, store)
    pod, context = pod_context(namespace, name, target)
    secrets = read_credentials(options.credentials, warnings) if options.credentials else {}
    if options.tokens:
        context[SERVICE_ACCOUNT_TOKENS] = read_tokens(options.tokens, warnings)
    return PublishRequest(
        target_path=target,
        readonly=True,
        pod=pod,
        class_name=name,
        context=context,
        secrets=secrets,
    )
