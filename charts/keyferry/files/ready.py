"""Runs in the Pod of `helm test`: asks the driver on each node whether it is ready.

Environment: NAMESPACE, SELECTOR and PORT of the Pods of the driver. Needs only Python.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 60
"""How long a driver may take to become ready."""
_FAILURES = (OSError, http.client.HTTPException)


def host(address: str) -> str:
    """The address as a part of a URL."""
    return f"[{address}]" if ":" in address else address


def driver_pods(account: Path = ACCOUNT) -> list[dict[str, dict[str, str]]]:
    """The Pods of the driver, from the Kubernetes API.

    Args:
        account: the directory with the token of the Pod and the CA of the API.
    """
    server = (
        f"{host(os.environ['KUBERNETES_SERVICE_HOST'])}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    )
    path = f"/api/v1/namespaces/{os.environ['NAMESPACE']}/pods"
    request = Request(f"https://{server}{path}?labelSelector={quote(os.environ['SELECTOR'])}")
    request.add_header("Authorization", f"Bearer {(account / 'token').read_text().strip()}")
    trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
    with urlopen(request, timeout=10, context=trusted) as response:
        items = json.load(response)["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def problem(pod: dict[str, dict[str, str]]) -> str:
    """Why the driver in this Pod is not ready; empty if it is."""
    address = pod["status"].get("podIP", "")
    if not address:
        return f"the Pod is {pod['status'].get('phase', 'Pending')}; see kubectl describe pod"
    try:
        with urlopen(f"http://{host(address)}:{os.environ['PORT']}/readyz", timeout=5):
            return ""
    except HTTPError as error:
        with error:
            return error.read(1000).decode(errors="replace").strip() or f"HTTP {error.code}"
    except URLError as error:
        return f"/readyz does not respond: {error.reason}"
    except _FAILURES as error:
        return f"/readyz does not respond: {error}"


def main() -> int:
    """Wait until all drivers are ready; print one line for each node."""
    end = time.monotonic() + SECONDS
    while True:
        pods = driver_pods()
        states = {f"{each['spec'].get('nodeName', 'no node')}": problem(each) for each in pods}
        waiting = any(states.values()) or not states
        if not waiting or time.monotonic() > end:
            break
        time.sleep(2)
    for node, state in sorted(states.items()):
        print(f"{node}: {f'not ready: {state}' if state else 'ready'}")
    if not states:
        print(
            "There is no Pod of the driver: no node matches linux.nodeSelector and linux.affinity."
        )
    return int(waiting)


if __name__ == "__main__":
    sys.exit(main())
