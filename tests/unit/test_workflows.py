"""The workflows of GitHub Actions: thin, pinned, and with no more permissions than they need."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"]]
RULES = re.findall(r"^([a-z0-9 -]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
TARGETS = {target for targets in RULES for target in targets.split()}
MAY_WRITE = {
    ("release", "image"): {"packages", "id-token", "attestations"},
    ("release", "chart"): {"packages", "id-token", "attestations"},
    ("release", "python"): {"id-token", "attestations"},
    ("release", "github"): {"contents", "id-token", "attestations"},
}


def job_of(workflow: str, name: str) -> dict[str, Any]:
    job = WORKFLOWS[workflow]["jobs"][name]
    assert isinstance(job, dict)
    return job


def test_there_is_a_workflow_for_each_purpose() -> None:
    """And none without these rules."""
    assert {"audit", "check", "e2e", "release", "test"} == WORKFLOWS.keys()
    assert {"yaml"} == {path.suffix[1:] for path in FOLDER.iterdir()}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_action_is_pinned_by_commit(workflow: str) -> None:
    """With the version as a comment, which Dependabot updates, too."""
    used = re.findall(r"uses: (.*)$", (FOLDER / f"{workflow}.yaml").read_text(), re.MULTILINE)
    assert used
    for each in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_every_step_is_an_action_or_one_make_target(workflow: str, job: str) -> None:
    """So everything that a workflow does can be done without it."""
    found = job_of(workflow, job)
    matrix = found.get("strategy", {}).get("matrix", {})
    ran = [each["run"] for each in found["steps"] if "run" in each]
    assert ran
    for command in ran:
        target = re.fullmatch(r'make ("\$TARGET"|[a-z0-9-]+)( [A-Z_]+="[^"$`]*")*', command)
        assert target, command
        assert set(matrix["target"] if "$" in target[1] else [target[1]]) <= TARGETS, command


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_permissions_are_minimal(workflow: str, job: str) -> None:
    """None by default; a job may read the source, and write only what it publishes."""
    assert {} == WORKFLOWS[workflow]["permissions"]
    permissions = job_of(workflow, job)["permissions"]
    writes = {name for name, kind in permissions.items() if kind == "write"}
    assert MAY_WRITE.get((workflow, job), set()) == writes
    assert {"read"} >= {kind for name, kind in permissions.items() if name not in writes}


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_the_token_does_not_stay_in_the_checkout(workflow: str, job: str) -> None:
    """Where code from pull requests could read it."""
    steps = job_of(workflow, job)["steps"]
    checkouts = [each for each in steps if each.get("uses", "").startswith("actions/checkout@")]
    assert [{"persist-credentials": False}] == [each["with"] for each in checkouts]


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_containers_and_times_are_bounded(workflow: str, job: str) -> None:
    """A container is named by its digest; a job that hangs ends."""
    found = job_of(workflow, job)
    assert 0 < found["timeout-minutes"] <= 90
    if container := found.get("container"):
        name = container if isinstance(container, str) else container["image"]
        assert re.search(r"@sha256:[0-9a-f]{64}$", name), name


def test_no_workflow_runs_untrusted_code_with_secrets() -> None:
    """The triggers that do are not used, and only the release sees a secret or writes anything."""
    for name, path in ((path.stem, path) for path in FOLDER.iterdir()):
        text = path.read_text()
        assert not re.search(r"pull_request_target|workflow_run|issue_comment", text)
        assert name == "release" or "secrets." not in text
    assert {"push": {"tags": ["v*"]}} == WORKFLOWS["release"][True]  # YAML reads `on` as true


def test_dependabot_watches_every_pinned_action_image_and_module() -> None:
    """Directories that exist, with what the ecosystem updates."""
    config = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())
    watched = {
        (each["package-ecosystem"], place)
        for each in config["updates"]
        for place in each.get("directories", [each.get("directory")])
    }
    modules = {f"/{path.parent.relative_to(ROOT)}" for path in ROOT.glob("tests/**/go.mod")}
    assert {("github-actions", "/"), ("docker", "/")} <= watched
    assert modules == {place for ecosystem, place in watched if ecosystem == "gomod"}


@pytest.mark.parametrize("tag", ["v9.9.9", "main"])
def test_a_tag_that_does_not_name_the_version_is_not_released(tag: str) -> None:
    """Before anything is built."""
    run = subprocess.run(
        [ROOT / "scripts" / "publish.sh", "check"],
        env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 1 == run.returncode
    assert f"but {tag.removeprefix('v')} in the tag, the chart or the package" in run.stderr
