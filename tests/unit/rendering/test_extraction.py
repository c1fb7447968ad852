"""`jmesPath` and `expandKeys`: what is found, what is refused, and what the messages say."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError, ObjectUnusableError
from keyferry.rendering.extraction import (
    MAX_KEYS,
    Extracted,
    ExtractionBatch,
    ExtractionRequest,
    check_expression,
    extract,
    extract_batch,
)

CANARY = "canary-71c3"
VALUE = (
    b'{"db": {"host": "h\\u00e4", "port": 1.10, "tls": true, "none": null,'
    b' "list": [1, {"a": "b"}]},'
    b' "big": 123456789012345678901234567890, "exp": 1E5, "token": "' + CANARY.encode() + b'"}'
)


def one(expression: str, value: bytes = VALUE, *, is_yaml: bool = False) -> bytes:
    """The value of one expression."""
    (found,) = extract(ExtractionRequest(value, (expression,), is_yaml=is_yaml)).values
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("db.host", "hä"),
        ("db.port", "1.10"),
        ("big", "123456789012345678901234567890"),
        ("exp", "1E5"),
        ("db.tls", "true"),
        ("db.list", '[1,{"a":"b"}]'),
        ("db.list[1].a", "b"),
        ("db.list[-1]", '{"a":"b"}'),
        ("db.[host, port]", '["hä",1.10]'),
        ("db.{h: host, p: port}", '{"h":"hä","p":1.10}'),
        ("join('/', ['x', db.host])", "x/hä"),
        ("length(db.list)", "2"),
        ("db.port > `1`", "true"),
        ("sum([db.port, `2`])", "3.1"),
        ("db | host", "hä"),
        ("to_string(db.port)", "1.10"),
        ("to_string(db.list)", '[1,{"a":"b"}]'),
        ("db.none || 'a'", "a"),
        ("db.list[].c", "[]"),
    ],
)
def test_values(expression: str, expected: str) -> None:
    """Texts as they are, others as compact JSON; numbers keep their spelling."""
    assert expected == one(expression).decode()


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("db.hots", "there is no key 'hots'; the keys there are: host, port, tls, none, list"),
        ("dbs.host", "there is no key 'dbs'; the keys there are: db, big, exp, token"),
        ("db.host.x", "'x' is a key, and the value there is a text"),
        ("db.none", "the value of 'none' is null"),
        ("db.list[7]", "the list there has 2 items"),
        ("db[0]", r"\[0\] selects from a list, and the value there is an object"),
        ("db.list[?a == 'c'].a | [0]", "the list there has 0 items"),
        ("not_null(db.none)", "the value that it reads is an object with the keys: db, big, exp"),
        ("db.hots", "Did you mean 'host'?"),
        ("abs(db.host)", "cannot be applied to the value"),
    ],
)
def test_a_missing_value_names_the_keys_that_exist(expression: str, message: str) -> None:
    """And never a value."""
    with pytest.raises(ObjectUnusableError, match=message) as caught:
        one(expression)
    assert CANARY not in str(caught.value)
    assert expression in str(caught.value)


@pytest.mark.parametrize(
    ("value", "is_yaml", "message"),
    [
        (CANARY.encode(), False, "the value is not JSON.*If it is YAML, set yaml: true."),
        (b"\xff\xfe", False, "the value is not JSON"),
        (b'{"a": NaN}', False, "it contains NaN or Infinity, which JSON does not have"),
        (b"[" * 100_000, False, "the value "),
        (b"[" + b"1," * 30_000 + b"1]", False, "more than 20000 JSON values"),
        (b" \n", False, "the value is not JSON: it is empty"),
        (
            f'{{"a": 1,\n {CANARY}'.encode(),
            False,
            r"syntax error \(line 2, column 2 of the value\)",
        ),
        (b'{"a":' * 300 + b"1" + b"}" * 300, False, "nested more than 200 levels deep"),
        (f"a: [{CANARY}".encode(), True, "the value is not YAML: .*line 2 of the value"),
        (b"\xff", True, "the value is not YAML"),
        (b"a: &a [x,x]\nb: &b [*a,*a]\n" + b"c: [*b,*b]\n" * 9000, True, "the value is not YAML"),
    ],
)
def test_a_value_that_is_no_document_is_refused(value: bytes, is_yaml: bool, message: str) -> None:
    """Without a quote of it."""
    with pytest.raises(ObjectUnusableError, match=message) as caught:
        one("a", value, is_yaml=is_yaml)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"a: 1.10", "1.10"), (b"a: 0755", "0755"), (b"a: yes", "yes"), (b"a: 'x'", "x")],
)
def test_yaml(value: bytes, expected: str) -> None:
    """A number that JSON does not have keeps its spelling as a text."""
    assert expected == one("a", value, is_yaml=True).decode()


@pytest.mark.parametrize(
    ("value", "expands"),
    [
        (f"{CANARY}:", False),
        (f"{CANARY}: x", False),
        (f"'{CANARY}': ", False),
        (f"{CANARY}:", True),
        (f"{CANARY}/a: 1", True),
    ],
)
def test_a_password_that_looks_like_yaml_is_not_shown(value: str, expands: bool) -> None:
    """Its first part would be a key, and keys are named."""
    expressions = () if expands else ("nothing.at.all",)
    request = ExtractionRequest(value.encode(), expressions, expands, is_yaml=True)
    with pytest.raises(ObjectUnusableError, match="may be a password that looks like") as caught:
        extract(request)
    assert CANARY not in str(caught.value)


def test_keys_of_a_yaml_object_are_named() -> None:
    """Several lines, or braces, are an object."""
    for value in (b"host: a\nport: 1\n", b"{host: a, port: 1}"):
        with pytest.raises(ObjectUnusableError, match="the keys there are: host, port"):
            one("user", value, is_yaml=True)


def test_keys_are_expanded() -> None:
    """In their order; also an empty object is one."""
    made = extract(ExtractionRequest(b'{"b": "x", "a": [1]}', expands=True))
    assert Extracted(keys=(("b", b"x"), ("a", b"[1]"))) == made
    assert Extracted() == extract(ExtractionRequest(b"{}", expands=True))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"[1]", "the value is a list in JSON; expandKeys needs an object, which has keys"),
        (b'{"a/b": 1}', "the key 'a/b' cannot be the name of a file: it has a '/'"),
        (b'{"": 1}', "the key '' cannot be the name of a file: it is empty"),
        (b'{"..": 1}', "the key '..' cannot be the name of a file"),
        (b'{"..data": 1}', "the key '..data' cannot be the name of a file: it begins with '..'"),
        (b'{"a\\u0000": 1}', "cannot be the name of a file: it holds a NUL byte"),
        (b'{"\\ud800": 1}', "cannot be the name of a file: it holds half of a UTF-16 pair"),
        (b'{"' + b"a" * 256 + b'": 1}', "it has an element longer than 255 bytes"),
        (b'{"a": null}', "the value of the key 'a' is null"),
        (
            b"{" + b",".join(b'"%d": 1' % n for n in range(MAX_KEYS + 1)) + b"}",
            "expandKeys makes at most 1000 files",
        ),
    ],
)
def test_keys_that_are_no_files_are_refused(value: bytes, message: str) -> None:
    """The remedy is jmesPath, which names the files."""
    with pytest.raises(ObjectUnusableError, match=message):
        extract(ExtractionRequest(value, expands=True))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("a..b", "'a..b' is not JMESPath at character 3"),
        ("", "is not JMESPath"),
        ("a[", "is not JMESPath"),
        ("nothing(@)", "there is no function nothing"),
        ("lenght(@)", "there is no function lenght. Did you mean length?"),
        ("db-user.name", "at character 3. Put a key with other characters .* in double quotes"),
        ("a." * 600 + "a", "the expression has 1201 characters; at most 1000 are allowed"),
        ("!" * 400 + "a", "is nested too deeply|is not JMESPath"),
        ("|".join(["[@,@]"] * 8), "repeats parts of the value too often"),
        ("[[@,@,@,@,@],[@,@,@,@,@],[@,@,@,@,@]]", "repeats parts of the value too often"),
    ],
)
def test_expressions_are_checked_before_any_request(expression: str, message: str) -> None:
    """Syntax, functions, and what could take too long."""
    with pytest.raises(ClassInvalidError, match=message):
        check_expression(expression)


def test_what_an_expression_can_cost_is_limited() -> None:
    """The greatest growth that is permitted, over the longest list, ends quickly."""
    value = b"[" + b"1," * 19_000 + b"1]"
    with pytest.raises(ObjectUnusableError, match="takes more than 300000 steps"):
        one("|".join(["[@,@][]"] * 6), value)
    with pytest.raises(ObjectUnusableError, match="takes more than 300000 steps"):
        extract(ExtractionRequest(value, ("length(sort(@))",) * 20))
    with pytest.raises(ObjectUnusableError, match="takes more than 300000 steps"):
        extract(ExtractionRequest(b"[[" + value + b"]]", ("length(to_string(@))",) * 50))


@pytest.mark.parametrize(
    "expression",
    ["join(text, list)", "join(text, list) | length(@)", "to_string([" * 12 + "text" + "])" * 12],
)
def test_texts_that_functions_make_are_limited(expression: str) -> None:
    """A separator that is repeated, and quotes of quotes, which double."""
    value = b'{"text": "' + b'\\"' * 300_000 + b'", "list": [' + b'"a",' * 3000 + b'"a"]}'
    with pytest.raises(ObjectUnusableError, match="makes a text of more than 1048576 characters"):
        one(expression, value)


@pytest.mark.parametrize("expression", ["sum([a, a])", "to_number(b)"])
def test_numbers_that_json_does_not_have_are_refused(expression: str) -> None:
    """Infinity, which a calculation makes."""
    value = b'{"a": 1e308, "b": "' + b"9" * 5000 + b'"}'
    with pytest.raises(ObjectUnusableError, match="is a number that JSON cannot represent"):
        one(expression, value)


def test_all_results_together_are_limited() -> None:
    """Of one value, and of the values of a batch."""
    value = b'{"a": "' + b"x" * 1000 + b'"}'
    message = "more than 2500 bytes, which is what --max-call-recv-msg-size leaves"
    with pytest.raises(ObjectUnusableError, match=message):
        extract(ExtractionRequest(value, ("a", "a", "a")), max_bytes=2500)
    one_each = ExtractionRequest(value, ("a",))
    done = extract_batch(ExtractionBatch((one_each,) * 3, 2500)).items
    assert ["", "", True] == [done[0].problem, done[1].problem, "than 500 bytes" in done[2].problem]


def test_lone_surrogates_become_replacement_characters() -> None:
    """In texts, and in JSON that is written again."""
    value = b'{"a": "\\ud800"}'
    assert "\ufffd" == one("a", value).decode()
    assert '{"a":"\ufffd"}' == one("@", value).decode()


def test_a_failure_does_not_hide_other_values() -> None:
    """Each item of a batch has its own problem."""
    good, bad = ExtractionRequest(b'{"a": 1}', ("a",)), ExtractionRequest(b"{}", ("a",))
    done = extract_batch(ExtractionBatch((bad, good))).items
    assert "finds nothing" in done[0].problem
    assert "Correct the path of jmesPath, or the value in the vault." == done[0].remedy
    assert (b"1",) == done[1].values


@pytest.mark.parametrize("expression", ["&a", "[&a]", "{k: &a}", "a || &b", "to_array(&a)"])
def test_reference_to_an_expression_is_no_value(expression: str) -> None:
    """It is an argument of some functions."""
    with pytest.raises(ClassInvalidError, match="where a value is needed"):
        check_expression(expression)
    check_expression("sort_by(@, &a)")
    check_expression("map(&a.b, @)")
