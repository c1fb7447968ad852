"""Which file an objectName means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.content import NamedFile, SecretFile
from keyferry.errors import ObjectMissingError, ObjectNamesError
from keyferry.secrets.builder import resolve_file


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
def test_file_is_found_by_path_alias_and_object_name(name: str, path: str) -> None:
    """Also for an object with an alias."""
    assert path == resolve_file(name, FILES, NAMED).path


def test_missing_optional_object_is_no_unknown_name() -> None:
    """The remedy is to create it."""
    names = [NamedFile("a", frozenset({"b"}), "secret b", optional=True)]
    with pytest.raises(ObjectMissingError, match="secret b is an optional object"):
        resolve_file("b", [file("c")], names)


def test_path_takes_precedence_over_names() -> None:
    """What works with upstream has the same meaning."""
    names = [named("a", "b"), named("b", "a"), named("c", "a", "b")]

    assert "b" == resolve_file("b", [file("a"), file("b"), file("c")], names).path


def test_ambiguous_name_is_rejected() -> None:
    """The message lists the candidates; their paths are unambiguous."""
    files = [file("two"), file("one")]

    error = problem("x", files, [named("two", "x"), named("one", "x")])

    assert (
        "objectName 'x' is ambiguous: it matches one (secret x), two (secret x). "
        "Use the path of the file instead."
    ) == str(error)


def test_name_that_matches_one_file_twice_is_unambiguous() -> None:
    """Two entries with the same file are no conflict."""
    names = [named("a", "x"), named("a", "x", "y")]

    assert "a" == resolve_file("x", [file("a")], names).path


def test_unknown_name_lists_the_files() -> None:
    """After the message of upstream, with a suggestion."""
    error = problem("db-pasword", FILES, NAMED)

    assert (
        "file matching objectName 'db-pasword' not found in the pod; the volume holds "
        "SECRET_1 (secret db-password), dir/b (secret b), plain (secret plain). "
        "Did you mean 'db-password'?"
    ) == str(error)


def test_dissimilar_name_gets_no_suggestion() -> None:
    """A wrong suggestion would mislead."""
    assert problem("zzzz", FILES, NAMED).remedy.startswith("Use the path of a file")


def test_names_are_case_sensitive() -> None:
    """As in upstream; the suggestion shows the difference."""
    assert "Did you mean 'SECRET_1'?" == problem("SECRET_2", FILES, NAMED).remedy


def test_missing_object_is_not_a_candidate() -> None:
    """A name counts only if its file exists."""
    error = problem("x", [file("a")], [named("removed", "x")])

    assert "the volume holds a" in error.problem
    assert "removed" not in str(error)


def test_object_added_later_suggests_a_refresh() -> None:
    """The volume was filled before."""
    error = problem("x", [file("a")], [named("removed", "x")])
    assert "It is new in the SecretProviderClass: wait for the next refresh" in str(error)
    assert "It is new in" not in str(problem("y", [file("a")], [named("removed", "x")]))


def test_message_for_an_empty_volume() -> None:
    """It says that there is no file."""
    assert problem("x", [], []).problem.endswith("the volume holds no file")


def test_empty_name_is_rejected() -> None:
    """It names no file."""
    assert "objectName is empty" == problem("", FILES, NAMED).problem


def test_long_list_of_candidates_is_truncated() -> None:
    """A message with hundred files is unreadable."""
    error = problem("x", [file(f"f{n:03}") for n in range(100)], [])

    assert error.problem.endswith("f018, f019, 80 more")


WORDS = st.sampled_from(["a", "b", "c", "a/b", "A"])


@given(
    WORDS,
    st.lists(WORDS, unique=True),
    st.lists(st.builds(named, WORDS, WORDS, WORDS), max_size=5),
)
def test_only_a_unique_match_is_returned(
    name: str, paths: list[str], names: list[NamedFile]
) -> None:
    """The file at the path, else the only file with the name, else an error."""
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


@pytest.mark.parametrize("name", ["document", "document-in-the-vault"])
def test_object_that_became_a_folder_names_one_of_its_files(name: str) -> None:
    """With expandKeys."""
    aliases = frozenset({"document-in-the-vault"})
    folder = NamedFile("document", aliases, "secret document", is_folder=True)

    error = problem(name, [file("document/b"), file("document/a")], [folder])

    assert "It is a folder: name one of its files, such as 'document/a'." in str(error)
