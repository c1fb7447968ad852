"""The files of the chart agree with each other and with the rest of the repository."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from typing import Any

import jsonschema
import yaml

from scripts.chart_readme import page, sections, undescribed
from scripts.image.__main__ import default_name
from scripts.image.build import labels, version
from tests.unit.chart.values import CHART, defaults, merged, schema

ROOT = CHART.parents[1]
CRDS = [*(CHART / "crds").iterdir(), *(CHART / "files" / "crds").iterdir()]
"""Helm installs the first ones once; a template renders the others."""
METADATA: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())


def test_the_readme_is_in_sync_with_the_values() -> None:
    """Else: .venv/bin/python -m scripts.chart_readme"""
    assert page() == (CHART / "README.md").read_text()


def test_every_value_is_described() -> None:
    """By a comment in values.yaml, or with the map that contains it."""
    assert [] == undescribed(sections((CHART / "values.yaml").read_text()))


def test_a_described_map_needs_no_comments_inside() -> None:
    """A key in an item of a list is no value; a comment of a section describes nothing."""
    text = (
        "## One\n\n# A map.\na:\n  b: 1\n  c:\n    - d: 2\n      e: 3\nf:\n  # A number.\n  g: 4\n"
    )
    (section,) = sections(text)
    found = [(value.path, value.default, value.text) for value in section.values]
    assert [("a", {"b": 1, "c": [{"d": 2, "e": 3}]}, "A map."), ("f.g", 4, "A number.")] == [
        each for each in found if each[2]
    ]
    assert [] == undescribed([section])
    assert ["h"] == undescribed(sections("## One\nh: 1\n"))


def test_the_crds_are_real_files() -> None:
    """Not a link out of the chart. scripts/deploy.sh copies them to deploy/crds."""
    assert not any(path.is_symlink() or path.parent.is_symlink() for path in CRDS)
    chart = {path.name: path.read_text() for path in CRDS}
    assert chart == {path.name: path.read_text() for path in (ROOT / "deploy/crds").iterdir()}
    names = {yaml.safe_load(text)["metadata"]["name"] for text in chart.values()}
    listed = yaml.safe_load(METADATA["annotations"]["artifacthub.io/crds"])
    assert names == {each["name"] for each in listed}


def test_the_metadata_names_one_repository() -> None:
    """That of the package and of the image."""
    repository = labels()["org.opencontainers.image.source"]
    assert repository == METADATA["home"]
    assert [repository] == METADATA["sources"]
    host = repository.replace("https://github.com", "https://raw.githubusercontent.com")
    assert METADATA["icon"].startswith(f"{host}/main/")
    assert (ROOT / METADATA["icon"].removeprefix(f"{host}/main/")).is_file()
    for each in yaml.safe_load(METADATA["annotations"]["artifacthub.io/links"]):
        assert each["url"].startswith(f"{repository}/")
        if path := each["url"].partition(f"/blob/v{version()}/")[2]:
            assert (ROOT / path).is_file()


def test_the_default_image_is_what_a_release_publishes() -> None:
    """Name and tag, in the values, in scripts/publish.sh and in the metadata."""
    script = (ROOT / "scripts" / "publish.sh").read_text()
    (line,) = re.findall(r"^repository=.*$", script, re.MULTILINE)
    run = subprocess.run(
        ["bash", "-euc", f'{line}; echo "$repository"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    image = defaults()["linux"]["image"]
    assert run.stdout.strip() == image["repository"]
    assert '"docker://$repository:v$version"' in script
    assert not image["tag"]
    assert not image["digest"]
    assert METADATA["version"] == METADATA["appVersion"] == version()
    assert default_name() == f"{image['repository']}:v{METADATA['appVersion']}"
    listed = yaml.safe_load(METADATA["annotations"]["artifacthub.io/images"])
    assert [default_name()] == [each["image"] for each in listed]


def test_the_values_for_a_local_image_are_valid() -> None:
    """They keep the name of the image, and never pull it."""
    values = yaml.safe_load((CHART / "values-local.yaml").read_text())
    jsonschema.validate(merged(defaults(), values), schema())
    assert values["linux"]["image"] == {"pullPolicy": "Never"}


def test_documented_values_of_the_chart_are_valid() -> None:
    """Names after `--set` in the documentation."""
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        lines = [line for line in path.read_text().splitlines() if "az " not in line]
        for name in re.findall(r"--set(?:-json)? '?([\w.]+)=", "\n".join(lines)):
            values: Any = defaults()
            for part in name.split("."):
                assert part in values, f"{path.name}: {name}"
                values = values[part]


def test_crds_have_columns_and_short_names() -> None:
    """`kubectl get spcps` shows which volumes cannot be refreshed. Only fields of the schema."""
    found = {}
    for path in CRDS:
        spec = yaml.safe_load(path.read_text())["spec"]
        version = spec["versions"][0]
        columns = version["additionalPrinterColumns"]
        found[tuple(spec["names"]["shortNames"])] = [column["name"] for column in columns]
        schema = version["schema"]["openAPIV3Schema"]["properties"]
        for column in columns:
            _, part, field, *_ = column["jsonPath"].replace("[", ".").split(".")
            assert part == "metadata" or field in schema[part]["properties"]
    assert {
        ("spc",): ["Provider", "Age"],
        ("spcps",): ["Pod", "SecretProviderClass", "Refreshed", "Last Refresh", "Reason", "Age"],
        ("ssync",): ["Class", "Secret Type", "Ready", "Reason", "Synced", "Age"],
    } == found


def test_secret_syncs_of_upstream_are_accepted() -> None:
    """Whatever matches the pattern of its CRD, for paths and for keys."""
    upstream = re.compile(
        r"^[A-Za-z0-9.]([-A-Za-z0-9]+([-._a-zA-Z0-9]?[A-Za-z0-9])*)?(\/([0-9]+))*$"
    )
    crd = yaml.safe_load((ROOT / "deploy" / "crds" / "secretsyncs.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = spec["properties"]["secretObject"]["properties"]["data"]["items"]["properties"]
    texts = ["".join(each) for n in range(1, 6) for each in product("a-._/0", repeat=n)]
    accepted = [each for each in texts if upstream.match(each)]
    assert len(accepted) > 600
    for field in ("sourcePath", "targetKey"):
        pattern = re.compile(fields[field]["pattern"])
        assert [] == [each for each in accepted if not pattern.match(each)]
        assert 1 == fields[field]["minLength"]
        assert fields[field]["maxLength"] >= 253
