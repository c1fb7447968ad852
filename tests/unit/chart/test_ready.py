"""The program in the Pod of `helm test`."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import ModuleType
from typing import Any

import pytest

from scripts.image.rootfs import PYTHON
from tests.unit.chart.values import CHART


def loaded() -> ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("ready", CHART / "files" / "ready.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def answering(*answers: tuple[int, str]) -> Iterator[int]:
    """A driver on a port of its own, which gives these answers, the last one forever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is that of the library
            status, text = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status if "/readyz" == self.path else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def pod(node: str, address: str = "127.0.0.1") -> dict[str, Any]:
    return {"metadata": {}, "spec": {"nodeName": node}, "status": {"podIP": address}}


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, which waits for nothing."""
    module = loaded()
    monkeypatch.setattr(module, "SECONDS", 0)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    return module


def test_each_node_is_reported(
    ready: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what /readyz says; the exit code is 0 only if all are ready."""
    monkeypatch.setattr(ready, "driver_pods", lambda: [pod("node-2"), pod("node-1", "127.0.0.2")])
    with answering((503, "kubelet has not registered the driver")) as port:
        monkeypatch.setenv("PORT", str(port))
        assert 1 == ready.main()
    one, two = capsys.readouterr().out.splitlines()
    assert one.startswith("node-1: not ready: /readyz does not respond: ")
    assert "node-2: not ready: kubelet has not registered the driver" == two


def test_a_driver_that_starts_is_waited_for(
    ready: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until the time is up."""
    monkeypatch.setattr(ready, "SECONDS", 60)
    monkeypatch.setattr(ready, "driver_pods", lambda: [pod("node-1")])
    with answering((503, "starting"), (200, "ok")) as port:
        monkeypatch.setenv("PORT", str(port))
        assert 0 == ready.main()
    assert "node-1: ready\n" == capsys.readouterr().out


def test_a_pod_without_an_address_and_no_pod_are_failures(
    ready: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the next step."""
    waiting = {"metadata": {}, "spec": {}, "status": {"phase": "Pending"}}
    monkeypatch.setattr(ready, "driver_pods", lambda: [waiting])
    assert 1 == ready.main()
    monkeypatch.setattr(ready, "driver_pods", list)
    assert 1 == ready.main()
    said = capsys.readouterr().out
    assert "no node: not ready: the Pod is Pending; see kubectl describe pod\n" in said
    assert "no node matches linux.nodeSelector and linux.affinity" in said


def test_addresses_of_both_families_are_parts_of_urls(ready: ModuleType) -> None:
    """IPv6 in brackets."""
    assert ("10.0.0.1", "[fd00::1]") == (ready.host("10.0.0.1"), ready.host("fd00::1"))


def test_the_image_contains_the_interpreter() -> None:
    """Under the name that the Pod uses, as in the image of the Containerfile."""
    template = (CHART / "templates" / "tests" / "ready.yaml").read_text()
    (name,) = re.findall(r"^      command: \[([\w.]+), -I, -B, -c\]$", template, re.MULTILINE)
    assert PYTHON.name == name
    containerfile = (CHART.parents[1] / "Containerfile").read_text()
    assert f"/usr/local/lib/{name}/" in containerfile
