"""Which file an objectName means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.content import SecretFile
from keyferry.driver.secrets.builder import resolve_file
from keyferry.errors import ObjectNamesError
from keyferry.providers.api import NamedFile


def file(path: str, contents: bytes = b"canary") -> SecretFile:
    return SecretFile(path, 0o644, contents)


def named(path: str, *names: str) -> NamedFile:
    return NamedFile(path, frozenset(names), f"secret {names[0]}" if names else "an object")


def problem(name: str, files: list[SecretFile], names: list[NamedFile]) -> ObjectNamesError:
    with pytest.raises(ObjectNamesError) as caught:
        resolve_file(name, files, names)
    return caught.value


FILES = [file("SECRET_1"), file("dir/b"), file("plain")]
NAMED = [named("SECRET_1", "db-password"), named("dir/b", "b"), named("plain", "plain")]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("SECRET_1", "SECRET_1"),
        ("db-password", "SECRET_1"),
        ("dir/b", "dir/b"),
        ("b", "dir/b"),
        ("plain", "plain"),
    ],
)
def test_alias_own_name_and_path_all_work(name: str, path: str) -> None:
    """The complaint of the article: the alias works, and so does the name in the vault."""
    assert path == resolve_file(name, FILES, NAMED).path


def test_a_path_wins_over_names() -> None:
    """What works upstream means the same here, whatever the names say."""
    names = [named("a", "b"), named("b", "a"), named("c", "a", "b")]

    assert "b" == resolve_file("b", [file("a"), file("b"), file("c")], names).path


def test_a_name_that_fits_several_is_refused() -> None:
    """The candidates are listed with what they are, and the path is the way out."""
    files = [file("two"), file("one")]

    error = problem("x", files, [named("two", "x"), named("one", "x")])

    assert (
        "objectName 'x' is ambiguous: it matches one (secret x), two (secret x). "
        "Use the path of the file instead."
    ) == str(error)


def test_a_name_that_fits_one_file_twice_is_clear() -> None:
    """Two entries that end in the same file are no choice."""
    names = [named("a", "x"), named("a", "x", "y")]

    assert "a" == resolve_file("x", [file("a")], names).path


def test_an_unknown_name_is_told_what_there_is() -> None:
    """Upstream's words come first; then the files, and the name that was probably meant."""
    error = problem("db-pasword", FILES, NAMED)

    assert (
        "file matching objectName 'db-pasword' not found in the pod; the volume holds "
        "SECRET_1 (secret db-password), dir/b (secret b), plain (secret plain). "
        "Did you mean 'db-password'?"
    ) == str(error)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    """A far-fetched suggestion would mislead."""
    assert problem("zzzz", FILES, NAMED).remedy.startswith("Use the path of a file")


def test_case_counts() -> None:
    """Names are case-sensitive, as upstream; the suggestion shows the difference."""
    assert "Did you mean 'SECRET_1'?" == problem("SECRET_2", FILES, NAMED).remedy


def test_an_object_that_was_not_delivered_is_no_candidate() -> None:
    """A name counts only when its file is there."""
    error = problem("x", [file("a")], [named("gone", "x")])

    assert "the volume holds a" in error.problem
    assert "gone" not in str(error)


def test_an_object_that_the_class_got_since_says_what_brings_it() -> None:
    """The volume was filled before."""
    error = problem("x", [file("a")], [named("gone", "x")])
    assert "It is new in the SecretProviderClass: wait for the next refresh" in str(error)
    assert "It is new in" not in str(problem("y", [file("a")], [named("gone", "x")]))


def test_an_empty_volume_holds_no_file() -> None:
    """The sentence stays whole."""
    assert problem("x", [], []).problem.endswith("the volume holds no file")


def test_an_empty_name_is_refused() -> None:
    """A name that is not given means nothing."""
    assert "objectName is empty" == problem("", FILES, NAMED).problem


def test_a_long_list_is_cut() -> None:
    """A message that lists a hundred files helps nobody."""
    error = problem("x", [file(f"f{n:03}") for n in range(100)], [])

    assert error.problem.endswith("f018, f019, 80 more")


WORDS = st.sampled_from(["a", "b", "c", "a/b", "A"])


@given(
    WORDS,
    st.lists(WORDS, unique=True),
    st.lists(st.builds(named, WORDS, WORDS, WORDS), max_size=5),
)
def test_never_picks_a_wrong_file(name: str, paths: list[str], names: list[NamedFile]) -> None:
    """The file at the path, else the only one that bears the name, else an error; nothing else."""
    files = [file(path, path.encode()) for path in paths]
    bearers = {n.path for n in names if name in n.aliases} & set(paths)
    expected = {name} if name in paths else bearers

    if len(expected) == 1:
        chosen = resolve_file(name, files, names)
        assert expected == {chosen.path}
        assert chosen.path.encode() == chosen.contents
    else:
        error = problem(name, files, names)
        assert all(path in error.problem for path in expected or set(paths))
