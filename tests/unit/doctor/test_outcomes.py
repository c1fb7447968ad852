"""What the observations of a probe mean."""

from __future__ import annotations

from typing import Any

from keyferry.content import MissingObject, ObjectVersion
from keyferry.doctor.checks import Check, DoctorStage, Status
from keyferry.doctor.outcomes import Diagnosis, Observations
from keyferry.doctor.places import NotMountedError
from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    Denial,
    IdentityError,
    KeyferryError,
    ObjectMissingError,
    Stage,
    VaultError,
)
from keyferry.net.connection_errors import ConnectionProblem
from keyferry.net.inspection.observed import Inspection
from keyferry.providers.api import MountResult
from keyferry.providers.expiry import Expiry
from keyferry.providers.sources.diagnosis import (
    DiagnosedEntry,
    DiagnosedSource,
    DiagnosisPlan,
    Endpoint,
    EndpointKind,
)

S = DoctorStage
ENTRA, CONTOSO, FABRIKAM = "login.microsoftonline.com", "contoso", "fabrikam"
TOKEN = Endpoint(EndpointKind.TOKEN, ENTRA)
FINE = MountResult((ObjectVersion("secret/a", "v1"),))


def source(vault: str = CONTOSO, identity: str = "client ID x", fix: str = "") -> DiagnosedSource:
    """A vault and its identity."""
    endpoint = Endpoint(EndpointKind.VAULT, vault)
    return DiagnosedSource(endpoint, TOKEN, identity, {"tenant": "t"}, fix)


def checks(
    *outcomes: MountResult | KeyferryError,
    sources: tuple[DiagnosedSource, ...] = (source(),),
    of: tuple[int, ...] = (),
    inspections: dict[str, Any] | None = None,
    greetings: dict[str, Any] | None = None,
) -> dict[tuple[DoctorStage, str], Check]:
    """Return the checks by stage and subject; entry `n` is `secret n`."""
    entries = tuple(
        DiagnosedEntry(f"secret {index}", of[index] if of else 0, {}, ("secret/a",))
        for index in range(len(outcomes))
    )
    hosts = {ENTRA, *(each.vault.name for each in sources)}
    seen = Observations(
        {**{host: inspection(host) for host in hosts}, **(inspections or {})},
        {},
        greetings or {},
        outcomes,
    )
    found = Diagnosis(DiagnosisPlan(sources, entries), seen, lambda _: 3).checks()
    return {(each.stage, each.subject): each for each in found}


def inspection(host: str, stage: Stage | None = None, **fields: Any) -> Inspection:
    """A connection that worked, or failed at a stage."""
    problem = ConnectionProblem(stage, "x", "y", transient=True, host=host) if stage else None
    return Inspection(
        host, is_https=True, addresses=("10.0.0.1",), peer="10.0.0.1:443", problem=problem, **fields
    )


def test_everything_that_worked_is_ok_with_its_facts() -> None:
    """Also the version and the expiry of the object."""
    expiring = MountResult(FINE.versions, expiries=(Expiry("secret a", 1_800_000_000, 0.0),))
    found = checks(expiring, greetings={CONTOSO: {"trusted tenant": "t"}})
    assert {Status.OK} == {each.status for each in found.values()}
    assert "t" == found[S.VAULT, CONTOSO].facts["trusted tenant"]
    assert "2027-01-15 08:00 UTC" == found[S.OBJECT, "secret 0"].facts["expires"]
    assert "1 of 1" == found[S.PERMISSION, CONTOSO].facts["objects"]
    order = [stage for stage, _ in found]
    assert sorted(order, key=list(DoctorStage).index) == order


def test_what_depends_on_a_failed_connection_is_skipped_and_names_it() -> None:
    """The token endpoint is checked."""
    failed = KeyferryError("x", stage=Stage.TLS)
    broken = inspection(CONTOSO, Stage.TLS)
    found = checks(_connection(Stage.TLS, CONTOSO), inspections={CONTOSO: broken})
    assert Status.OK is found[S.TCP, CONTOSO].status
    assert Status.FAILED is found[S.TLS, CONTOSO].status
    assert Status.OK is found[S.TOKEN_ENDPOINT, ENTRA].status
    for place in ((S.VAULT, CONTOSO), (S.LOGIN, CONTOSO), (S.OBJECT, "secret 0")):
        assert Status.SKIPPED is found[place].status
        assert "tls of contoso failed" == found[place].problem
    assert "x" == failed.problem


def test_a_mount_that_worked_is_right_and_a_failed_inspection_is_not() -> None:
    """A lost packet is no diagnosis."""
    found = checks(FINE, inspections={CONTOSO: inspection(CONTOSO, Stage.CONNECT)})
    assert Status.FAILED not in {each.status for each in found.values()}


def test_an_inspection_that_took_too_long_says_nothing_about_the_connection() -> None:
    """Such as one whose DNS did not answer: the host is neither plain http nor emulated."""
    late = ConnectionFailedError("contoso did not answer within 1 s (--timeout)", "Wait.")
    late.host = CONTOSO
    found = checks(FINE, inspections={CONTOSO: late})
    for stage in (S.DNS, S.PROXY, S.TCP, S.TLS):
        assert Status.SKIPPED is found[stage, CONTOSO].status
        assert "the connection was not inspected" == found[stage, CONTOSO].problem
    assert Status.OK is found[S.OBJECT, "secret 0"].status


def test_a_failed_mount_counts_although_the_inspection_worked() -> None:
    """The error of the mount is shown at its stage."""
    found = checks(_connection(Stage.CONNECT, CONTOSO))
    assert Status.FAILED is found[S.TCP, CONTOSO].status
    assert Status.SKIPPED is found[S.TLS, CONTOSO].status


def test_a_refused_identity_shows_the_command_only_for_a_missing_federation() -> None:
    """Other refusals have another cause."""
    refused = IdentityError("x", "y")
    sources = (source(fix="az identity create"),)
    assert "y" == checks(refused, sources=sources)[S.TOKEN_ENDPOINT, ENTRA].remedy
    refused.is_federation = True
    check = checks(refused, sources=sources)[S.TOKEN_ENDPOINT, ENTRA]
    assert "y Create it: az identity create" == check.remedy
    assert 3 == check.exit_code


def test_two_identities_at_one_token_endpoint_have_a_check_each() -> None:
    """One of them is refused."""
    sources = (source(CONTOSO, "client ID a"), source(FABRIKAM, "client ID b"))
    found = checks(IdentityError("x"), FINE, sources=sources, of=(0, 1))
    assert Status.FAILED is found[S.TOKEN_ENDPOINT, f"{ENTRA} (client ID a)"].status
    assert Status.OK is found[S.TOKEN_ENDPOINT, f"{ENTRA} (client ID b)"].status
    assert Status.SKIPPED is found[S.LOGIN, CONTOSO].status
    assert Status.OK is found[S.LOGIN, FABRIKAM].status
    assert Status.OK is found[S.OBJECT, "secret 1"].status


def test_a_firewall_a_missing_role_and_a_missing_policy_are_different_stages() -> None:
    """By the denial of the error."""
    found = checks(AccessDeniedError("x", denial=Denial.NETWORK))
    assert Status.FAILED is found[S.FIREWALL, CONTOSO].status
    assert Status.SKIPPED is found[S.PERMISSION, CONTOSO].status
    for denial in (Denial.ROLE, Denial.POLICY):
        found = checks(AccessDeniedError("x", denial=denial), FINE)
        assert Status.OK is found[S.FIREWALL, CONTOSO].status
        assert {"missing": denial.value} == found[S.PERMISSION, "secret 0"].facts
        assert "1 of 2" == found[S.PERMISSION, CONTOSO].facts["objects"]
        assert Status.SKIPPED is found[S.OBJECT, "secret 0"].status


def test_an_object_that_is_missing_was_permitted() -> None:
    """And the vault accepted the token."""
    found = checks(ObjectMissingError("x"), FINE)
    assert Status.OK is found[S.LOGIN, CONTOSO].status
    assert "2 of 2" == found[S.PERMISSION, CONTOSO].facts["objects"]
    assert Status.FAILED is found[S.OBJECT, "secret 0"].status
    assert Status.OK is found[S.OBJECT, "secret 1"].status


def test_a_sealed_vault_is_found_although_no_token_was_issued() -> None:
    """Its answer to a request without a token says so."""
    found = checks(IdentityError("x"), greetings={CONTOSO: VaultError("sealed")})
    assert Status.FAILED is found[S.VAULT, CONTOSO].status


def test_objects_that_were_not_mounted_are_no_failure() -> None:
    """The connections are checked, and the reason is that of the caller."""
    found = checks(NotMountedError("no token may be requested"))
    assert Status.OK is found[S.TLS, CONTOSO].status
    for place in ((S.TOKEN_ENDPOINT, ENTRA), (S.LOGIN, CONTOSO), (S.OBJECT, "secret 0")):
        assert (Status.SKIPPED, "no token may be requested") == (
            found[place].status,
            found[place].problem,
        )
    assert Status.FAILED not in {each.status for each in found.values()}


def test_an_optional_object_that_is_missing_is_ok() -> None:
    """Its reason is a fact."""
    missing = MissingObject("secret/a", ("a",), "it is disabled")
    found = checks(MountResult((), missing=(missing,)))
    expected = {"optional": "missing", "reason": "it is disabled"}
    assert expected == found[S.OBJECT, "secret 0"].facts


def _connection(stage: Stage, host: str) -> KeyferryError:
    return ConnectionProblem(stage, "x", "y", transient=True, host=host).error("read")
