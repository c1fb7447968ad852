"""What it means when a vault refuses a read, and what to do about it. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from keyferry.errors import AccessDeniedError, ObjectNotFoundError, VaultError
from keyferry.excerpt import excerpt
from keyferry.providers.vault.auth.login import TokenLogin
from keyferry.providers.vault.http.http_errors import safe_to_quote

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.objects import ReadRequest


@dataclass(frozen=True, slots=True)
class SecretsEngine:
    """The secrets engine that a path leads into, as far as the vault tells.

    Attributes:
        path: where it is mounted, without a slash at its end.
        type: `kv`, `pki`, `database` ...
        version: of `kv`, 1 or 2; 0 for others.
    """

    path: str
    type: str
    version: int = 0


def read_error(
    status: int,
    errors: tuple[str, ...],
    request: ReadRequest,
    login: Login,
    *,
    engine: SecretsEngine | None,
    token: str = "",
) -> VaultError:
    """The error for an answer that is neither the secret nor worth another try.

    Args:
        status: of HTTP.
        errors: what the vault says, its warnings included.
        request: what was asked for.
        login: as whom.
        engine: what the path leads into; None where the vault does not tell.
        token: that was sent, which is never repeated.
    """
    quoted = safe_to_quote(errors, secrets=(token,))
    said = f": {'; '.join(quoted)}" if quoted else ""
    if right := _correct_kv_path(request, engine, errors):
        return ObjectNotFoundError(
            f"{request} is not a path of its engine: {login.server} keeps KV version "
            f"{right.version} at {right.mount} ({status}{said})",
            f"Set secretPath to {right.path}.",
        )
    match status:
        case 403:
            return _access_denied(request, login, engine, said)
        case 404:
            return _not_found(request, login, engine, said)
        case 405:
            return VaultError(
                f"{login.server} does not take {request.method} at {request.path} (405{said})",
                "Set method: engines that make something, such as pki/issue, want POST or PUT.",
            )
        case _:
            return VaultError(
                f"{login.server} refuses {request} ({status}{said})",
                _refused_remedy(request, errors),
            )


@dataclass(frozen=True, slots=True)
class _KvCorrection:
    version: str
    mount: str
    path: str


def _correct_kv_path(
    request: ReadRequest, engine: SecretsEngine | None, errors: tuple[str, ...]
) -> _KvCorrection | None:
    """How the path should be, where version 1 and 2 of KV are mixed up."""
    path = request.path.path
    if engine is not None and engine.type in ("kv", "generic"):
        rest = path.removeprefix(engine.path).strip("/")
        first = rest.partition("/")[0]
        if engine.version == 2 and first not in _KV2_SUBPATHS:
            return _KvCorrection("2", f"{engine.path}/", f"{engine.path}/data/{rest}")
        if engine.version != 2 and first == "data":
            return _KvCorrection(
                "1", f"{engine.path}/", f"{engine.path}/{rest.removeprefix('data/')}"
            )
        return None
    if any("versioned k/v" in error.lower() for error in errors):
        mount, _, rest = path.partition("/")
        return _KvCorrection("2", f"{mount}/", f"{mount}/data/{rest}")
    return None


_GENERATING_ENGINES = frozenset({"pki", "ssh", "transit"})
"""The engines that make something of arguments."""
_KV2_SUBPATHS = frozenset(
    {"data", "metadata", "config", "delete", "undelete", "destroy", "subkeys"}
)


def policy_line(request: ReadRequest) -> str:
    """The line of a policy that would allow it."""
    words = {"GET": '"read"', "LIST": '"list"', "DELETE": '"delete"'}
    wanted = words.get(request.method, '"create", "update"')
    return f'path "{request.path}" {{ capabilities = [{wanted}] }}'


def _access_denied(
    request: ReadRequest, login: Login, engine: SecretsEngine | None, vault_text: str
) -> AccessDeniedError:
    if engine is not None and engine.type in _GENERATING_ENGINES and request.method == "GET":
        return AccessDeniedError(
            f"{login.server} does not let {login.display_name} (auth/{login.auth_mount}) "
            f"read {request} "
            f"(403{vault_text})",
            f"The {engine.type} engine makes what is asked for by method: PUT, with secretArgs; "
            f"the policy then needs: {policy_line(replace(request, method='PUT'))}",
        )
    verb = "read " if request.method == "GET" else ""
    ended = isinstance(login.method, TokenLogin)
    token = f"See whether the token is still good: {login.server.command} token lookup. "
    return AccessDeniedError(
        f"{login.server} does not let {login.display_name} (auth/{login.auth_mount}) "
        f"{verb}{request} (403{vault_text})",
        f"{token if ended else ''}Add to a policy of {'it' if ended else 'the role'}: "
        f"{policy_line(request)}. A path that does not exist is "
        "refused in the same way; for KV version 2 it has data/ after the mount.",
    )


def _not_found(
    request: ReadRequest, login: Login, engine: SecretsEngine | None, vault_text: str
) -> ObjectNotFoundError:
    if "no handler for route" in vault_text:
        return ObjectNotFoundError(
            f"{login.server} has no secrets engine at {request} (404{vault_text})",
            f"Correct secretPath: {login.server.command} secrets list; "
            f"engines belong to one namespace ({login.server.namespace or 'the root'}).",
        )
    what = f"the {engine.type} engine at {engine.path}/" if engine else "it"
    query = f"?{request.path.query}" if request.path.query else ""
    return ObjectNotFoundError(
        f"there is nothing at {request}{excerpt(query)} in {login.server} (404{vault_text})",
        f"Correct secretPath; {what} may also have had it deleted, or never had this version. See "
        f"what there is: {_inspect_commands(request, engine, login.server.command)}.",
    )


def _inspect_commands(request: ReadRequest, engine: SecretsEngine | None, command: str) -> str:
    """The commands that show what is beside and behind a path."""
    if engine is None:
        return f"{command} list, {command} kv metadata get"
    path = request.path.path.removeprefix(f"{engine.path}/")
    path = path.removeprefix("data/") if engine.version == 2 else path
    folder = excerpt(path.rpartition("/")[0] or "/")
    listed = f"{command} kv list -mount={engine.path} {folder}"
    if engine.version != 2:
        return listed
    return f"{listed}, {command} kv metadata get -mount={engine.path} {excerpt(path)}"


def _refused_remedy(request: ReadRequest, errors: tuple[str, ...]) -> str:
    text = " ".join(errors).lower()
    if "unknown role" in text or ("role" in text and "not found" in text):
        return "Correct the role at the end of secretPath, or create it in the engine."
    if "not allowed by this role" in text:
        return "Correct secretArgs, or let the role of the engine allow it."
    if request.arguments is None and request.method != "GET":
        return "Engines that make something want their arguments in secretArgs."
    return "Correct secretPath, method or secretArgs; the documentation of the engine names them."
