"""Finding classes in YAML files."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import (
    ClassInvalidError,
    ClassNotFoundError,
    KeyferryError,
    RequestInvalidError,
    StoreError,
    descriptor_error,
)
from keyferry.kubernetes.files.class_files import MAX_FILE_BYTES, ClassFiles
from tests.fakes.descriptors import spare_descriptors

CLASS = """apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{provider: {provider}}}
"""


def a_class(name: str = "web", namespace: str = "shop", provider: str = "azure") -> str:
    return CLASS.format(name=name, namespace=namespace, provider=provider)


def files(path: Path) -> ClassFiles:
    return ClassFiles(path, default_namespace="default")


def problem(path: Path, namespace: str = "shop", name: str = "web") -> KeyferryError:
    with pytest.raises(KeyferryError) as caught:
        files(path).find(namespace, name)
    return caught.value


class TestFinding:
    def test_one_file_holds_several_classes_among_other_kinds(self, tmp_path: Path) -> None:
        """Documents of other kinds, empty ones, and documents that are no object are passed by."""
        path = tmp_path / "all.txt"
        other = "kind: Pod\nmetadata: [not, relevant]\n"
        texts = [a_class("a"), other, "", "text\n", "[1]\n", a_class("b", provider="vault")]
        path.write_text("---\n".join(texts))

        assert "vault" == files(path).find("shop", "b").provider

    def test_a_folder_is_read_flat(self, tmp_path: Path) -> None:
        """The files *.yaml and *.yml count; hidden files, other names and sub-folders do not."""
        (tmp_path / "a.yaml").write_text(a_class("a"))
        (tmp_path / "b.yml").write_text(a_class("b"))
        for name in (".draft.yaml", "c.yaml~", "c.json"):
            (tmp_path / name).write_text(a_class("c"))
        (tmp_path / "folder.yaml").mkdir()
        store = files(tmp_path)

        assert "a" == store.find("shop", "a").name
        assert "b" == store.find("shop", "b").name
        with pytest.raises(ClassNotFoundError):
            store.find("shop", "c")

    def test_a_class_without_a_namespace_is_in_the_default_one(self, tmp_path: Path) -> None:
        """The default namespace is that of the store."""
        (tmp_path / "a.yaml").write_text(a_class().replace(", namespace: shop", ""))

        assert "default" == files(tmp_path).find("default", "web").namespace

    @pytest.mark.parametrize("kind", ["List", "SecretProviderClassList"])
    def test_a_list_holds_classes(self, tmp_path: Path, kind: str) -> None:
        """What `kubectl get -o yaml` prints can be used as it is."""
        item = a_class().replace("\n", "\n  ").rstrip()
        path = tmp_path / "a.yaml"
        path.write_text(f"kind: {kind}\nitems:\n- kind: Pod\n- 1\n- {item}\n")

        assert "azure" == files(path).find("shop", "web").provider

    def test_a_change_is_seen(self, tmp_path: Path) -> None:
        """Each look-up sees the files as they are: changed, replaced, added and removed."""
        path = tmp_path / "a.yaml"
        path.write_text(a_class())
        store = files(tmp_path)
        assert "azure" == store.find("shop", "web").provider

        path.write_text(a_class(provider="vault"))
        assert "vault" == store.find("shop", "web").provider

        (tmp_path / "new").write_text(a_class(provider="other"))
        (tmp_path / "new").replace(path)
        assert "other" == store.find("shop", "web").provider

        path.unlink()
        with pytest.raises(ClassNotFoundError):
            store.find("shop", "web")

    def test_what_did_not_change_is_not_read_again(self, tmp_path: Path) -> None:
        """The same object comes back as long as the file stays the same."""
        (tmp_path / "a.yaml").write_text(a_class())
        store = files(tmp_path)

        assert store.find("shop", "web") is store.find("shop", "web")

    def test_a_pipe_is_read_once(self) -> None:
        """A shell's <(...) is a pipe; its content is kept, because it comes only once."""
        reading, writing = os.pipe()
        try:
            os.write(writing, a_class().encode())
            os.close(writing)
            store = files(Path(f"/dev/fd/{reading}"))

            assert "azure" == store.find("shop", "web").provider
            assert "azure" == store.find("shop", "web").provider
        finally:
            os.close(reading)


class TestNotFound:
    def test_the_text_is_what_people_search_for(self, tmp_path: Path) -> None:
        """The message starts with upstream's text, followed by that of the API server."""
        error = problem(tmp_path)

        assert isinstance(error, ClassNotFoundError)
        assert (
            "failed to get secretproviderclass shop/web: "
            'secretproviderclasses.secrets-store.csi.x-k8s.io "web" not found'
        ) == error.problem

    def test_the_remedy_names_other_namespaces(self, tmp_path: Path) -> None:
        """A class of that name elsewhere is the likely slip."""
        (tmp_path / "a.yaml").write_text(
            a_class(namespace="b") + "---\n" + a_class(namespace="a") + "---\n" + a_class("other")
        )

        assert (
            "A SecretProviderClass of that name is in namespace a, b; "
            "it must be in the namespace of the pod." == problem(tmp_path).remedy
        )

    def test_the_remedy_names_what_the_namespace_has(self, tmp_path: Path) -> None:
        """Without a namesake, the classes of the namespace show a misspelt name."""
        (tmp_path / "a.yaml").write_text("---\n".join(a_class(f"w{n:02}") for n in range(12)))

        names = ", ".join(f"w{n:02}" for n in range(10))
        assert f"In {tmp_path}, namespace shop has: {names}, 2 more." == problem(tmp_path).remedy

    def test_remedy_says_that_no_class_exists(self, tmp_path: Path) -> None:
        """An empty namespace is said to be empty, with the place that was searched."""
        assert (
            f"In {tmp_path}, namespace shop has no SecretProviderClass at all."
            == problem(tmp_path).remedy
        )

    def test_the_place_is_missing(self, tmp_path: Path) -> None:
        """A path that does not exist is an error of the process, not of the class."""
        error = problem(tmp_path / "nowhere")

        assert isinstance(error, StoreError)
        assert "nowhere cannot be listed: No such file or directory" in error.problem


class TestBrokenFiles:
    BROKEN = "a: b\nc: [canary\n"

    def test_break_no_other_file(self, tmp_path: Path) -> None:
        """A class in a good file is found beside any number of broken ones."""
        (tmp_path / "a.yaml").write_text(self.BROKEN)
        (tmp_path / "b.yaml").write_text(a_class())
        (tmp_path / "c.yaml").symlink_to("nowhere")

        assert "azure" == files(tmp_path).find("shop", "web").provider

    def test_are_reported_if_the_class_is_missing(self, tmp_path: Path) -> None:
        """The class may be in the broken file, so file, line and problem are reported."""
        path = tmp_path / "a.yaml"
        path.write_text(self.BROKEN)

        error = problem(path)

        assert isinstance(error, ClassInvalidError)
        assert (
            f"failed to get secretproviderclass shop/web: {path} line 3 is not YAML: "
            "did not find expected ',' or ']', and no other file contains it. "
            "Check indentation and quotes. "
            "This matters if the file is to contain the SecretProviderClass."
        ) == str(error)

    def test_too_large_a_file_is_not_parsed(self, tmp_path: Path) -> None:
        """Ten megabytes are refused after the first one."""
        path = tmp_path / "a.yaml"
        path.write_bytes(b"#" * (10 * MAX_FILE_BYTES))

        assert f"{path} is larger than 1048576 bytes" in problem(path).problem

    def test_a_file_may_be_unreadable(self, tmp_path: Path) -> None:
        """What the system says about a file is passed on."""
        path = tmp_path / "a.yaml"
        path.symlink_to("a.yaml")

        error = problem(tmp_path / "a.yaml")

        assert "Too many levels of symbolic links" in error.problem

    def test_a_wrong_field_breaks_its_class_alone(self, tmp_path: Path) -> None:
        """Other classes of the file stay valid; each error is a new one with line and field."""
        path = tmp_path / "a.yaml"
        path.write_text(a_class("good") + "---\n" + a_class(provider="1"))
        store = files(path)

        assert "good" == store.find("shop", "good").name
        errors = []
        for _ in range(2):
            with pytest.raises(ClassInvalidError) as caught:
                store.find("shop", "web")
            errors.append(caught.value)
        assert (
            f"{path} line 9: SecretProviderClass shop/web: spec.provider is a number, not text"
            == errors[0].problem
        )
        assert errors[0] is not errors[1]

    def test_class_without_a_name_is_reported_if_another_is_missing(self, tmp_path: Path) -> None:
        """A class whose name cannot be read may be the one."""
        path = tmp_path / "a.yaml"
        path.write_text(a_class(name="12"))

        assert (
            f"{path} line 3: SecretProviderClass: metadata.name is a number, not text"
            in problem(path).problem
        )

    def test_a_wrong_field_in_a_list_has_its_line(self, tmp_path: Path) -> None:
        """The line is counted in the file, the path in the class."""
        item = a_class(provider="yes").replace("\n", "\n  ").rstrip()
        path = tmp_path / "a.yaml"
        path.write_text(f"kind: List\nitems:\n- {item}\n")

        assert (
            f"{path} line 6: SecretProviderClass shop/web: spec.provider is a boolean, not text"
            == problem(path).problem
        )

    def test_a_class_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        """Nobody could say which of the two counts; both places are reported."""
        (tmp_path / "a.yaml").write_text(a_class())
        (tmp_path / "b.yaml").write_text("---\n" + a_class())

        error = problem(tmp_path)

        assert (
            f"SecretProviderClass shop/web is defined 2 times: {tmp_path}/a.yaml line 1, "
            f"{tmp_path}/b.yaml line 2"
        ) == error.problem


SECRETIVE = a_class().replace(
    "{provider: azure}", "\n  provider: azure\n  parameters: {a: '" + "x" * 90 + "canary'}"
)
DAMAGE = st.text("ab&*:-[]{}!|>\"' \n\t", max_size=6) | st.sampled_from(["&a ", "*a", "!x ", "\0"])


@given(st.integers(0, len(SECRETIVE)), DAMAGE, st.integers(0, 9))
def test_only_our_errors_escape_and_no_value_with_them(
    tmp_path_factory: pytest.TempPathFactory, at: int, inserted: str, removed: int
) -> None:
    """A class that was damaged anywhere is found or refused, and the message repeats no value."""
    path = tmp_path_factory.mktemp("classes") / "a.yaml"
    path.write_text(SECRETIVE[:at] + inserted + SECRETIVE[at + removed :])
    message = ""
    try:
        files(path).find("shop", "web")
    except KeyferryError as error:
        message = str(error)

    assert "canary" not in message


class TestChoosing:
    def test_a_name_may_have_its_namespace(self, tmp_path: Path) -> None:
        """Without it, two of the same name are ambiguous."""
        path = tmp_path / "two.yaml"
        path.write_text(a_class("app", "dev") + "---\n" + a_class("app", "prod"))
        listing = files(path).listing()
        assert ("prod", "app") == listing.choose("prod/app", path)
        for name in (None, "app"):
            with pytest.raises(RequestInvalidError, match="--class NAMESPACE/NAME"):
                listing.choose(name, path)
        with pytest.raises(RequestInvalidError, match=r"It contains: dev/app, prod/app\."):
            listing.choose("test/app", path)

    def test_a_broken_file_beside_a_good_one_is_a_problem_only_if_it_may_matter(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "good.yaml").write_text(a_class("app"))
        (tmp_path / "bad.yaml").write_text("kind: [")
        listing = files(tmp_path).listing()
        assert ("shop", "app") == listing.choose("app", tmp_path)
        (problem,) = listing.problems
        assert "bad.yaml line 2 is not YAML" in problem.problem
        with pytest.raises(ClassInvalidError, match=r"bad\.yaml line 2 is not YAML"):
            listing.choose("other", tmp_path)

    @pytest.mark.parametrize(
        ("text", "problem", "remedy"),
        [
            ("kind: SecretProviderclass\n", "only: SecretProviderclass", "Did you mean kind: Sec"),
            ("kind: Pod\n---\nkind: Secret\n---\na: 1\n", "only: Pod, Secret, a document", "Use a"),
            ("kind: List\nitems: [{kind: Pod}]\n", "only: Pod", "Use a"),
            ("", "there is no SecretProviderClass in app.yaml", "Use a"),
        ],
    )
    def test_without_one_the_kinds_that_were_found_are_named(
        self, tmp_path: Path, text: str, problem: str, remedy: str
    ) -> None:
        (tmp_path / "app.yaml").write_text(text)
        with pytest.raises(ClassInvalidError) as caught:
            files(tmp_path).listing().choose(None, "app.yaml")
        assert problem in caught.value.problem
        assert remedy in caught.value.remedy

    @pytest.mark.parametrize(
        "text", ["a:\n  b: 1\n\tc: 2\n", "kind: X\nspec:\n\tprovider: azure\n"]
    )
    def test_a_tab_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "app.yaml").write_text(text)
        (problem,) = files(tmp_path).listing().problems
        assert (
            "line 3 is not YAML: tabs are not allowed for indentation; use spaces"
            in problem.problem
        )


def test_file_that_this_process_cannot_open_now_is_not_blamed(tmp_path: Path) -> None:
    """The driver has too many open files; the permissions of the file are right."""
    path = tmp_path / "web.yaml"
    path.write_text(a_class())
    with spare_descriptors(0):
        error = problem(path)
    assert isinstance(error, StoreError)
    found = descriptor_error(error)
    assert found is not None
    assert f"{path} cannot be read: Too many open files" == found.problem
    assert "permissions" not in found.remedy
    assert "azure" == files(path).find("shop", "web").provider
