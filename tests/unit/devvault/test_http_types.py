from __future__ import annotations

import pytest

from keyferry_devvault.http_types import RequestKind, request_kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/secrets", RequestKind.LIST),
        ("/secrets/", RequestKind.LIST),
        ("/secrets/db", RequestKind.SECRET),
        ("/secrets/db/", RequestKind.SECRET),
        ("/secrets/db/0123", RequestKind.SECRET),
        ("/secrets/db/versions", RequestKind.VERSIONS),
        ("/deletedsecrets/db/recover", RequestKind.DELETED),
        ("/tenant/oauth2/v2.0/token", RequestKind.TOKEN),
        ("/common/discovery/instance", RequestKind.DISCOVERY),
        ("/tenant/v2.0/.well-known/openid-configuration", RequestKind.DISCOVERY),
        ("/metadata/identity/oauth2/token", RequestKind.IMDS),
        ("/", RequestKind.OTHER),
        ("/secrets/a/b/c", RequestKind.OTHER),
    ],
)
def test_path_determines_the_kind_of_a_request(path: str, kind: RequestKind) -> None:
    """Requests are counted by what they are about."""
    assert kind == request_kind(path)
