"""Paths that a user names: what cannot be used is an error in one line, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.cli import keyferry
from keyferry.cli.failures import run_command

TOO_LONG = "x" * 300
"""No file system has such a name, for root neither; `Path.exists` raises for it."""
CLASS = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app}
spec:
  provider: azure
  parameters:
    useVMManagedIdentity: "true"
    keyvaultName: contoso
    tenantID: 11111111-0000-4000-8000-000000000000
    objects: "array: ['objectName: db, objectType: secret']"
"""


@pytest.mark.parametrize("path", [TOO_LONG, "loop", "file/below"])
@pytest.mark.parametrize(
    "words",
    [
        "devvault status --data PATH",
        "devvault list contoso --data PATH",
        "devvault run --data PATH",
        "unmount PATH",
        "unmount none --secrets-dir PATH",
        "mount PATH target",
        "mount app.yaml PATH --dev-vault none",
        "mount app.yaml target --credentials PATH",
        "mount app.yaml target --service-account-tokens PATH",
        "mount app.yaml target --dev-vault PATH",
        "get PATH db",
        "run app.yaml --dev-vault none -- PATH",
    ],
)
def test_unusable_path_is_an_error_without_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    path: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.yaml").write_text(CLASS)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(each.name for each in tmp_path.iterdir())
    arguments = [path if word == "PATH" else word for word in words.split()]
    code = run_command(keyferry, arguments, name="keyferry")
    shown = capsys.readouterr()
    assert "unexpected" not in shown.err
    assert "Traceback" not in shown.err
    assert (code != 0) == ("error: " in shown.err)
    assert before == sorted(each.name for each in tmp_path.iterdir())


def test_interval_requires_watch(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(keyferry, ["mount", ".", "t", "--interval", "3s"], name="keyferry")
    assert (2, True) == (code, "--interval requires --watch" in capsys.readouterr().err)


@pytest.mark.parametrize(
    ("value", "problem"), [("abc", "'abc' is not a number"), ("-1", "'-1' is not 0 or greater")]
)
def test_number_is_checked(value: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(keyferry, ["mount", ".", "t", "--vault-qps", value], name="keyferry")
    assert (2, True) == (code, problem in capsys.readouterr().err)
