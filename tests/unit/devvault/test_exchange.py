from __future__ import annotations

import pytest

from keyferry.devvault.exchange import PathKind, path_kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/secrets", PathKind.LIST),
        ("/secrets/", PathKind.LIST),
        ("/secrets/db", PathKind.SECRET),
        ("/secrets/db/", PathKind.SECRET),
        ("/secrets/db/0123", PathKind.SECRET),
        ("/secrets/db/versions", PathKind.VERSIONS),
        ("/deletedsecrets/db/recover", PathKind.DELETED),
        ("/tenant/oauth2/v2.0/token", PathKind.TOKEN),
        ("/common/discovery/instance", PathKind.DISCOVERY),
        ("/tenant/v2.0/.well-known/openid-configuration", PathKind.DISCOVERY),
        ("/metadata/identity/oauth2/token", PathKind.IMDS),
        ("/", PathKind.OTHER),
        ("/secrets/a/b/c", PathKind.OTHER),
    ],
)
def test_a_path_tells_what_a_request_is_about(path: str, kind: PathKind) -> None:
    """Requests are counted by what they are about."""
    assert kind == path_kind(path)
