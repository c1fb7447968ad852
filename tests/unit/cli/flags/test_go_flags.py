"""Go flags: flags of the driver: the arguments of existing manifests work."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry import __version__
from keyferry.cli.daemons import sync_controller
from keyferry.cli.daemons.driver import DRIVER_FLAGS, settings_from
from keyferry.cli.flags.go_flags import (
    FlagError,
    FlagKind,
    FlagValue,
    GoFlag,
    help_text,
    parse_flags,
    warn_ignored,
)
from keyferry.driver.settings import VolumeKind
from keyferry.errors import PlatformError
from keyferry.telemetry.help_links import DEFAULT_HELP_URL
from tests.fakes.log import captured_log

TABLE = (
    GoFlag("name", FlagKind.STRING, "x", "a text"),
    GoFlag("count", FlagKind.INT, "3", "a number"),
    GoFlag("on", FlagKind.BOOL, "false", "a switch"),
    GoFlag("wait", FlagKind.DURATION, "2m", "a while"),
    GoFlag("old", FlagKind.STRING, "", "", "it was for another time"),
)

UPSTREAM: dict[str, FlagValue] = {
    "endpoint": "unix://tmp/csi.sock",
    "drivername": "secrets-store.csi.k8s.io",
    "nodeid": "",
    "log-format-json": False,
    "provider-volume": "/var/run/secrets-store-csi-providers",
    "additional-provider-volume-paths": "/etc/kubernetes/secrets-store-csi-providers",
    "metrics-addr": ":8095",
    "enable-secret-rotation": False,
    "rotation-poll-interval": 120.0,
    "enable-pprof": False,
    "pprof-port": 6065,
    "max-call-recv-msg-size": 4194304,
    "version": False,
    "provider-health-check": False,
    "provider-health-check-interval": 120.0,
    "metrics-backend": "Prometheus",
    "kubeconfig": "",
    "v": 0,
    "vmodule": "",
    "logtostderr": True,
    "alsologtostderr": False,
    "log_dir": "",
    "log_file": "",
    "log_file_max_size": 1800,
    "log_backtrace_at": "",
    "add_dir_header": False,
    "skip_headers": False,
    "skip_log_headers": False,
    "one_output": False,
}
"""The flags of upstream with their defaults.

Source: docs/reference/upstream-driver.md#flags
"""

WITHOUT_MEANING = [
    "enable-pprof", "pprof-port", "metrics-backend", "vmodule", "logtostderr",
    "alsologtostderr", "stderrthreshold", "log_dir", "log_file", "log_file_max_size",
    "log_backtrace_at", "add_dir_header", "skip_headers", "skip_log_headers", "one_output",
]  # fmt: skip


def values(*arguments: str) -> dict[str, FlagValue]:
    """What these arguments give for the table, without what stayed at its default."""
    defaults = parse_flags((), TABLE).values
    return {k: v for k, v in parse_flags(arguments, TABLE).values.items() if v != defaults[k]}


def test_flags_have_their_defaults_without_arguments() -> None:
    """In its own type; durations in seconds."""
    expected = {"name": "x", "count": 3, "on": False, "wait": 120.0, "old": ""}
    assert expected == dict(parse_flags((), TABLE).values)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--name=y"], {"name": "y"}),
        (["-name=y"], {"name": "y"}),
        (["--name", "y"], {"name": "y"}),
        (["-name", "-y"], {"name": "-y"}),
        (["--name="], {"name": ""}),
        (["--name=a=b"], {"name": "a=b"}),
        (["--count", "-5"], {"count": -5}),
        (["--count=+5"], {"count": 5}),
        (["--on"], {"on": True}),
        (["-on"], {"on": True}),
        (["--on=1", "--count", "4"], {"on": True, "count": 4}),
        (["--on=T"], {"on": True}),
        (["--on", "--on=False"], {}),
        (["--wait=30s"], {"wait": 30.0}),
        (["--name=a", "--name=b"], {"name": "b"}),
    ],
)
def test_arguments_are_parsed_like_go_programs_do(
    arguments: list[str], expected: dict[str, FlagValue]
) -> None:
    """One dash or two, with or without '='; the last of a repeated flag counts."""
    assert expected == values(*arguments)


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        ([], DEFAULT_HELP_URL.replace("{version}", __version__)),
        (["--help-url="], ""),
        (
            ["--help-url=https://example.com/{version}/help"],
            f"https://example.com/{__version__}/help",
        ),
    ],
)
def test_events_link_to_the_page_of_this_version(arguments: list[str], page: str) -> None:
    """Or to another one, or to none. The SecretSync controller has the same flag."""
    assert page == settings_from(parse_flags(arguments, DRIVER_FLAGS)).help_url
    controller = sync_controller.settings_from(
        parse_flags(arguments, sync_controller.SYNC_CONTROLLER_FLAGS)
    )
    assert page == controller.help_url


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nme=x"], "flag provided but not defined: -nme"),
        (["--name"], "flag needs an argument: -name"),
        (["--on", "true"], "unexpected argument 'true'"),
        (["word"], "unexpected argument 'word'"),
        (["---name=x"], "unexpected argument"),
        (["--=x"], "unexpected argument"),
        (["-"], "unexpected argument"),
        (["--count=x"], "invalid value 'x' for flag -count: must be an integer"),
        (["--count=1_0"], "must be an integer"),
        (["--count=1.5"], "must be an integer"),
        (["--count= 1"], "must be an integer"),
        (["--count=٣"], "must be an integer"),
        (["--on=yes"], "invalid value 'yes' for flag -on: must be true or false"),
        (["--on="], "must be true or false"),
        (["--wait=30"], "invalid value '30' for flag -wait: write a duration such as 30s"),
    ],
)
def test_invalid_argument_error_names_flag_and_format(arguments: list[str], words: str) -> None:
    """With Go's message where Go has one."""
    with pytest.raises(FlagError) as caught:
        parse_flags(arguments, TABLE)
    assert words in str(caught.value)


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help_is_accepted_in_each_form(word: str) -> None:
    """Whatever other arguments are present."""
    assert parse_flags(["--name=x", word], TABLE).wants_help


def test_help_lists_flags_and_names_those_without_effect() -> None:
    """One line per flag, with its default."""
    text = help_text(TABLE)
    assert "--count" in text
    assert "a number (default 3)" in text
    assert "Accepted for compatibility, without effect: --old." in text


# --- the driver's own -----------------------------------------------------------------------------


def test_each_upstream_flag_exists_with_its_default() -> None:
    """A manifest that leaves a flag out gets what it got before."""
    defaults = parse_flags((), DRIVER_FLAGS).values
    assert {name: defaults.get(name) for name in UPSTREAM} == UPSTREAM


def test_arguments_of_the_upstream_manifest_are_accepted() -> None:
    """As the chart writes them, every option switched on."""
    settings = settings_from(
        parse_flags(
            [
                "--endpoint=unix:///csi/csi.sock", "--nodeid=node-1", "-v=5",
                "--log-format-json=true", "--provider-volume=/p", "--metrics-addr=:9",
                "--additional-provider-volume-paths=/a,/b", "--enable-secret-rotation=true",
                "--rotation-poll-interval=30s", "--provider-health-check=true",
                "--provider-health-check-interval=1m", "--max-call-recv-msg-size=5",
                "--volumes=folder", "--manifests=/m", "--builtin-providers=",
            ],
            DRIVER_FLAGS,
        )
    )  # fmt: skip
    assert "unix:///csi/csi.sock" == settings.endpoint
    assert (Path("/a"), Path("/b"), Path("/p")) == settings.provider_folders
    assert (30.0, 60.0, 5) == (
        settings.rotation_interval,
        settings.health_interval,
        settings.max_receive_bytes,
    )
    assert (VolumeKind.FOLDER, (), Path("/m")) == (
        settings.volume_kind,
        settings.built_in,
        settings.manifests,
    )


def test_proxies_are_read_from_the_environment_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the command line, which alone reads the environment."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    proxies = settings_from(parse_flags((), DRIVER_FLAGS)).proxies
    assert "http://proxy.example:3128" == proxies.proxy_for("https", "far.example")
    assert "" == proxies.proxy_for("https", "near.example")


def test_rotation_and_health_checks_are_off_by_default() -> None:
    """The interval alone does nothing."""
    settings = settings_from(parse_flags(["--rotation-poll-interval=30s"], DRIVER_FLAGS))
    assert (None, None) == (settings.rotation_interval, settings.health_interval)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [([], 600.0), (["--secret-grace-period=0"], 0.0), (["--secret-grace-period=90s"], 90.0)],
)
def test_grace_period_of_secrets_survives_a_restart(arguments: list[str], seconds: float) -> None:
    """Its file is beside the CSI socket, in a folder that outlives the container."""
    flags = ["--endpoint=unix:///csi/csi.sock", *arguments]
    settings = settings_from(parse_flags(flags, DRIVER_FLAGS))
    assert seconds == settings.secret_grace_period
    assert Path("/csi/unused-secrets.json") == settings.unused_secrets_file


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metrics-backend=statsd"], "unsupported metrics backend 'statsd'"),
        (["--max-call-recv-msg-size=0"], "--max-call-recv-msg-size is 0"),
        (["--help-url=troubleshooting.md"], "--help-url is not the address of a page"),
        (["--help-url=https://example.com/#anchor"], "without an anchor"),
        (["--volumes=disk"], "Set it to tmpfs or folder"),
        (["--secret-grace-period=-1s"], "--secret-grace-period must not be negative"),
        (
            ["--provider-health-check", "--provider-health-check-interval=0"],
            "--provider-health-check-interval must be greater than 0",
        ),
    ],
)
def test_invalid_value_is_rejected(arguments: list[str], words: str) -> None:
    """With the flag and what it takes."""
    with pytest.raises(PlatformError) as caught:
        settings_from(parse_flags(arguments, DRIVER_FLAGS))
    assert words in str(caught.value)


def test_the_metrics_backend_is_accepted_in_any_case() -> None:
    """As upstream does."""
    settings_from(parse_flags(["--metrics-backend=PROMETHEUS"], DRIVER_FLAGS))


def test_flag_without_effect_is_logged_once() -> None:
    """One warning if it is set twice; none if it is not set."""
    flags = parse_flags(["--log_dir=/a", "--log_dir=/b", "--one_output"], DRIVER_FLAGS)
    with captured_log() as log:
        warn_ignored(flags)
    lines = log.getvalue().splitlines()
    assert 2 == len(lines)
    assert all(line.startswith("W") and "has no effect" in line for line in lines)
    assert "--log_dir" in lines[0]


@pytest.mark.parametrize("name", WITHOUT_MEANING)
def test_each_flag_without_effect_has_a_reason(name: str) -> None:
    """The reason is the second half of its warning."""
    (flag,) = [flag for flag in DRIVER_FLAGS if flag.name == name]
    assert flag.ignored_because


def test_flags_without_effect_are_exactly_these() -> None:
    """A flag that upstream acts on is never quietly ignored."""
    assert set(WITHOUT_MEANING) == {flag.name for flag in DRIVER_FLAGS if flag.ignored_because}
