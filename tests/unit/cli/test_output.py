"""What a command lists, as a table, JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from keyferry.cli.output import OutputFormat, counted, output_option, print_list

COLUMNS = {"NAME": "name", "ENABLED": "enabled", "TAGS": "tags"}
ROWS = [
    {"name": "db", "enabled": True, "tags": {"env": "prod", "team": "shop"}, "created": 1},
    {"name": "a-longer-name", "enabled": False, "tags": {}, "created": 2},
]


def run(rows: Sequence[Mapping[str, object]], *words: str) -> Result:
    @click.command()
    @output_option
    def command(output: OutputFormat) -> None:
        print_list(rows, COLUMNS, output, empty="no secrets")

    return CliRunner().invoke(command, words)


def test_a_table_has_headings_and_aligned_columns() -> None:
    assert (
        "NAME           ENABLED  TAGS\n"
        "db             true     env=prod,team=shop\n"
        "a-longer-name  false    -\n"
    ) == run(ROWS).stdout


def test_json_and_yaml_contain_every_key() -> None:
    assert ROWS == json.loads(run(ROWS, "-o", "json").stdout)
    assert ROWS == yaml.safe_load(run(ROWS, "--output", "yaml").stdout)


@pytest.mark.parametrize(("words", "stdout"), [((), ""), (("-o", "json"), "[]\n")])
def test_an_empty_table_says_so_on_stderr_only(words: Sequence[str], stdout: str) -> None:
    result = run([], *words)
    assert (stdout, "" if words else "no secrets\n") == (result.stdout, result.stderr)


def test_an_unknown_format_is_refused_with_the_choices() -> None:
    result = run(ROWS, "-o", "xml")
    assert 2 == result.exit_code
    assert "'xml' is not one of 'table', 'json', 'yaml'" in result.stderr


@pytest.mark.parametrize(("words", "shown"), [((), "a?b"), (("-o", "json"), '"a\\nb"')])
def test_control_characters_do_not_reach_the_terminal(words: Sequence[str], shown: str) -> None:
    assert shown in run([{"name": "a\nb"}], *words).stdout


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_name_that_is_not_unicode_can_be_printed(output: str) -> None:
    assert [{"name": "a?"}] == yaml.safe_load(run([{"name": "a\udcff"}], "-o", output).stdout)


def test_a_number_agrees_with_its_noun() -> None:
    assert ["0 secrets", "1 secret", "2 policies"] == [
        counted(0, "secret"),
        counted(1, "secret"),
        counted(2, "policy", "policies"),
    ]
