"""Write charts/keyferry/README.md from the comments of values.yaml.

A comment directly above a key describes it; a line that begins with `## ` starts a section. A map
whose keys have comments of their own is described by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CHART = Path(__file__).parents[1] / "charts" / "keyferry"
_LONG = 60
_KEY = re.compile(r"^( *)([\w-]+):( .*)?$")

_HEAD = """\
# keyferry

{description}

This page is generated from `values.yaml` by `scripts/chart_readme.py`. A test verifies that it is
up to date.

## Installation

Requirements: Kubernetes 1.30 or newer with Linux nodes, and Helm 3. Nothing is published yet: build
the image from the repository, and load it into the cluster or push it to a registry
([Installation]({docs}/docs/operations/install.md)).

```console
$ helm install keyferry charts/keyferry --namespace kube-system --values values.yaml
$ kubectl --namespace kube-system rollout status daemonset/keyferry
```

The Pods of the driver are privileged, because only privileged containers may propagate mounts. A
namespace that enforces Pod Security must permit that:

```console
$ kubectl label namespace NAMESPACE pod-security.kubernetes.io/enforce=privileged
```

The controller of SecretSyncs is a Deployment without privileges, in addition to the driver or
alone, for example beside the driver that a cloud manages:

```console
$ helm install keyferry charts/keyferry --namespace kube-system --set driver.enabled=false \\
    --set secretSync.enabled=true --set 'secretSync.namespaces={{default}}'
$ kubectl --namespace kube-system rollout status deployment/keyferry-sync
```

[Installation]({docs}/docs/operations/install.md) also describes upgrades of the CRDs and how to
uninstall. [Migration]({docs}/docs/operations/migrate.md) converts the values of the charts of the
Secrets Store CSI Driver and its providers.

## Values

`values.schema.json` describes all values. A misspelt name or a value of the wrong type stops
`helm install` with its name, before anything is installed. Names and meanings of upstream's chart
are unchanged.
"""


class Value(NamedTuple):
    """A value of the chart.

    Attributes:
        path: its name, with dots.
        default: the default value.
        text: its description; empty without a comment.
    """

    path: str
    default: Any
    text: str


class Section(NamedTuple):
    """A section of values.yaml.

    Attributes:
        title: its heading.
        values: the values in it, in order. Maps with described keys have an entry of their own.
    """

    title: str
    values: list[Value]


def sections(text: str) -> list[Section]:
    """The sections of values.yaml with the values that it describes.

    Args:
        text: the content of the file.
    """
    defaults = yaml.safe_load(text)
    found: list[Section] = []
    comment: list[str] = []
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if line.startswith("## "):
            found.append(Section(line.removeprefix("## "), []))
        stripped = line.strip()
        if stripped.startswith("# "):
            comment.append(stripped.removeprefix("# "))
            continue
        if key := _KEY.match(line):
            indent = len(key[1])
            above = [each for each in above if each[0] < indent] + [(indent, key[2])]
            found[-1].values.extend(_value(defaults, [name for _, name in above], comment))
        comment = []
    return [Section(each.title, _described(each.values)) for each in found]


def _value(values: Any, names: list[str], comment: list[str]) -> Iterator[Value]:
    for name in names:
        if not isinstance(values, dict):  # the key is in an item of a list
            return
        values = values[name]
    yield Value(".".join(names), values, " ".join(comment))


def _described(values: list[Value]) -> list[Value]:
    """Without the keys of maps that are described as a whole."""
    kept: list[Value] = []
    for value in values:
        parents = [each for each in kept if value.path.startswith(f"{each.path}.")]
        if value.text or not any(each.text for each in parents):
            kept.append(value)
    return kept


def undescribed(found: list[Section]) -> list[str]:
    """The paths of values without a comment."""
    values = [value for section in found for value in section.values]
    parents = {value.path.rpartition(".")[0] for value in values}
    return [value.path for value in values if not value.text and value.path not in parents]


def page() -> str:
    """The whole page."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    docs = f"{chart['home']}/blob/v{chart['version']}"
    head = _HEAD.format(description=chart["description"], docs=docs)
    parts = [_section(each, docs) for each in sections((CHART / "values.yaml").read_text())]
    return head + "".join(parts)


def _section(section: Section, docs: str) -> str:
    parents = {value.path.rpartition(".")[0] for value in section.values}
    rows = "\n".join(
        f"| `{value.path}` | {'' if value.path in parents else _shown(value.default)} "
        f"| {_linked(value.text, docs)} |"
        for value in section.values
        if value.text
    )
    return f"\n### {section.title}\n\n| value | default | meaning |\n|---|---|---|\n{rows}\n"


def _shown(default: Any) -> str:
    if default == "":
        return ""
    text = json.dumps(default) if not isinstance(default, str) else default
    return f"`{text}`" if len(text) <= _LONG else "see `values.yaml`"


def _linked(text: str, docs: str) -> str:
    text = text.replace("|", "\\|")
    return re.sub(r"\bdocs/[\w/-]+\.md", lambda match: f"[{match[0]}]({docs}/{match[0]})", text)


if __name__ == "__main__":
    (CHART / "README.md").write_text(page())
