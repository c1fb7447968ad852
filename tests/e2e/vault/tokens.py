"""Service account tokens, and the attribute in which kubelet sends them."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from tests.e2e.cluster.api_server import ApiServer

ISSUER = "https://kubernetes.default.svc"


class TokenSigner:
    """Signs tokens like an API server. A vault verifies them with `public_key`.

    Args:
        key: private key; a new one by default.
        issuer: issuer of the tokens.
    """

    def __init__(self, key: rsa.RSAPrivateKey | None = None, *, issuer: str = ISSUER) -> None:
        self._key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._issuer = issuer

    @classmethod
    def of_cluster(cls, server: ApiServer) -> TokenSigner:
        """Return a signer with the key of an API server, which accepts its tokens."""
        key = load_pem_private_key(server.token_key.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return cls(key, issuer=server.address.url)

    @property
    def public_key(self) -> str:
        """The public key in PEM."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def token(
        self,
        namespace: str,
        account: str,
        *,
        audience: str = "openbao",
        seconds: int = 600,
        uid: str = "",
    ) -> str:
        """Return a service account token. A cluster accepts it only with the account's `uid`."""
        now = int(time.time())
        named = {"name": account} | ({"uid": uid} if uid else {})
        claims = {
            "iss": self._issuer,
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": named},
        }
        signed = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"

    def kubelet_json(
        self,
        namespace: str,
        account: str,
        *,
        audience: str = "openbao",
        seconds: int = 600,
        uid: str = "",
    ) -> str:
        """Return the attribute `csi.storage.k8s.io/serviceAccount.tokens`."""
        end = datetime.fromtimestamp(int(time.time()) + seconds, UTC)
        token = self.token(namespace, account, audience=audience, seconds=seconds, uid=uid)
        return json.dumps({audience: {"token": token, "expirationTimestamp": f"{end:%FT%TZ}"}})


def _part(document: object) -> str:
    return _base64url(json.dumps(document).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
