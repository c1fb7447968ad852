"""`keyferry devvault` as people use it: the commands, and the server as a process of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from keyferry_devvault.cli.server import devvault
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.folder import is_running
from tests.fakes.cli import invoke_cli

CLIENT = "aaaaaaaa-0000-4000-8000-000000000001"
START = "import sys; from keyferry.cli import main; sys.argv.insert(1, 'devvault'); main()"
WAIT_SECONDS = 30


def keyferry(folder: Path, *words: str, stdin: str = "") -> Result:
    """Run one command on the data in `folder`."""
    return invoke_cli(devvault, *words, "--data", str(folder), stdin=stdin)


def output(folder: Path, *words: str, stdin: str = "") -> str:
    """What a command that succeeds prints."""
    result = keyferry(folder, *words, stdin=stdin)
    assert (0, "") == (result.exit_code, result.stderr)
    return result.stdout


def listed(folder: Path, *words: str) -> list[dict[str, Any]]:
    """What a listing command prints, read from its JSON."""
    rows: list[dict[str, Any]] = json.loads(output(folder, *words, "-o", "json"))
    return rows


def permissions(folder: Path) -> dict[str, list[str]]:
    """The policies of the vault contoso, by client ID."""
    return {row["clientID"]: row["permissions"] for row in listed(folder, "policy", "contoso")}


def refusal(folder: Path, *words: str, stdin: str = "") -> str:
    """The error of a command that is refused: what failed, and what to do."""
    result = keyferry(folder, *words, stdin=stdin)
    assert (True, "") == (result.exit_code in {1, 2, 3}, result.stdout)
    assert ["error:", "hint:"] == [line.split()[0] for line in result.stderr.splitlines()]
    return result.stderr


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The server as a process, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, "run", "--data", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], WAIT_SECONDS)
        assert ready, "the server said nothing"
        assert "listens" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_SECONDS)


def test_a_secret_is_set_from_stdin_and_shown_only_when_asked(tmp_path: Path) -> None:
    """One line end is dropped, as `echo` adds one; the new vault opens to this machine."""
    printed = output(tmp_path, "set", "contoso", "db", stdin="canary\n")
    assert "Set secret db of vault contoso, version " in printed
    assert "Created vault contoso: the system-assigned identity of this machine may" in printed
    masked = output(tmp_path, "get", "contoso", "db")
    assert "canary" not in printed + masked
    assert "canary\n" == output(tmp_path, "get", "contoso", "db", "--show-value")
    assert "get,list" in output(tmp_path, "policy", "contoso", "system")


def test_a_value_is_asked_for_unseen_on_a_terminal(tmp_path: Path) -> None:
    """Twice, and what is typed does not appear."""
    controller, terminal = pty.openpty()
    words = [sys.executable, "-c", START, "set", "contoso", "db", "--data", str(tmp_path)]
    process = subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    try:
        shown = read_until(controller, b"db: ")
        os.write(controller, b"canary\n")
        shown += read_until(controller, b"confirmation: ")
        os.write(controller, b"canary\n")
        shown += read_until(controller, b"get and list.")
        assert 0 == process.wait(timeout=WAIT_SECONDS)
    finally:
        process.kill()
        process.wait(timeout=WAIT_SECONDS)
        os.close(controller)
    assert b"canary" not in shown
    assert "canary\n" == output(tmp_path, "get", "contoso", "db", "--show-value")


def read_until(terminal: int, text: bytes) -> bytes:
    """What a terminal shows up to `text`."""
    shown = b""
    while text not in shown:
        ready, _, _ = select.select([terminal], [], [], WAIT_SECONDS)
        assert ready, f"{text!r} did not appear after {shown!r}"
        shown += os.read(terminal, 1024)
    return shown


def test_value_file_is_stored_verbatim(tmp_path: Path) -> None:
    """Line ends and all."""
    (tmp_path / "value").write_bytes(b"a\nb\n")
    output(tmp_path, "set", "contoso", "db", "--value-file", str(tmp_path / "value"))
    assert "a\nb\n\n" == output(tmp_path, "get", "contoso", "db", "--show-value")
    output(tmp_path, "set", "contoso", "db", "--value-file", "-", stdin="x\n")
    assert "x\n\n" == output(tmp_path, "get", "contoso", "db", "--show-value")


def test_attributes_are_set_and_shown(tmp_path: Path) -> None:
    """Tags, content type, expiry, disabled."""
    options = ["--tag", "a=b=c", "--content-type", "text/plain", "--disabled"]
    expires = ["--expires", "2030-01-31T00:00:00Z"]
    output(tmp_path, "set", "contoso", "db", *options, *expires, stdin="x")
    shown = output(tmp_path, "get", "contoso", "db")
    for text in ("enabled       false", "a=b=c", "text/plain", "2030-01-31T00:00:00Z"):
        assert text in shown


def test_versions_are_listed_disabled_and_enabled(tmp_path: Path) -> None:
    """The oldest first; a version is named by its id."""
    for text in ("a", "b"):
        output(tmp_path, "set", "contoso", "db", stdin=text)
    first, second = (row["version"] for row in listed(tmp_path, "list", "contoso", "db"))
    assert "a\n" == output(tmp_path, "get", "contoso", "db", "--version", first, "--show-value")
    output(tmp_path, "disable", "contoso", "db")
    (latest,) = listed(tmp_path, "list", "contoso")
    assert (second, False) == (latest["version"], latest["enabled"])
    output(tmp_path, "enable", "contoso", "db", "--version", second)
    assert listed(tmp_path, "list", "contoso")[0]["enabled"]


def test_a_secret_is_deleted_recovered_and_purged(tmp_path: Path) -> None:
    """As in the real vault, deleting keeps the name."""
    output(tmp_path, "set", "contoso", "db", stdin="a")
    output(tmp_path, "delete", "contoso", "db")
    assert "deleted but recoverable" in refusal(tmp_path, "set", "contoso", "db", stdin="b")
    output(tmp_path, "delete", "contoso", "db", "--recover")
    assert "a\n" == output(tmp_path, "get", "contoso", "db", "--show-value")
    output(tmp_path, "delete", "contoso", "db", "--purge")
    output(tmp_path, "set", "contoso", "db", stdin="b")


def test_an_identity_gets_its_policy_with_it(tmp_path: Path) -> None:
    """One command makes a class with a user-assigned identity work."""
    output(tmp_path, "set", "contoso", "db", stdin="a")
    output(tmp_path, "identity", "add-managed", CLIENT, "--vault", "contoso")
    assert ["get", "list"] == permissions(tmp_path)[CLIENT]
    output(tmp_path, "policy", "contoso", CLIENT, "--allow", "get")
    assert ["get"] == permissions(tmp_path)[CLIENT]
    assert f"{CLIENT}  -" in output(tmp_path, "policy", "contoso", CLIENT, "--revoke")


def test_an_app_of_any_tenant_joins_a_vault_that_this_machine_may_read(tmp_path: Path) -> None:
    """The tenant of the class is named once, and the rest follows."""
    output(tmp_path, "set", "contoso", "db", stdin="a")
    words = ["identity", "add-app", CLIENT, "--tenant", "t1", "--vault", "contoso"]
    assert "may get,list on vault contoso." in output(tmp_path, *words, stdin="canary\n")
    assert [["get", "list"]] * 2 == list(permissions(tmp_path).values())
    assert ["t1", "t1"] == [row["tenant"] for row in listed(tmp_path, "identity", "list")]


def test_an_app_is_added_federated_listed_and_removed(tmp_path: Path) -> None:
    """Its secret comes from stdin and is never shown."""
    printed = output(tmp_path, "identity", "add-app", CLIENT, "--tenant", "t1", stdin="canary\n")
    subject = "system:serviceaccount:shop:web"
    printed += output(tmp_path, "identity", "federate", CLIENT, "--subject", subject)
    shown = output(tmp_path, "identity", "list")
    assert f"{CLIENT}  app   t1      {subject}" in shown
    credential = {
        "subject": subject,
        "issuer": "https://kubernetes.default.svc.cluster.local",
        "audience": "api://AzureADTokenExchange",
    }
    (row,) = listed(tmp_path, "identity", "list")
    assert [credential] == row["federatedCredentials"]
    assert "canary" not in printed + shown + str(row)
    output(tmp_path, "identity", "remove", CLIENT)
    assert [] == listed(tmp_path, "identity", "list")


def test_service_account_tokens_are_minted(tmp_path: Path) -> None:
    """As kubelet passes them, or one alone; the keys of a foreign issuer can be registered."""
    words = ["token", "--subject", "system:serviceaccount:shop:web"]
    passed = json.loads(output(tmp_path, *words, "--lifetime", "5m"))
    assert ["api://AzureADTokenExchange"] == list(passed)
    assert 2 == output(tmp_path, *words, "--raw").count(".")
    (issuer,) = listed(tmp_path, "issuer", "list")
    assert {"url": "https://kubernetes.default.svc.cluster.local"} == issuer
    (tmp_path / "jwks.json").write_text("{}")
    jwks = ["--jwks", str(tmp_path / "jwks.json")]
    assert "cannot be used" in refusal(tmp_path, "issuer", "add", "https://issuer.example", *jwks)


def test_tuning_changes_what_it_names(tmp_path: Path) -> None:
    """Without options it shows; --clear forgets everything."""
    fault = "/secrets 429 retry-after=2 x3"
    shown = output(tmp_path, "tune", "--latency", "20ms", "--throttle", "10/s", "--fault", fault)
    assert "latency 20ms, throttle 10/s, retry-after 1s" in shown
    assert f"fault: {fault}\n" in shown
    assert "latency 20ms, throttle off" in output(tmp_path, "tune", "--throttle", "off")
    cleared = output(tmp_path, "tune", "--clear")
    assert "behaviour: latency 0ms, throttle off, retry-after 1s, token-lifetime 3600s\n" == cleared


@pytest.mark.parametrize(
    ("words", "stdin", "text"),
    [
        (["get", "contoso", "db"], "", "vault 'contoso' has no secret 'db'"),
        (["list", "nowhere"], "", "there is no vault 'nowhere'"),
        (["set", "contoso", "db"], "", "stdin contains no value of db"),
        (["set", "contoso", "a_b"], "x", "cannot be the name of a secret"),
        (["set", "contoso", "db", "--value-file", "/nonexistent"], "", "cannot be read"),
        (["set", "contoso", "db", "--expires", "soon"], "x", "is not a time"),
        (["set", "contoso", "db", "--tag", "a"], "x", "has no value"),
        (["disable", "contoso", "db"], "", "has no secret 'db'"),
        (["delete", "contoso", "db", "--recover"], "", "has no deleted secret"),
        (["delete", "contoso", "db", "--recover", "--purge"], "", "exclude each other"),
        (["policy", "contoso", "nobody", "--allow", "get"], "", "no identity has the client ID"),
        (["policy", "contoso", "--allow", "get"], "", "no principal is named"),
        (["policy", "contoso", "system", "--allow", "read"], "", "'read' is not a permission"),
        (["identity", "add-managed"], "", "no identity is named"),
        (["identity", "remove", "nobody"], "", "no identity has the client ID"),
        (["token", "--subject", "web"], "", "is not the subject of a service account"),
        (["tune", "--latency", "fast"], "", "is not a duration"),
        (["tune", "--fault", "x"], "", "is not a fault"),
        (["run", "--listen", "0.0.0.0:8443"], "", "loopback only"),
        (["run", "--listen", "127.0.0.1"], "", "is not ADDRESS:PORT"),
    ],
)
def test_a_refusal_is_an_error_and_a_hint_on_stderr(
    tmp_path: Path, words: list[str], stdin: str, text: str
) -> None:
    """It names the problem."""
    output(tmp_path, "key", "create", "contoso", "k", "--kty", "EC")
    assert text in refusal(tmp_path, *words, stdin=stdin)


def test_a_value_that_is_no_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    """Key Vault holds text."""
    (tmp_path / "value").write_bytes(b"canary\xff")
    line = refusal(tmp_path, "set", "contoso", "db", "--value-file", str(tmp_path / "value"))
    assert "is not UTF-8 text" in line
    assert "canary" not in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_cleanly(tmp_path: Path, number: int) -> None:
    """Exit code 0, and nothing points to the ports any more."""
    with running(tmp_path) as process:
        DevRedirect.read(tmp_path)
        process.send_signal(number)
        printed, errors = process.communicate(timeout=WAIT_SECONDS)
    assert (0, "") == (process.returncode, errors)
    assert "The development vault has stopped" in printed
    assert not (tmp_path / "connection.json").exists()


def test_the_status_shows_the_running_server(tmp_path: Path) -> None:
    """Where it listens, what it holds, and what was asked; a second one is refused."""
    output(tmp_path, "set", "contoso", "db", stdin="x")
    assert "Not running" in output(tmp_path, "status")
    with running(tmp_path):
        address, port = DevRedirect.read(tmp_path).https
        output(tmp_path, "status")
        shown = output(tmp_path, "status")
        assert f"Running, data in {tmp_path}: https {address}:{port}" in shown
        assert "vault contoso: 1 secret, 1 policy, tenant " in shown
        assert "requests:      1 GET other" in shown
        assert "already running" in refusal(tmp_path, "run")


def test_a_killed_server_does_not_block_the_next_one(tmp_path: Path) -> None:
    """Its lock is released with it, and clients of the killed one find the next one."""
    with running(tmp_path) as process:
        killed = DevRedirect.read(tmp_path)
        process.kill()
        process.wait(timeout=WAIT_SECONDS)
    assert not is_running(tmp_path)
    assert (tmp_path / "connection.json").exists()
    assert not killed.is_running()
    with running(tmp_path):
        assert killed == DevRedirect.read(tmp_path)
        assert killed.is_running()
    with socket.create_server(killed.https), running(tmp_path):
        assert killed.https != DevRedirect.read(tmp_path).https


@pytest.mark.parametrize(
    "words",
    [
        ["get", "contoso", "db"],
        ["list", "contoso"],
        ["key", "list", "contoso"],
        ["cert", "get", "contoso", "web"],
        ["identity", "list"],
        ["identity", "federate", CLIENT, "--subject", "system:serviceaccount:shop:web"],
        ["issuer", "list"],
        ["policy", "contoso"],
        ["disable", "contoso", "db"],
        ["delete", "contoso", "db"],
    ],
)
def test_a_read_of_a_folder_without_data_creates_nothing(tmp_path: Path, words: list[str]) -> None:
    """The message names the folder, and the command that creates the data there."""
    folder = tmp_path / "no data"
    line = refusal(folder, *words)
    assert f"there is no data of a development vault in {folder}" in line
    assert f"keyferry devvault set VAULT NAME --data '{folder}'" in line
    assert not folder.exists()


def test_the_status_of_a_folder_without_data_creates_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    start = f"start it with: keyferry devvault run --data {folder}"
    assert f"Not running, no data in {folder}; {start}\n" == output(folder, "status")
    assert not json.loads(output(folder, "status", "-o", "json"))["running"]
    assert not folder.exists()


@pytest.mark.parametrize("noun", [[], ["key"], ["cert"]])
def test_a_missing_vault_differs_from_a_missing_object(tmp_path: Path, noun: list[str]) -> None:
    output(tmp_path, "set", "contoso", "db", stdin="a")
    for words in (["get", "nope", "x"], ["list", "nope"], ["disable", "nope", "x"]):
        line = refusal(tmp_path, *noun, *words)
        assert "there is no vault 'nope'\nhint: The vaults are: contoso." in line
    assert "vault 'contoso' has no " in refusal(tmp_path, *noun, "get", "contoso", "nope")
    assert "no version 'ff' of secret 'db'" in refusal(
        tmp_path, "get", "contoso", "db", "--version", "ff"
    )


def test_a_deleted_secret_differs_from_a_missing_one(tmp_path: Path) -> None:
    output(tmp_path, "set", "contoso", "db", stdin="a")
    output(tmp_path, "delete", "contoso", "db")
    line = refusal(tmp_path, "get", "contoso", "db")
    assert "secret 'db' of vault 'contoso' is deleted\nhint: Recover it" in line
    assert f"keyferry devvault delete contoso db --recover --data {tmp_path}" in line


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["get", "contoso", "nope"], "list contoso"),
        (["get", "nope", "x"], "set nope NAME"),
        (["policy", "nope", "system", "--allow", "get"], "set nope NAME"),
        (["policy", "contoso", "nobody", "--allow", "get"], "identity list"),
        (["cert", "get", "contoso", "nope"], "cert list contoso"),
        (["key", "delete", "contoso", "nope"], "key list contoso"),
        (["delete", "contoso", "nope", "--recover"], "list contoso"),
    ],
)
def test_a_hint_repeats_the_data_folder_unless_it_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], command: str
) -> None:
    """Without it, the suggested command would work on the data of another vault."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for options in (["--data", str(tmp_path / "own")], []):
        invoke_cli(devvault, "set", "contoso", "db", *options, stdin="a")
        result = invoke_cli(devvault, *words, *options)
        assert 0 != result.exit_code
        assert " ".join(["keyferry", "devvault", command, *options]) in result.stderr
        assert bool(options) == ("--data" in result.stderr)


@pytest.mark.parametrize("subject", ["shop:web", "system:serviceaccount:shop", "web", "a:b:c:d"])
def test_a_subject_that_no_token_can_have_is_refused(tmp_path: Path, subject: str) -> None:
    """`federate` checks it as `token` does; another issuer may have other subjects."""
    output(tmp_path, "identity", "add-app", CLIENT, "--no-secret")
    words = ["identity", "federate", CLIENT, "--subject", subject]
    assert "is not the subject of a service account" in refusal(tmp_path, *words)
    assert refusal(tmp_path, *words) == refusal(tmp_path, "token", "--subject", subject)
    output(tmp_path, *words, "--issuer", "https://issuer.example")


def test_a_short_subject_is_completed_in_the_message(tmp_path: Path) -> None:
    line = refusal(tmp_path, "token", "--subject", "shop:web")
    assert "Write system:serviceaccount:shop:web." in line
