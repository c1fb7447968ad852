"""The file of environment variables, whatever the files and the parameters are."""

from __future__ import annotations

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from keyferry.content import FileOwner, SecretFile
from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.formats.volume_paths import path_problem
from keyferry.rendering.class_options import EnvFileOptions, parse_volume_options
from keyferry.rendering.env_file import env_file, variable_names
from tests.fakes.kubelet_env_file import parse_env
from tests.fuzz.messages import check_message

PATHS = st.text(st.sampled_from("aB1_-./é "), min_size=1, max_size=6).filter(
    lambda path: path_problem(path) is None
)
NAMES = st.sampled_from(["", "A", "B", "_1", "DB_PASSWORD"])
VALUES = st.binary(max_size=12) | st.text(
    st.sampled_from("ab'\"\\\n\r\t\0 #=$`é\u2028"), max_size=12
).map(str.encode)
OWNERS = st.none() | st.builds(FileOwner, st.integers(0, 2), st.none() | st.integers(0, 2))
MODES = st.sampled_from([0o400, 0o440, 0o644, 0o604, 0o777, 0])
TEXTS = (
    st.text(max_size=30)
    | st.text(st.sampled_from("a:b \n\"'{}[]-|>#&*!~\t0"), max_size=30)
    | st.dictionaries(PATHS, NAMES | st.text(max_size=8) | st.none()).map(yaml.safe_dump)
)


@given(
    st.dictionaries(PATHS, st.tuples(VALUES, MODES, OWNERS), max_size=5),
    st.dictionaries(PATHS, NAMES, max_size=3),
)
@example({"a": (b"", 0o644, None), "b": (b"", 0o604, FileOwner(0))}, {})
def test_kubelet_reads_what_the_files_contain_or_the_mount_fails(
    content: dict[str, tuple[bytes, int, FileOwner | None]], given_names: dict[str, str]
) -> None:
    """Every variable has its value; nobody reads the file who may not read all of them."""
    files = [SecretFile(path, mode, data, who) for path, (data, mode, who) in content.items()]
    options = EnvFileOptions("env/.env", tuple(given_names.items()))
    try:
        file = env_file(files, options, absent=given_names)
    except KeyferryError as error:
        check_message(error)
        return
    names = variable_names(list(content), options, absent=given_names)
    assert len(names) == len(set(names.values()))
    text = file.contents.decode()
    for path, name in names.items():
        data, mode, owner = content[path]
        assert data.decode() == parse_env(text, name)
        assert not file.mode & ~mode
        assert file.owner in (None, owner)


@given(TEXTS, st.text(max_size=12))
def test_any_parameters_are_options_or_a_class_error(names: str, path: str) -> None:
    """No other exception; the message is short and on one line."""
    try:
        parse_volume_options({"envFile": path, "envNames": names, "fileOwner": path})
    except ClassInvalidError as error:
        check_message(error)
