"""Every difference from upstream that docs/ lists is tested, by a case of tests/compat or a test.

A row that is new in docs/ is added to `ELSEWHERE` with the test that shows it, or to a case.
"""

from __future__ import annotations

from pathlib import Path

from tests.compat.secret_table import ON_ALL_SECRETS
from tests.compat.table import cases
from tests.compat.vault_contents import UNKNOWN

ROOT = Path(__file__).parents[2]
PAGES = {
    "docs/reference/compatibility.md": ("## Intentional differences",),
    "docs/reference/compatibility-azure.md": (
        "## Intentional differences: objects",
        "## Intentional differences: authentication",
    ),
    "docs/reference/azure.md": ("## Differences from upstream",),
}

HERE = "compat/test_over_time.py"
LIFECYCLE = "integration/driver/test_volume_lifecycle.py"
GRACE = "integration/driver/secret_lifetime/test_secret_grace_period.py"
REFRESH = "integration/driver/test_refresh.py"
AZURE = "integration/azure"
IDENTITIES = "integration/azure_identities"
PARAMS = "unit/providers/azure/test_params.py"
SHARING = "integration/test_azure_sharing.py"
CHOICE = "unit/providers/azure/auth/test_identity_params.py"

ELSEWHERE = {
    "the CRDs": "unit/chart/test_chart_files.py::test_crds_have_columns_and_short_names",
    "the log of a driver": "integration/driver/test_quiet.py::test_idle_driver_logs_nothing",
    "options of objects and volumes": (
        "compat/test_options.py::test_upstream_with_its_azure_provider"
    ),
    "unknown fields of a SecretProviderClass": (
        "integration/driver/test_unknown_fields.py::test_class_is_reported_once_for_all_its_pods"
    ),
    "requests to a vault": f"{SHARING}::test_only_equal_identities_share",
    "a vault that throttles or fails": (
        "integration/test_azure_throttle.py::test_throttling_of_one_identity_delays_the_others"
    ),
    "an object that is missing or forbidden": (
        f"{SHARING}::test_missing_object_is_requested_once_for_all_pods"
    ),
    "a change of only a file's mode": f"{HERE}::test_keyferry_applies_a_change_of_only_the_mode",
    "a repeated NodePublishVolume with rotation enabled": (
        f"{HERE}::test_failed_first_mount_leaves_nothing_with_keyferry"
    ),
    "`providerName: mock_provider`, target `/tmp/csi/mount`": (
        f"{HERE}::test_keyferry_has_no_mock_provider_hook"
    ),
    "a SecretProviderClassPodStatus": (
        f"{HERE}::test_keyferry_records_the_refresh_in_the_pod_status"
    ),
    "after a failed first mount": f"{HERE}::test_failed_first_mount_leaves_nothing_with_keyferry",
    "an object that a pod reads": ("integration/audit/test_process.py::test_default_is_the_log"),
    "tmpfs": f"{HERE}::test_a_volume_is_a_tmpfs",
    "`--max-call-recv-msg-size`": (
        "integration/test_mount_limits.py::test_azure_mount_that_is_too_large_names_the_flag"
    ),
    "a Secret of a pod without an owner, after the pod": (
        f"{GRACE}::test_secret_of_bare_pods_is_deleted_after_the_grace_period"
    ),
    "a Secret that its SecretProviderClass no longer lists": (
        f"{GRACE}::test_unused_secret_that_its_class_drops_is_deleted_at_once"
    ),
    "a Secret created by someone else": (
        f"{HERE}::test_keyferry_does_not_change_an_unmanaged_secret"
    ),
    "duplicate objects are fetched once, and all objects concurrently": (
        f"{AZURE}/test_reading.py::test_one_object_in_two_files_is_fetched_once"
    ),
    "an object fetched for the same identity in the last 15 s": (
        "unit/resilience/test_fetcher_cache.py::test_first_mount_uses_content_within_the_cache_ttl"
    ),
    "a mounted but empty volume": (f"{LIFECYCLE}::test_empty_tmpfs_after_a_crash_is_filled"),
    "the first NodePublishVolume after a driver restart": (
        f"{REFRESH}::test_volume_is_refreshed_at_once_after_a_restart"
    ),
    "the path `.` from a provider": (
        f"{LIFECYCLE}::test_file_path_dot_is_rejected_and_content_retained"
    ),
    "key material that exceeds a [limit]": (
        "unit/formats/certs/test_limits.py::test_changed_count_of_a_real_file_is_refused"
    ),
    "`.crt` and `.key` without a certificate or a private key": (
        "unit/providers/azure/test_content.py::test_separate_files_are_never_empty"
    ),
    "a byte order mark before PEM": (
        "unit/providers/azure/test_content.py::test_byte_order_mark_does_not_hide_the_first_block"
    ),
    "the order of certificates in `kubernetes.io/tls`": (
        "unit/secrets/test_builder.py::test_begins_with_the_certificate_of_the_key"
    ),
    "`kubernetes.io/service-account-token` as type of a Secret": (
        "unit/secrets/test_builder.py::test_of_a_service_account_token_is_refused"
    ),
    "a path with more than 32 nested folders": (
        "unit/formats/test_volume_paths.py"
        "::test_a_path_that_no_volume_can_hold_is_refused_with_the_reason"
    ),
    "concurrent calls for one target path": (
        f"{LIFECYCLE}::test_concurrent_calls_for_one_volume_are_serialized"
    ),
    "NodeUnpublishVolume while a publish of the same target hangs": (
        f"{LIFECYCLE}::test_unpublish_cancels_a_mount_that_hangs"
    ),
    "order of a first mount": (
        f"{LIFECYCLE}::test_invalid_objects_fail_before_anything_is_written"
    ),
    "when the pod status is written": (
        "integration/driver/test_pod_statuses.py::test_publish_returns_before_the_pod_status_is_written"
    ),
    "a pod status that the API server rejects": (
        f"{LIFECYCLE}::test_failed_pod_status_write_does_not_fail_a_first_mount"
    ),
    "events": f"{LIFECYCLE}::test_failed_first_mount_leaves_only_an_event",
    "leftovers of an interrupted write (`..data_tmp`, a partial directory)": (
        "e2e/test_crash.py::test_twenty_kills_during_publish_and_unpublish_are_repaired"
    ),
    "a provider socket without a listener": (
        "integration/driver/test_external_providers.py"
        "::test_dead_socket_is_reported_without_a_long_wait"
    ),
    "SecretProviderClass parameters that begin with `csi.storage.k8s.io/`": (
        "unit/driver/test_request.py::test_parameters_with_kubelets_prefix_are_ignored"
    ),
    "`fsGroup` of the pod": (
        "unit/driver/volumes/test_mounter.py::test_tmpfs_and_its_files_belong_to_the_group"
    ),
    "unpublish": ("unit/driver/volumes/test_mounter.py::test_similar_path_is_not_a_kubelet_path"),
    "misspelt values of the Helm chart": (
        "unit/chart/test_values_schema.py::test_a_misspelt_name_is_refused"
    ),
    "priority class of the driver": (
        "e2e/cluster/test_chart.py::test_the_driver_is_critical_for_its_node"
    ),
    "CSI socket": ("unit/net/test_sockets.py::test_socket_has_mode_0600_from_its_creation"),
    "how issuers are matched": "unit/formats/certs/test_chain.py::test_a_name_is_not_enough",
    "an incomplete chain": (
        "unit/formats/certs/test_chain.py::test_whatever_comes_the_leaf_is_first_and_nothing_is_lost"
    ),
    "a duplicate certificate": "unit/formats/certs/test_chain.py::test_duplicates_count_once",
    "versions created at the same time": (
        "unit/providers/azure/test_versions.py::test_versions_of_equal_age_keep_the_order_of_the_list"
    ),
    "a secret with `kid` and no content type": (
        "unit/providers/azure/test_content.py::test_unknown_content_type_is_rejected"
    ),
    "a failed version list request": (
        "unit/providers/azure/test_rendered_volume.py::test_every_failed_object_is_named"
    ),
    "list pages on another host, or endless pagination": (
        "unit/providers/azure/test_keyvault_pages.py::test_page_on_another_host_is_not_requested"
    ),
    "`objectFormat: pkcs12`,": "unit/providers/azure/test_objects.py::test_pkcs12_is_text_or_bytes",
    "a token of a service account other than the pod's": (
        f"{PARAMS}::test_token_of_another_service_account_is_rejected"
    ),
    "the environment (`IDENTITY_ENDPOINT`, `MSI_ENDPOINT`, ...)": (
        f"{IDENTITIES}/test_machine.py::test_the_environment_does_not_redirect_a_managed_identity"
    ),
    "Azure Arc": (
        f"{IDENTITIES}/test_arc.py::test_machine_with_the_arc_agent_uses_it_instead_of_imds"
    ),
    "user-assigned identity on an Arc machine": (
        f"{CHOICE}::test_arc_machine_has_only_a_system_assigned_identity"
    ),
    "two IDs of a managed identity, or a client secret and a certificate": (
        f"{CHOICE}::test_two_ids_conflict"
    ),
    "`userAssignedIdentityID` with a resource id": (
        f"{CHOICE}::test_managed_identity_by_each_kind_of_id"
    ),
    "a failed NMI response": (
        f"{IDENTITIES}/test_pod_identity.py::test_nmi_response_without_token_and_client_is_an_error"
    ),
    "TLS server name of the token proxy": (
        "unit/providers/azure/auth/test_sni.py::test_cluster_id_is_found_in_the_certificate"
    ),
    "API server used to discover that name": (
        f"{IDENTITIES}/test_identity_binding.py::test_wrong_server_name_does_not_reach_the_proxy"
    ),
    "first request to a vault": (
        f"{IDENTITIES}/test_challenge.py::test_a_managed_hsm_of_a_known_cloud_needs_no_challenge"
    ),
    "a challenge for another tenant": (
        f"{IDENTITIES}/test_challenge.py::test_identity_of_another_tenant_is_refused_with_both_tenants"
    ),
    "requests before the first token of an application": (
        "integration/test_azure_token_requests.py::test_token_requests_equal_those_of_azure_identity"
    ),
    "a challenge from another authority": (
        "unit/providers/azure/auth/test_challenge.py::test_tenant_of_another_authority_is_ignored"
    ),
    "Entra errors": (f"{AZURE}/test_identity_errors.py::test_refusal_of_entra_is_explained"),
    "`AzureStackCloud` needs `cloudEnvFileName` in the SecretProviderClass": (
        f"{PARAMS}::test_azure_stack_file_is_part_of_the_mount"
    ),
    "`cloudEnvFileName` is restricted to `--class-files-dirs`, with one error for all failures": (
        f"{AZURE}/test_clouds.py::test_error_does_not_depend_on_why_a_cloud_file_cannot_be_used"
    ),
    "a vault or token endpoint at an address of the node is refused": (
        f"{AZURE}/test_restricted_addresses.py::test_address_of_the_node_is_refused"
    ),
    "vault hosts must be within the file's `keyVaultEndpoint`": (
        "unit/providers/azure/test_clouds.py::test_azure_stack_file_is_parsed"
    ),
    "blanks around `clientid` and `clientsecret` are ignored": (
        f"{PARAMS}::test_service_principal_is_read_from_the_secrets"
    ),
    "the directive `%YAML 1.2` in `objects` is accepted": (
        "unit/formats/test_yaml_text.py::test_directives_are_allowed"
    ),
    "`kubernetes.io/tls` with further keys": (
        "unit/secrets/test_builder.py::test_tls_secret_may_have_further_keys"
    ),
    "two entries of `secretObjects` for one Secret": (
        "unit/secrets/test_builder.py::test_two_entries_for_one_secret_are_an_error_that_names_both"
    ),
    "a manifest with a key that occurs twice in one mapping": (
        "unit/formats/test_kubernetes_yaml.py::test_repeated_key_is_an_error_with_its_line"
    ),
}
"""How rows begin that no case can show, and the test that does."""

# Both sides refuse these with the same code; only Keyferry does so before any request.
SAME_END = {
    "an empty `array` is an error in the SecretProviderClass": "empty-array",
    "an unknown `objectType` is an error before any request": "unknown-type",
    "an impossible object name or version is an error before any request": "impossible-name",
    "`useVMManagedIdentity` with `clientID` needs no service account token": (
        "client-id-beside-machine"
    ),
    "Kubernetes Secrets": "opaque",
}
"""How rows begin that say when or why, not what: the case that ends the same, or shows it."""


def rows() -> set[str]:
    """The first cell of each row."""
    found = set()
    for page, headings in PAGES.items():
        text = (ROOT / page).read_text()
        for heading in headings:
            part = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
            cells = [line.split("|")[1].strip() for line in part.splitlines() if "|" in line]
            assert cells, f"{page} has no table below {heading!r}"
            found |= set(cells[2:])
    return found


def beginnings() -> set[str]:
    """What a row may begin with."""
    of_cases = {difference.row for case in cases(UNKNOWN) for difference in case.differs}
    return {ON_ALL_SECRETS.row} | of_cases | ELSEWHERE.keys() | SAME_END.keys()


def test_each_documented_difference_is_shown() -> None:
    """By a case of tests/compat, or by a test that is named above: add yours there."""
    known = tuple(beginnings())
    assert [] == [row for row in rows() if not row.startswith(known)]


def test_each_difference_that_is_shown_is_documented() -> None:
    """A row of docs/ begins with its words."""
    found = rows()
    assert [] == [
        known for known in beginnings() if not any(row.startswith(known) for row in found)
    ]


def test_what_shows_a_difference_is_there() -> None:
    """A case or a test of that name."""
    assert set() == set(SAME_END.values()) - {case.name for case in cases(UNKNOWN)}
    assert [] == [where for where in ELSEWHERE.values() if not is_there(where)]


def is_there(where: str) -> bool:
    """Whether there is a test of that name."""
    path, name = where.split("::")
    return f"def {name}(" in (ROOT / "tests" / path).read_text()
