"""Translates rejected reads into errors with a cause and a remedy. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import (
    AccessDeniedError,
    ObjectMissingError,
    ObjectNotFoundError,
    Stage,
    VaultError,
    excerpt,
)
from keyferry.providers.vault.auth.login import TokenLogin
from keyferry.providers.vault.http.http_errors import safe_to_quote
from keyferry.records import replace

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.objects import ReadRequest


class SecretsEngine(Struct, frozen=True):
    """The secrets engine of a path, as the vault reports it.

    Attributes:
        path: path where the engine is mounted, without a trailing slash.
        type: type of the engine, such as `kv`, `pki` or `database`.
        version: 1 or 2 for `kv`; 0 for other types.
    """

    path: str
    type: str
    version: int = 0


class Deletion(Struct, frozen=True):
    """A version of KV version 2 that was deleted.

    Attributes:
        version: its number.
        at: when it was deleted, as the vault reports it; "" if unknown.
        destroyed: whether its content cannot be restored.
    """

    version: str
    at: str
    destroyed: bool


def read_error(
    status: int,
    errors: tuple[str, ...],
    request: ReadRequest,
    login: Login,
    *,
    engine: SecretsEngine | None,
    deletion: Deletion | None = None,
    token: str = "",
) -> VaultError:
    """Return the error for a rejected read that must not be retried.

    Args:
        status: HTTP status of the response.
        errors: errors and warnings in the response.
        request: the request.
        login: login of the pod.
        engine: secrets engine of the path; None if unknown.
        deletion: the deleted version that the response describes, or None.
        token: token of the request, which is never quoted.
    """
    if status == 404 and deletion is not None:
        return _deleted(request, login, engine, deletion)
    error = _read_error(status, errors, request, login, engine=engine, token=token)
    if is_list(request):
        error.remedy = error.remedy.replace("secretPath", "find.path")
    if request.path.path != request.path.path.strip():
        error.remedy = f"Remove the blanks around secretPath: '{excerpt(request.path.path)}'."
    return error


def _read_error(
    status: int,
    errors: tuple[str, ...],
    request: ReadRequest,
    login: Login,
    *,
    engine: SecretsEngine | None,
    token: str,
) -> VaultError:
    quotes = safe_to_quote(errors, secrets=(token,))
    vault_text = f": {'; '.join(quotes)}" if quotes else ""
    if correction := _correct_kv_path(request, engine, errors):
        return ObjectNotFoundError(
            f"{request} is not a path of its secrets engine: {login.server} has KV version "
            f"{correction.version} at {correction.mount} ({status}{vault_text})",
            f"Set secretPath to {correction.path}.",
        )
    match status:
        case 403:
            return _access_denied(request, login, engine, vault_text)
        case 404:
            return _not_found(request, login, engine, vault_text)
        case 405:
            return VaultError(
                f"{login.server} does not support {request.method} at {request.path} "
                f"(405{vault_text})",
                "Set method to POST or PUT: engines that create secrets, such as pki/issue, "
                "require it.",
                stage=Stage.OBJECT,
            )
        case _:
            return VaultError(
                f"{login.server} rejected {request} ({status}{vault_text})",
                _rejected_remedy(request, errors),
                stage=Stage.OBJECT,
            )


class _KvCorrection(Struct, frozen=True):
    version: str
    mount: str
    path: str


def _correct_kv_path(
    request: ReadRequest, engine: SecretsEngine | None, errors: tuple[str, ...]
) -> _KvCorrection | None:
    """Return the corrected path if the path has the form of the other KV version."""
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
"""Engines that create secrets from arguments."""
_KV2_SUBPATHS = frozenset(
    {
        "data",
        "metadata",
        "detailed-metadata",
        "config",
        "delete",
        "undelete",
        "destroy",
        "subkeys",
    }
)


def is_list(request: ReadRequest) -> bool:
    """Return whether a request lists a folder, for an entry with `find`."""
    return request.method == "GET" and request.path.query == "list=true"


def policy_line(request: ReadRequest) -> str:
    """Return the policy rule that permits a request."""
    by_method = {"GET": '"read"', "LIST": '"list"', "DELETE": '"delete"'}
    method = "LIST" if is_list(request) else request.method
    capabilities = by_method.get(method, '"create", "update"')
    return f'path "{request.path}" {{ capabilities = [{capabilities}] }}'


def _access_denied(
    request: ReadRequest, login: Login, engine: SecretsEngine | None, vault_text: str
) -> AccessDeniedError:
    if engine is not None and engine.type in _GENERATING_ENGINES and request.method == "GET":
        return AccessDeniedError(
            f"{login.server} does not permit {login.display_name} (auth/{login.auth_mount}) "
            f"to read {request} (403{vault_text})",
            f"Set method: PUT and secretArgs: the {engine.type} engine creates secrets from "
            "arguments. Add to a policy of the role: "
            f"{policy_line(replace(request, method='PUT'))}.",
        )
    verb = "read" if request.method == "GET" else "send"
    verb = "list" if is_list(request) else verb
    uses_token = isinstance(login.method, TokenLogin)
    check_token = f"Check that the token is still valid: {login.server.command} token lookup. "
    return AccessDeniedError(
        f"{login.server} does not permit {login.display_name} (auth/{login.auth_mount}) "
        f"to {verb} {request} (403{vault_text})",
        f"{check_token if uses_token else ''}Add to a policy of "
        f"{'the token' if uses_token else 'the role'}: {policy_line(request)}. A path that does "
        "not exist is rejected in the same way. Paths of KV version 2 have data/ after the mount.",
    )


def _not_found(
    request: ReadRequest, login: Login, engine: SecretsEngine | None, vault_text: str
) -> ObjectNotFoundError:
    if "no handler for route" in vault_text:
        return ObjectNotFoundError(
            f"{login.server} has no secrets engine at {request} (404{vault_text})",
            f"Correct secretPath. List the engines: {login.server.command} secrets list. An engine "
            f"belongs to one namespace (here: {login.server.namespace or 'the root namespace'}).",
        )
    place = f" in the {engine.type} engine at {engine.path}/" if engine else ""
    query = f"?{request.path.query}" if request.path.query else ""
    return ObjectMissingError(
        f"there is no secret at {request}{excerpt(query)} in {login.server} (404{vault_text})",
        f"Correct secretPath. The secret may also have been deleted{place}, or lack this version: "
        f"{_inspect_commands(request, engine, login.server.command)}.",
    )


def _deleted(
    request: ReadRequest, login: Login, engine: SecretsEngine | None, deletion: Deletion
) -> ObjectMissingError:
    number = excerpt(deletion.version)
    when = f" at {excerpt(deletion.at)}" if deletion.at and not deletion.destroyed else ""
    verb = "destroyed" if deletion.destroyed else "deleted"
    mount, _, path = request.path.path.partition("/data/")
    mount = engine.path if engine else mount
    undelete = f"{login.server.command} kv undelete -mount={mount} -versions={number} {path}"
    return ObjectMissingError(
        f"version {number} of the secret at {request} was {verb}{when} in {login.server} (404)",
        "Write a new version."
        if deletion.destroyed
        else f"Restore it: {excerpt(undelete)}; or write a new version.",
    )


def _inspect_commands(request: ReadRequest, engine: SecretsEngine | None, command: str) -> str:
    """Return the commands that show the folder of a path and the versions of the secret."""
    if engine is None:
        return f"{command} list, {command} kv metadata get"
    path = request.path.path.removeprefix(f"{engine.path}/")
    path = path.removeprefix("data/") if engine.version == 2 else path
    folder = excerpt(path.rpartition("/")[0] or "/")
    list_command = f"{command} kv list -mount={engine.path} {folder}"
    if engine.version != 2:
        return list_command
    return f"{list_command}, {command} kv metadata get -mount={engine.path} {excerpt(path)}"


def _rejected_remedy(request: ReadRequest, errors: tuple[str, ...]) -> str:
    text = " ".join(errors).lower()
    if "unknown role" in text or ("role" in text and "not found" in text):
        return "Correct the role at the end of secretPath, or create it in the engine."
    if "not allowed by this role" in text:
        return "Correct secretArgs, or permit the value in the role of the engine."
    if request.arguments is None and request.method != "GET":
        return "Set secretArgs to the arguments that the engine requires."
    return "Correct secretPath, method or secretArgs: see the documentation of the engine."
