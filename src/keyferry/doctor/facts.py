"""What the observations of a probe show, by lower-case words. [pure]"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.doctor.checks import DoctorStage

if TYPE_CHECKING:
    from keyferry.formats.certs.summary import CertificateSummary
    from keyferry.net.inspection.observed import Inspection
    from keyferry.providers.api import MountResult
    from keyferry.providers.sources.diagnosis import DiagnosedEntry, Facts


def connection_facts(
    seen: Inspection, certificate: CertificateSummary | None
) -> dict[DoctorStage, Facts]:
    """Return what a connection showed, by the stages that it passed or failed at."""
    facts: dict[DoctorStage, Facts] = {}
    if seen.addresses:
        of = {"of": "the proxy"} if seen.proxy else {}
        facts[DoctorStage.DNS] = {"addresses": ", ".join(seen.addresses), **of}
    facts[DoctorStage.PROXY] = {"proxy": seen.proxy or "none"}
    facts[DoctorStage.TCP] = {"peer": seen.peer} if seen.peer else {}
    if seen.is_https:
        facts[DoctorStage.TLS] = _tls_facts(seen, certificate)
    return facts


def _tls_facts(seen: Inspection, certificate: CertificateSummary | None) -> Facts:
    facts = {"version": seen.tls_version} if seen.tls_version else {}
    if certificate is not None:
        facts["issuer"] = certificate.issuer
        facts["names"] = ", ".join(certificate.names) or certificate.subject
        if certificate.not_after:
            facts["valid until"] = format_time(datetime.fromtimestamp(certificate.not_after, UTC))
    if not seen.verifies:
        facts["verified"] = "no"
    return facts


def object_facts(result: MountResult, entry: DiagnosedEntry) -> Facts:
    """Return version and expiry of the object of an entry, or why an optional one is missing."""
    if result.missing:
        return {"optional": "missing", "reason": result.missing[0].reason}
    versions = {each.id: each.version for each in result.versions}
    if not entry.ids:
        return {"objects": str(len(versions))}
    facts = {}
    if version := versions.get(entry.ids[0]) or next(iter(versions.values()), ""):
        facts["version"] = version
    if result.expiries:
        expires_at = min(each.expires_at for each in result.expiries)
        facts["expires"] = format_time(datetime.fromtimestamp(expires_at, UTC))
    return facts


def format_time(moment: datetime) -> str:
    """Return a time as text, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
