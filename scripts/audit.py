"""Compares the locked Python packages with the known vulnerabilities, by pip-audit.

Usage: .venv-tools/bin/python -m scripts.audit [--service pypi|osv] [--osv-url URL] [LOCK ...]

Exit codes:
  0  every package was compared; none has a known vulnerability
  1  a package has a known vulnerability
  3  not every package could be compared, because no database was reached or it is not one

pip-audit also reports success if the database answers for none of the packages. Therefore, an old
package with known vulnerabilities is compared first: a database must know them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
_VULNERABLE = "jinja2==2.4.1"
_NONE, _FOUND, _USAGE, _INCOMPLETE = 0, 1, 2, 3


@dataclass(frozen=True)
class Report:
    """What a database knows of packages.

    Attributes:
        vulnerable: for each vulnerability, package and version, identifiers and fixed versions.
        compared: the number of packages that were compared.
        missing: the reason for each package that was not compared.
    """

    vulnerable: tuple[str, ...]
    compared: int
    missing: tuple[str, ...]


def main() -> None:
    """Entry point."""
    options = _options()
    canary = compare(f"{_VULNERABLE}\n", options)
    if not canary.vulnerable:
        reason = (*canary.missing, f"it knows no vulnerability of {_VULNERABLE}")[0]
        sys.stderr.write(
            "NOT AUDITED: no vulnerability database was reached, so no package was compared "
            f"({options.service}: {reason}).\n"
            "Run make audit on a machine that reaches one, such as a runner of GitHub Actions.\n"
        )
        sys.exit(_INCOMPLETE)
    reports = [(lock, compare(pinned(lock), options)) for lock in options.locks]
    for lock, report in reports:
        for each in (*report.vulnerable, *report.missing):
            print(f"{lock.name}: {each}")
    compared = sum(report.compared for _, report in reports)
    found = sum(len(report.vulnerable) for _, report in reports)
    missing = sum(len(report.missing) for _, report in reports)
    print(
        f"{compared} packages of {len(reports)} lock files compared with {options.service}: "
        f"{found} known vulnerabilities, {missing} packages not compared"
    )
    sys.exit(_FOUND if found else _INCOMPLETE if missing or not compared else _NONE)


def pinned(lock: Path) -> str:
    """Return the packages of a lock file with their versions, without hashes."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", lock.read_text(), re.MULTILINE)
    return "".join(f"{name}=={version}\n" for name, version in found)


def compare(packages: str, options: argparse.Namespace) -> Report:
    """Ask the database about packages."""
    with TemporaryDirectory() as folder:
        asked = Path(folder, "requirements.txt")
        asked.write_text(packages)
        command = [
            *(sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json"),
            *("--disable-pip", "--no-deps", f"--requirement={asked}"),
            *(f"--cache-dir={folder}/cache", f"--vulnerability-service={options.service}"),
        ]
        if options.osv_url:
            command.append(f"--osv-url={options.osv_url}")
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == _USAGE:
        sys.exit(run.stderr)
    try:
        dependencies = json.loads(run.stdout)["dependencies"]
    except ValueError:
        last = run.stderr.strip().splitlines()[-1:] or [f"pip-audit ended with {run.returncode}"]
        return Report((), 0, tuple(last))
    return Report(
        tuple(
            _described(each, vulnerability)
            for each in dependencies
            for vulnerability in each.get("vulns", ())
        ),
        sum("vulns" in each for each in dependencies),
        tuple(each["skip_reason"] for each in dependencies if "skip_reason" in each),
    )


def _described(package: dict[str, str], vulnerability: dict[str, list[str]]) -> str:
    names = ", ".join([str(vulnerability["id"]), *vulnerability.get("aliases", ())])
    fixed = " or ".join(vulnerability["fix_versions"]) or "no version"
    return f"{package['name']} {package['version']} is vulnerable: {names}; fixed in {fixed}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi")
    parser.add_argument("--osv-url", default="", help="address of an OSV database")
    everything = sorted(
        path
        for path in (ROOT / "requirements").glob("*.lock")
        if path.stem not in {"image", "lowest"}
    )
    parser.add_argument("locks", nargs="*", type=Path, default=everything, metavar="LOCK")
    return parser.parse_args()


if __name__ == "__main__":
    main()
