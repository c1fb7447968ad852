"""keyferry.rendering.env_file: a file that kubelet and a shell read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keyferry.content import FileOwner, SecretFile
from keyferry.errors import ClassInvalidError, KeyferryError, ObjectUnusableError
from keyferry.rendering.class_options import MAX_ENV_NAME, EnvFileOptions, parse_volume_options
from keyferry.rendering.env_file import MAX_FILE_BYTES, MAX_VALUE_BYTES, env_file
from tests.fakes.kubelet_env_file import parse_env

CANARY = "canary-71c0"
VALUES = {
    "plain": CANARY,
    "db/pass-word.txt": 'a#b $HOME `x` \\ " = ;',
    "empty": "",
    "spaces": "  both ends  ",
    "lines": "first\n# second\n\n third=\n",
    "non-ascii": "größe ✓\u2028",
    "carriage": "a\rb\r",
    "json": json.dumps({"user": "sa", "n": [1, 2]}, indent=1),
}


def files(values: dict[str, str], mode: int = 0o644) -> list[SecretFile]:
    """The files of a volume."""
    return [SecretFile(path, mode, text.encode()) for path, text in values.items()]


def written(values: dict[str, str], names: str = "") -> SecretFile:
    """The file for these values, with `envNames`."""
    options = parse_volume_options({"envFile": ".env", "envNames": names}).env_file
    assert options is not None
    return env_file(files(values), options)


def name(path: str) -> str:
    """The derived name."""
    return path.upper().replace("/", "_").replace("-", "_").replace(".", "_")


def test_kubelet_reads_every_value_as_it_is() -> None:
    """By its parser of release 1.35."""
    text = written(VALUES).contents.decode()
    assert VALUES == {path: parse_env(text, name(path)) for path in VALUES}
    assert "" == parse_env(text, "OTHER")


def test_a_shell_reads_the_same_values(tmp_path: Path) -> None:
    """Which a container without fileKeyRef can do."""
    (tmp_path / ".env").write_bytes(written(VALUES).contents)
    dump = f'"{sys.executable}" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    script = f"set -a; . ./.env; {dump}"
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert VALUES == {path: found[name(path)] for path in VALUES}


def test_variables_are_sorted_by_name() -> None:
    """The order of objects, which a selection changes, is no change of the file."""
    assert b"A='2'\nB='1'\nC='3'\n" == written({"b": "1", "a": "2", "x": "3"}, "x: C").contents


def test_names_are_chosen_and_files_left_out() -> None:
    """A path that would have no valid name can have one; a binary file can be left out."""
    file = written({"2fa": "1", "tls/key": "it's", "c": "2"}, '2fa: TOTP\ntls/key: ""\n')
    assert b"C='2'\nTOTP='1'\n" == file.contents


def test_file_of_an_absent_object_has_no_variable() -> None:
    """But `envNames` may name it, or a file of its folder."""
    options = EnvFileOptions(".env", (("absent", "ABSENT"), ("db/user", "USER_NAME")))
    assert b"A='x'\n" == env_file(files({"a": "x"}), options, ("absent", "db")).contents


def test_nobody_reads_it_who_may_not_read_all_of_it() -> None:
    """Files that are left out do not count."""
    owner = FileOwner(999, 998)
    private = SecretFile("a", 0o400, b"x", owner)
    group = SecretFile("d", 0o440, b"x", owner)
    options = EnvFileOptions(".env", (("c", ""),))
    file = env_file((private, group, SecretFile("c", 0o604, b"x")), options)
    assert (0o400, owner) == (file.mode, file.owner)
    other = SecretFile("b", 0o444, b"x", FileOwner(5, 998))
    file = env_file((group, other), EnvFileOptions(".env"))
    assert (0o400, None) == (file.mode, file.owner)
    file = env_file((SecretFile("a", 0o644, b"x", owner), other), EnvFileOptions(".env"))
    assert (0o444, None) == (file.mode, file.owner)
    file = env_file((SecretFile("a", 0o604, b"x", owner), other), EnvFileOptions(".env"))
    assert (0o404, None) == (file.mode, file.owner)
    empty = env_file((), EnvFileOptions(".env"))
    assert SecretFile(".env", 0o644, b"") == empty


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (
            {"a-b": "x", "a_b": "y"},
            "",
            (
                "envFile: 'a-b' and 'a_b' would both be the variable A_B. Write 'a_b: OTHER_NAME'"
                " below envNames: |, or 'a_b: \"\"' to leave the file out."
            ),
        ),
        (
            {"a": "x", "b": "y"},
            "a: B",
            (
                "envFile: 'a' and 'b' would both be the variable B. Write 'b: OTHER_NAME' below"
                " envNames: |, or 'b: \"\"' to leave the file out."
            ),
        ),
        (
            {"2fa": "x"},
            "",
            (
                "envFile: the name 2FA of the variable for '2fa' begins with a digit. Write '2fa:"
                " OTHER_NAME' below envNames: |, or '2fa: \"\"' to leave the file out."
            ),
        ),
        (
            {"db-password": "x"},
            "db-pasword: A",
            (
                "envNames names 'db-pasword', which is no file of the volume. Did you mean"
                " 'db-password'? Write the path of the file: the objectAlias or objectName."
            ),
        ),
        (
            {"x": "x", ".env": "y"},
            "",
            "envFile '.env' is also the path of an object. Choose another path, such as .env.",
        ),
    ],
)
def test_impossible_names_are_refused(values: dict[str, str], names: str, message: str) -> None:
    """The message says what to write."""
    with pytest.raises(ClassInvalidError) as caught:
        written(values, names)
    assert message == str(caught.value)


def test_name_that_is_too_long_is_refused() -> None:
    """Kubernetes documents 128 characters."""
    assert written({"a" * MAX_ENV_NAME: "x"}).contents
    with pytest.raises(ClassInvalidError, match=f"is longer than {MAX_ENV_NAME} characters"):
        written({"a" * (MAX_ENV_NAME + 1): "x"})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"it's", "contains a single quote, which ends a value in this file"),
        (b"a\0b", "contains a zero byte"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"a\r\nb", "has lines that end with CR LF, and kubelet removes the CR"),
        (
            b"x" * (MAX_VALUE_BYTES + 1),
            f"has {MAX_VALUE_BYTES + 1} bytes, and at most {MAX_VALUE_BYTES} are possible",
        ),
    ],
)
def test_value_that_kubelet_would_not_read_is_refused(value: bytes, problem: str) -> None:
    """Before anything is mounted; the message has no value."""
    contents = CANARY.encode() + value
    if value.startswith(b"x"):
        contents = value
    with pytest.raises(ObjectUnusableError) as caught:
        env_file([SecretFile("db-password", 0o644, contents)], EnvFileOptions(".env"))
    assert str(caught.value) == (
        f"envFile: 'db-password' cannot be the variable DB_PASSWORD: its value {problem}."
        " Read it as a file, and leave it out: write 'db-password: \"\"' below envNames: |."
    )


def test_file_that_is_too_large_is_refused() -> None:
    """The limits of the file are those of KEP-3721."""
    value = "x" * (MAX_VALUE_BYTES - len("A=''\n"))
    assert MAX_FILE_BYTES == len(written({"a": value, "b": value}).contents)
    with pytest.raises(
        ObjectUnusableError, match=f"would have {MAX_FILE_BYTES + 1} bytes, .*at most"
    ):
        written({"a": value, "b": value + "x"})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "a: B-C",
            (
                r"envNames: 'B-C' cannot be the name of an environment variable \(line 1 of"
                r" envNames\)\. Use at most 128 letters, digits and '_', and do not begin with a"
                r' digit; "" leaves the file out\.'
            ),
        ),
        ("a: " + "N" * (MAX_ENV_NAME + 1), "cannot be the name of an environment variable"),
        ("a: N\nb: N", r"'a' and 'b' have the same name N \(line 2 of envNames\)\. Choose another"),
        (
            "../a: N",
            r"the path '../a' leads out of the volume with '..' \(line 1 of envNames\)\. Write the",
        ),
        ("a: [N]", r"a is a list or a mapping \(line 1 of envNames\)\. Set it to a single value"),
    ],
)
def test_invalid_env_names_are_refused(names: str, message: str) -> None:
    """Before the vault is asked."""
    with pytest.raises(KeyferryError, match=message):
        parse_volume_options({"envFile": ".env", "envNames": names})
