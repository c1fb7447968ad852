"""Gathers from a cluster what a mount is made of, with the rights of the caller."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.doctor.checks import Check, DoctorStage, failed, in_order, ok, skipped
from keyferry.doctor.csi_drivers import unknown_driver, unsent_audience
from keyferry.doctor.preparation import Prepared, stopped
from keyferry.doctor.reported import old_environment, reported_by_controller, reported_by_driver
from keyferry.doctor.request import DEFAULT_SECONDS, ProbeRequest, WantedSecret
from keyferry.doctor.tokens import token_checks
from keyferry.driver.request import PublishRequest, mount_call
from keyferry.errors import (
    AuthorError,
    IdentityError,
    KeyferryError,
    StoreError,
    StorePermissionError,
)
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.api_errors import ApiNotFoundError
from keyferry.kubernetes.api.resources import (
    PodResource,
    SecretProviderClassResource,
    SecretResource,
    ServiceAccountResource,
)
from keyferry.kubernetes.api.syncs.resources import TokenRequestResource, sync_resource
from keyferry.kubernetes.class_check import check_class
from keyferry.kubernetes.class_codec import class_not_found_error, parse_class
from keyferry.kubernetes.names import DRIVER_NAME
from keyferry.kubernetes.object_codec import parse_pod
from keyferry.kubernetes.objects import PodRef
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from keyferry.kubernetes.syncs.objects import OPT_IN_LABEL
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
    SPC_ATTRIBUTE,
)
from keyferry.providers.registry import check_without_pod, needs_credentials, token_audiences
from keyferry.providers.service_account_tokens import subject_of
from keyferry.records import replace
from keyferry.secrets.builder import Definition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.doctor.outcomes import ExitCodeOf
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import CsiVolume, Pod, SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync

_TOKEN_SECONDS = 600
"""The shortest lifetime that Kubernetes issues."""
_TARGET = "/keyferry-doctor"


class _Subject(Struct, frozen=True):
    """What a mount is made for.

    Attributes:
        target: as kubectl names it.
        namespace: of all objects.
        service_account: its name.
        credentials: name of the Secret with credentials; "" for none.
        attributes: that kubelet or the controller adds to the parameters.
        definition: what defines the Secrets.
        node: the node of the pod; "" for none.
        driver: the name of the CSI driver.
        pod: the pod; None for a SecretProviderClass or a SecretSync.
    """

    target: str
    namespace: str
    service_account: str
    credentials: str = ""
    attributes: Mapping[str, str] | None = None
    definition: Definition = Definition.SECRET_OBJECTS
    node: str = ""
    driver: str = DRIVER_NAME
    pod: Pod | None = None


class ClusterTargets:
    """Prepares the diagnosis of objects of a cluster.

    Args:
        api: with the rights of the caller.
        namespace: of the objects.
        exit_code: returns the exit code of an error.
        seconds: the time limit of a probe.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        *,
        exit_code: ExitCodeOf,
        seconds: float = DEFAULT_SECONDS,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._exit_code = exit_code
        self._seconds = seconds

    async def secret_provider_class(self, name: str, service_account: str) -> list[Prepared]:
        """Prepare a SecretProviderClass, for a pod that would use it.

        Args:
            name: of the SecretProviderClass.
            service_account: of the pod.

        Raises:
            StoreError: the Kubernetes API is unavailable.
        """
        subject = _Subject(f"secretproviderclass/{name}", self._namespace, service_account)
        return [await self._prepare(subject, name)]

    async def pod(self, name: str) -> list[Prepared]:
        """Prepare each volume of the driver that a pod has.

        Raises:
            StoreError: the Kubernetes API is unavailable.
        """
        target = f"pod/{name}"
        try:
            manifest = await self._api.find(PodResource, self._namespace, name)
            found = parse_pod(manifest) if manifest else None
            if manifest is None or found is None:
                raise AuthorError(
                    f"pod {self._namespace}/{name} does not exist", "Check --namespace."
                )
            volumes = [
                each
                for each in found.volumes
                if each.driver == DRIVER_NAME or SPC_ATTRIBUTE in each.attributes
            ]
            if not volumes:
                raise AuthorError(
                    f"pod {self._namespace}/{name} has no volume of the driver {DRIVER_NAME}",
                    "Add a csi volume with this driver to the pod.",
                )
        except StorePermissionError as error:
            return [_without_right(target, DoctorStage.CLASS, target, error)]
        except AuthorError as error:
            return [self._stopped(target, DoctorStage.CLASS, target, error)]
        node = Field(manifest)["spec"]["nodeName"].text()
        old = await old_environment(self._api, self._namespace, name, manifest, self._exit_code)
        prepared = [await self._volume(found, each, target, node) for each in volumes]
        return [replace(each, reported=(*each.reported, *old)) for each in prepared]

    async def secret_sync(self, name: str) -> list[Prepared]:
        """Prepare a SecretSync.

        Raises:
            StoreError: the Kubernetes API is unavailable.
        """
        target = f"secretsync/{name}"
        try:
            sync = await self._find_sync(name)
            if sync.invalid is not None:
                raise sync.invalid.error()
        except StorePermissionError as error:
            return [_without_right(target, DoctorStage.CLASS, target, error)]
        except AuthorError as error:
            return [self._stopped(target, DoctorStage.CLASS, target, error)]
        subject = _Subject(
            target,
            self._namespace,
            sync.service_account,
            sync.options.credentials_secret,
            {POD_NAME: name, POD_UID: sync.ref.uid},
            Definition.SECRET_SYNC,
        )
        prepared = await self._prepare(subject, sync.class_name, sync)
        return [prepared]

    async def _find_sync(self, name: str) -> SecretSync:
        denied: StorePermissionError | None = None
        for group in (UPSTREAM_GROUP, GKE_GROUP):
            try:
                manifest = await self._api.find(sync_resource(group), self._namespace, name)
            except StorePermissionError as error:
                denied = denied or error
                continue
            if manifest is not None:
                return parse_sync(manifest, group)
        if denied is not None:
            raise denied
        raise AuthorError(
            f"SecretSync {self._namespace}/{name} does not exist",
            "Check --namespace, and that the CRD of SecretSyncs is installed.",
        )

    async def _volume(self, pod: Pod, volume: CsiVolume, target: str, node: str) -> Prepared:
        name = volume.attributes.get(SPC_ATTRIBUTE, "")
        subject = _Subject(
            f"{target} volume {volume.name}",
            self._namespace,
            pod.service_account,
            volume.secret_ref,
            {**volume.attributes, POD_NAME: pod.name, POD_UID: pod.uid},
            node=node,
            driver=volume.driver,
            pod=pod,
        )
        if not name:
            error = AuthorError(
                f"volume {volume.name} names no SecretProviderClass",
                f"Set volumeAttributes.{SPC_ATTRIBUTE}.",
            )
            return self._stopped(subject.target, DoctorStage.CLASS, volume.name, error)
        if unknown := await unknown_driver(self._api, volume.driver):
            return self._stopped(subject.target, DoctorStage.CLASS, volume.name, unknown)
        return await self._prepare(subject, name)

    # --- stages -----------------------------------------------------------------------------------

    async def _prepare(
        self, subject: _Subject, class_name: str, sync: SecretSync | None = None
    ) -> Prepared:
        place = f"{subject.namespace}/{class_name}"
        try:
            spc = await self._find_class(class_name)
            if sync is not None:
                check_without_pod(spc)
        except StorePermissionError as error:
            return _without_right(subject.target, DoctorStage.CLASS, place, error)
        except KeyferryError as error:
            if isinstance(error, StoreError):
                raise
            return self._stopped(subject.target, DoctorStage.CLASS, place, error)
        checks = [ok(DoctorStage.CLASS, place, {"provider": spc.provider})]
        account = await self._account_check(subject, sync)
        checks.append(account)
        credentials = await self._credentials(subject, spc)
        if isinstance(credentials, Check):
            checks.append(credentials)
        tokens, token_results = await self._tokens(subject, spc, is_sync=sync is not None)
        checks += token_results
        unknown = next((each for each in token_results if each.remedy and not each.exit_code), None)
        stop = next((each for each in checks if each.exit_code), None)
        if stop is None and isinstance(credentials, Check):
            stop = credentials
        if stop is not None:
            verb = "failed" if stop.exit_code else "was skipped"
            reason = f"{stop.stage} of {stop.subject} {verb}"
            checks.append(skipped(DoctorStage.OBJECT, "all objects", reason))
            return Prepared(subject.target, in_order(checks), node=subject.node)
        not_mounted = ""
        if unknown is not None:
            tokens = _placeholder_tokens(subject, token_audiences(spc) or frozenset())
            not_mounted = f"no token of {unknown.subject} may be requested"
        secrets = credentials if not isinstance(credentials, Check) else None
        if secrets:
            facts = {"keys": ", ".join(sorted(secrets))}
            place = f"{subject.namespace}/{subject.credentials}"
            checks.append(ok(DoctorStage.CREDENTIALS, place, facts))
        request = self._request(subject, spc, tokens, secrets, sync)
        request = replace(request, not_mounted=not_mounted)
        reported = await self._reported(subject, spc, sync, account)
        return Prepared(subject.target, in_order(checks), request, subject.node, reported)

    async def _reported(
        self,
        subject: _Subject,
        spc: SecretProviderClass,
        sync: SecretSync | None,
        account: Check,
    ) -> tuple[Check, ...]:
        """Return what Keyferry has reported, and a token that only the driver lacks."""
        if sync is not None:
            is_opted_in = account.facts.get(OPT_IN_LABEL) == "true"
            return reported_by_controller(sync, is_opted_in=is_opted_in)
        if subject.pod is None:
            return ()
        reported = await reported_by_driver(self._api, subject.pod, spc)
        is_mount = any(each.stage is DoctorStage.RENDERING for each in reported)
        missing = (
            await unsent_audience(self._api, token_audiences(spc) or frozenset(), subject.driver)
            if is_mount
            else None
        )
        if missing is None:
            return reported
        place = f"{subject.namespace}/{subject.service_account}"
        code = self._exit_code(missing)
        return (failed(DoctorStage.TOKEN, place, missing, exit_code=code), *reported)

    def _request(
        self,
        subject: _Subject,
        spc: SecretProviderClass,
        tokens: str,
        secrets: Mapping[str, str] | None,
        sync: SecretSync | None,
    ) -> ProbeRequest:
        pod = PodRef(subject.namespace, "keyferry-doctor", "")
        context = {
            SPC_ATTRIBUTE: spc.name,
            POD_NAME: pod.name,
            **(subject.attributes or {}),
            POD_NAMESPACE: subject.namespace,
            SERVICE_ACCOUNT: subject.service_account,
        }
        if tokens:
            context[SERVICE_ACCOUNT_TOKENS] = tokens
        publish = PublishRequest(_TARGET, True, pod, spc.name, context, secrets or {})
        call = mount_call(publish, spc)
        wanted = (sync.secret_object,) if sync is not None else spc.secret_objects
        return ProbeRequest(
            provider=spc.provider,
            parameters=spc.parameters,
            attributes=call.attributes,
            secrets=call.secrets,
            target_path=_TARGET,
            wanted_secrets=tuple(map(WantedSecret.of, wanted)),
            definition=subject.definition,
            seconds=self._seconds,
        )

    async def _find_class(self, name: str) -> SecretProviderClass:
        try:
            manifest = await self._api.find(SecretProviderClassResource, self._namespace, name)
        except ApiNotFoundError:
            manifest = None
        if manifest is None:
            raise class_not_found_error(
                self._namespace, name, "Apply it, or correct the name; check --namespace, too."
            )
        return check_class(parse_class(manifest, default_namespace=self._namespace))

    async def _account_check(self, subject: _Subject, sync: SecretSync | None) -> Check:
        stage, place = DoctorStage.SERVICE_ACCOUNT, f"{subject.namespace}/{subject.service_account}"
        try:
            manifest = await self._api.find(
                ServiceAccountResource, subject.namespace, subject.service_account
            )
        except StorePermissionError as error:
            return skipped(stage, place, error.problem, error.remedy)
        if manifest is None:
            missing = IdentityError(
                f"service account {place} does not exist",
                f"Create it: kubectl create serviceaccount {subject.service_account}"
                f" --namespace {subject.namespace}",
            )
            return failed(stage, place, missing, exit_code=self._exit_code(missing))
        if sync is None:
            return ok(stage, place)
        try:
            label = Field(manifest)["metadata"]["labels"][OPT_IN_LABEL].text()
        except FieldTypeError:
            label = ""
        return ok(stage, place, {OPT_IN_LABEL: label or "not set"})

    async def _credentials(
        self, subject: _Subject, spc: SecretProviderClass
    ) -> Mapping[str, str] | Check | None:
        """Return the data of the Secret with credentials, None without one, or what failed."""
        stage, name = DoctorStage.CREDENTIALS, subject.credentials
        if not name:
            return None
        place = f"{subject.namespace}/{name}"
        try:
            manifest = await self._api.find(SecretResource, subject.namespace, name)
            if manifest is None:
                raise IdentityError(
                    f"Secret {place} does not exist", "Create it, or correct nodePublishSecretRef."
                )
            return _decoded(manifest, place)
        except StorePermissionError as error:
            if not needs_credentials(spc):
                return None
            return skipped(stage, place, error.problem, error.remedy)
        except IdentityError as error:
            return failed(stage, place, error, exit_code=self._exit_code(error))

    # --- tokens -----------------------------------------------------------------------------------

    async def _tokens(
        self, subject: _Subject, spc: SecretProviderClass, *, is_sync: bool
    ) -> tuple[str, list[Check]]:
        """Return the tokens as kubelet sends them, and their checks."""
        audiences = token_audiences(spc)
        if audiences is None:
            return "", []
        place = f"{subject.namespace}/{subject.service_account}"
        tokens: dict[str, dict[str, str]] = {}
        checks: list[Check] = []
        # A driver can request the tokens of Vault and OpenBao itself.
        is_sent = spc.provider == "azure" and not is_sync
        if is_sent and (missing := await unsent_audience(self._api, audiences, subject.driver)):
            return "", [
                failed(DoctorStage.TOKEN, place, missing, exit_code=self._exit_code(missing))
            ]
        for audience in sorted(audiences):
            try:
                tokens[audience] = await self._issue(subject, audience)
            except StorePermissionError as error:
                return "", [skipped(DoctorStage.TOKEN, place, error.problem, error.remedy)]
            except (StoreError, IdentityError) as error:
                code = self._exit_code(error)
                return "", [failed(DoctorStage.TOKEN, place, error, exit_code=code)]
        text = json.dumps(tokens) if tokens else ""
        checks += token_checks(text, audiences, now=time.time(), exit_code=self._exit_code)
        return text, checks

    async def _issue(self, subject: _Subject, audience: str) -> dict[str, str]:
        spec: Manifest = {"audiences": [audience], "expirationSeconds": _TOKEN_SECONDS}
        account = subject.service_account
        try:
            answer = await self._api.create_subresource(
                TokenRequestResource, subject.namespace, account, {"spec": spec}
            )
        except ApiNotFoundError as error:
            raise IdentityError(error.problem, error.remedy) from None
        try:
            status = Field(answer)["status"]
            token, expires = status["token"].text(), status["expirationTimestamp"].text()
        except FieldTypeError:
            token = expires = ""
        if not token:
            raise IdentityError(
                f"the Kubernetes API issued no token of service account {account}",
                "Check that the address of the Kubernetes API is that of an API server.",
            )
        return {"token": token, "expirationTimestamp": expires}

    def _stopped(
        self, target: str, stage: DoctorStage, subject: str, error: KeyferryError
    ) -> Prepared:
        return stopped(target, stage, subject, error, exit_code=self._exit_code)


def _without_right(
    target: str, stage: DoctorStage, subject: str, error: StorePermissionError
) -> Prepared:
    return Prepared(target, (skipped(stage, subject, error.problem, error.remedy),))


def _placeholder_tokens(subject: _Subject, audiences: frozenset[str]) -> str:
    """Return tokens that only name their subject, to parse the parameters. They are not sent."""
    claims = {
        "sub": subject_of(namespace=subject.namespace, service_account=subject.service_account)
    }
    parts = (base64.urlsafe_b64encode(json.dumps(each).encode()) for each in ({}, claims))
    token = ".".join((*(part.decode().rstrip("=") for part in parts), ""))
    expires = {"expirationTimestamp": "1970-01-01T00:00:00Z"}
    return json.dumps({audience: {"token": token, **expires} for audience in sorted(audiences)})


def _decoded(manifest: Manifest, place: str) -> dict[str, str]:
    try:
        data = Field(manifest)["data"].text_mapping()
        return {key: base64.b64decode(text).decode() for key, text in data.items()}
    except (FieldTypeError, binascii.Error, UnicodeError):
        raise IdentityError(
            f"Secret {place} has a value that is not text",
            "Store only text values in a Secret with credentials.",
        ) from None
