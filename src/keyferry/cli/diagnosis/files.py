"""Diagnoses a SecretProviderClass of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.aio.clock import SystemClock
from keyferry.cli.console import console
from keyferry.cli.diagnosis.probing import ProbeSettings, probe_tools
from keyferry.cli.exit_codes import exit_code
from keyferry.cli.local.inputs import read_credentials, read_tokens
from keyferry.cli.local.requests import choose_class, pod_context
from keyferry.cli.local.unknown_fields import UnknownFieldWarnings
from keyferry.doctor.checks import Check, DoctorStage, ok, skipped
from keyferry.doctor.preparation import Prepared, checks_of_tokens, stopped
from keyferry.doctor.probe import run_probe
from keyferry.doctor.request import DEFAULT_SECONDS, ProbeRequest, WantedSecret
from keyferry.driver.request import PublishRequest, mount_call
from keyferry.errors import KeyferryError
from keyferry.kubernetes.class_check import check_class
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from keyferry.providers.registry import needs_credentials, token_audiences

if TYPE_CHECKING:
    from keyferry.cli.local.options import LocalOptions
    from keyferry.doctor.checks import Report
    from keyferry.kubernetes.objects import SecretProviderClass

_TARGET = "/keyferry-doctor"
_NO_CLUSTER = "a file names no service account"


async def diagnose_file(options: LocalOptions) -> list[Report]:
    """Return the report of the SecretProviderClass that the options mean."""
    if options.dev_vault:
        console().note("DEVELOPMENT ONLY: all requests go to the development vault, not the cloud")
    prepared = await _prepare(options)
    if prepared.request is None:
        return [prepared.report(())]
    settings = ProbeSettings(
        options.settings, prepared.request.seconds, options.dev_vault, options.vault_qps
    )
    try:
        async with probe_tools(settings) as tools:
            return [prepared.report(await run_probe(prepared.request, tools))]
    except KeyferryError as error:  # the development vault is not running
        subject = f"development vault {options.dev_vault}"
        stage = DoctorStage.TCP
        return [
            stopped(
                prepared.target,
                stage,
                subject,
                error,
                exit_code=exit_code,
                before=prepared.checks,
            ).report(())
        ]


async def _prepare(options: LocalOptions) -> Prepared:
    target = str(options.spc_file)
    store = ManifestsStore(options.spc_file, None, clock=SystemClock(), content=options.spc_text)
    try:
        namespace, name = await choose_class(options, store)
        spc = check_class(await store.get_class(namespace, name))
    except KeyferryError as error:
        subject = options.spc_name or target
        return stopped(target, DoctorStage.CLASS, subject, error, exit_code=exit_code)
    checks = [ok(DoctorStage.CLASS, f"{namespace}/{name}", {"provider": spc.provider})]
    warnings = UnknownFieldWarnings()
    try:
        secrets = read_credentials(options.credentials, warnings) if options.credentials else {}
    except KeyferryError as error:
        subject = str(options.credentials)
        return stopped(
            target,
            DoctorStage.CREDENTIALS,
            subject,
            error,
            exit_code=exit_code,
            before=checks,
        )
    warnings.check_class(spc, secrets)
    if options.credentials and needs_credentials(spc):
        facts = {"keys": ", ".join(sorted(secrets))}
        checks.append(ok(DoctorStage.CREDENTIALS, str(options.credentials), facts))
    pod, context = pod_context(namespace, name, _TARGET)
    try:
        if options.tokens:
            context[SERVICE_ACCOUNT_TOKENS] = read_tokens(options.tokens, warnings)
    except KeyferryError as error:
        subject = str(options.tokens)
        return stopped(
            target, DoctorStage.TOKEN, subject, error, exit_code=exit_code, before=checks
        )
    checks += _account_checks(spc, context.get(SERVICE_ACCOUNT_TOKENS, ""))
    call = mount_call(PublishRequest(_TARGET, True, pod, name, context, secrets), spc)
    request = ProbeRequest(
        provider=spc.provider,
        parameters=spc.parameters,
        attributes=call.attributes,
        secrets=call.secrets,
        target_path=_TARGET,
        wanted_secrets=tuple(map(WantedSecret.of, spc.secret_objects)),
        seconds=options.timeout or DEFAULT_SECONDS,
    )
    return Prepared(target, tuple(checks), request)


def _account_checks(spc: SecretProviderClass, tokens: str) -> list[Check]:
    checks = checks_of_tokens(spc, tokens, exit_code)
    if token_audiences(spc):
        checks.append(skipped(DoctorStage.SERVICE_ACCOUNT, "service account", _NO_CLUSTER))
    return checks
