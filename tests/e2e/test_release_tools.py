"""The tools of a release: bill of materials, audit, and the linters of the workflows."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from scripts.image.build import native_architecture
from scripts.image.debian import ROOT, locked_packages

PYTHON = ROOT / ".venv-tools" / "bin" / "python"
INCOMPLETE = 3


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@contextmanager
def osv_database(vulnerable: set[str]) -> Iterator[str]:
    """A vulnerability database on this machine that knows one fault of each named package."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"]
            found = {"id": f"TEST-{name}", "summary": "a fault", "affected": []}
            answer = json.dumps({"vulns": [found]} if name in vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(url: str, *locks: str) -> subprocess.CompletedProcess[str]:
    return run_tool("scripts.audit", "--service=osv", f"--osv-url={url}", *locks)


def test_the_audit_fails_if_no_database_is_reached() -> None:
    """With an exit code of its own, and without the word success."""
    run = audit("http://127.0.0.1:9/v1/query")
    assert INCOMPLETE == run.returncode
    assert "NOT AUDITED: no vulnerability database was reached" in run.stderr
    assert not run.stdout


def test_the_audit_fails_if_the_database_knows_nothing() -> None:
    """A server that answers every question with an empty list is no vulnerability database."""
    with osv_database(set()) as url:
        run = audit(url)
    assert INCOMPLETE == run.returncode
    assert "it knows no vulnerability of jinja2==2.4.1" in run.stderr


def test_the_audit_succeeds_if_every_package_was_compared() -> None:
    """And says how many."""
    with osv_database({"jinja2"}) as url:
        run = audit(url, "requirements/runtime.lock")
    assert 0 == run.returncode, run.stderr
    count = len(re.findall("==", (ROOT / "requirements/runtime.lock").read_text()))
    assert (
        f"{count} packages of 1 lock files compared with osv: 0 known vulnerabilities" in run.stdout
    )


def test_the_audit_names_a_vulnerable_package() -> None:
    """With the identifiers of the vulnerability."""
    with osv_database({"jinja2", "yarl"}) as url:
        run = audit(url, "requirements/runtime.lock")
    assert 1 == run.returncode
    assert re.search(
        r"^runtime\.lock: yarl [\d.]+ is vulnerable: TEST-yarl", run.stdout, re.MULTILINE
    )


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The bill of materials; the tool checks it against the schema of CycloneDX."""
    folder = tmp_path_factory.mktemp("sbom")
    first, second = (folder / name for name in ("first", "second"))
    for each in (first, second):
        run = run_tool("scripts.sbom", "--newer", f"--folder={each}")
        assert 0 == run.returncode, run.stderr
    name = f"keyferry-{native_architecture()}.cdx.json"
    assert (first / name).read_bytes() == (second / name).read_bytes()
    document = json.loads((first / name).read_text())
    assert isinstance(document, dict)
    return document


def test_the_bill_of_materials_lists_everything_in_the_image(bill: dict[str, Any]) -> None:
    """Debian packages and Python packages with the hashes of the lock files, and Python itself."""
    hashes = {
        each["name"]: each["hashes"][0]["content"]
        for each in bill["components"]
        if each.get("hashes")
    }
    debian = {each.name for each in locked_packages(native_architecture())}
    lock = (ROOT / "requirements" / "runtime.lock").read_text()
    locked = {each.lower() for each in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert debian | locked == hashes.keys()
    assert {"keyferry", "python"} == {each["name"] for each in bill["components"]} - hashes.keys()
    assert all(f"sha256:{hashes[name]}" in lock for name in locked)
    assert "CycloneDX" == bill["bomFormat"]


def test_every_component_has_a_license_and_an_address(bill: dict[str, Any]) -> None:
    """By which scanners find its vulnerabilities."""
    for each in bill["components"]:
        assert each["licenses"], each["name"]
        assert each.get("purl") or each.get("cpe"), each["name"]


def test_dependencies_are_recorded(bill: dict[str, Any]) -> None:
    """The image needs Debian packages and Keyferry, which needs Python packages."""
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert any("libssl3" in each for each in needs["image"])
    (product,) = [each for each in needs["image"] if each.startswith("pkg:pypi/keyferry@")]
    assert any("aiohttp" in each for each in needs[product])


def test_the_workflows_pass_actionlint_and_zizmor() -> None:
    """Without asking any server."""
    run = subprocess.run(
        [ROOT / "scripts" / "workflows.sh"], capture_output=True, text=True, check=False
    )
    assert 0 == run.returncode, run.stdout + run.stderr


def test_a_workflow_with_a_fault_is_found(tmp_path: Path) -> None:
    """An action by its tag, which can be moved."""
    workflow = tmp_path / ".github" / "workflows" / "bad.yaml"
    workflow.parent.mkdir(parents=True)
    good = (ROOT / ".github" / "workflows" / "audit.yaml").read_text()
    workflow.write_text(re.sub(r"actions/checkout@\S+ # v", "actions/checkout@v", good))
    zizmor = [str(PYTHON.parent / "zizmor"), "--offline", "--no-progress", "--color=never"]
    run = subprocess.run([*zizmor, str(workflow)], capture_output=True, text=True, check=False)
    assert run.returncode
    assert "unpinned-uses" in run.stdout
