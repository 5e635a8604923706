"""The mapping of header fields, and the grammar of the values that the handshake reads."""

from __future__ import annotations

import http.client
import pickle
import string
import time
from collections.abc import Callable
from email.parser import Parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws.headers import (
    Headers,
    Parameters,
    check_value,
    checked_subprotocols,
    format_extension,
    is_token,
    parse_extensions,
    parse_subprotocols,
    shown,
    tokens,
)

TCHAR = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
TOKENS = st.text(st.sampled_from(TCHAR), min_size=1, max_size=12)
#: what must never get into a head: line ends, other controls, what latin-1 does not have
INJECTIONS = [
    "\r",
    "\n",
    "\0",
    "\x7f",
    "\r\n",
    "\x0b",
    "\x0c",
    "\x1b",
    "\x85\u2028",
    "\u010a",
    "\ud800",
    "😀",
]


def refusal(parse: Callable[[list[str]], object], value: str) -> str:
    """The text of the ValueError, if one is raised."""
    try:
        parse([value])
    except ValueError as error:
        return str(error)
    return ""


def mixed() -> Headers:
    return Headers([("Host", "a"), ("Set-Cookie", "b"), ("set-cookie", "c")])


# Headers --------------------------------------------------------------------------------------------------


def test_names_have_no_case_and_the_first_value_is_given() -> None:
    headers = mixed()
    assert headers["HOST"] == headers.get("hOst") == "a"
    assert headers["Set-Cookie"] == "b"
    assert "SET-COOKIE" in headers
    assert "Cookie" not in headers
    assert 1 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("Cookie") is None
    assert headers.get("Cookie", "x") == "x"
    with pytest.raises(KeyError):
        headers["Cookie"]


def test_repeated_fields_are_kept_in_order() -> None:
    headers = mixed()
    assert headers.get_all("SET-cookie") == ["b", "c"]
    assert headers.get_all("Cookie") == []
    assert list(headers) == ["Host", "Set-Cookie", "set-cookie"]
    assert list(headers.items()) == [("Host", "a"), ("Set-Cookie", "b"), ("set-cookie", "c")]
    assert list(headers.values()) == ["a", "b", "c"]
    assert len(headers) == len(headers.items()) == len(headers.values()) == 3


def test_views_know_every_field() -> None:
    headers = mixed()
    assert ("set-cookie", "c") in headers.items()
    assert ("set-cookie", "d") not in headers.items()
    assert "c" in headers.values()
    assert "d" not in headers.values()


def test_assignment_replaces_every_field_of_the_name() -> None:
    headers = mixed()
    headers["SET-COOKIE"] = "d"
    assert list(headers.items()) == [("Host", "a"), ("SET-COOKIE", "d")]


def test_deletion_takes_every_field_of_the_name() -> None:
    headers = mixed()
    del headers["SET-COOKIE"]
    assert list(headers.items()) == [("Host", "a")]
    with pytest.raises(KeyError):
        del headers["set-cookie"]


def test_blanks_around_a_value_are_dropped() -> None:
    assert Headers({"A": " \t b \t"})["a"] == "b"


def test_a_copy_is_independent() -> None:
    headers = mixed()
    other = headers.copy()
    other.add("X", "y")
    assert "X" not in headers


def test_equality_ignores_the_case_of_names_only() -> None:
    assert Headers({"A": "b"}) == Headers([("a", "b")])
    assert Headers({"A": "b"}) != Headers({"A": "B"})
    assert Headers({"A": "b"}) != {"A": "b"}


def test_headers_are_made_of_mappings_pairs_headers_and_http_messages() -> None:
    message = Parser(http.client.HTTPMessage).parsestr("A: b\r\na: c\r\n\r\n")
    expected = Headers([("A", "b"), ("a", "c")])
    assert Headers(message) == Headers(expected) == expected
    assert Headers({"A": "b"}) == Headers(iter([("A", "b")]))
    assert len(Headers()) == 0


def test_repr_keeps_secrets() -> None:
    text = repr(Headers({"Authorization": "Basic c2VjcmV0", "Host": "h"}))
    assert text == "<Headers Authorization, Host>"


def test_headers_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(mixed())) == mixed()


@pytest.mark.parametrize("bad", INJECTIONS)
def test_nothing_that_breaks_a_line_gets_into_a_field(bad: str) -> None:
    headers = Headers()
    for name, value in [
        (f"X{bad}", "v"),
        (f"{bad}X", "v"),
        ("X", f"v{bad}"),
        ("X", f"{bad}v"),
        ("X", f"v{bad}w"),
    ]:
        with pytest.raises(ValueError, match=r"^header X: char|must be a token"):
            headers.add(name, value)
        with pytest.raises(ValueError, match=r"^header X: char|must be a token"):
            headers[name] = value
    assert len(headers) == 0


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "(a)", "é", "\u212aey", "a" * 200 + "\x1b"])
def test_a_name_must_be_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="must be a token") as caught:
        Headers({name: "v"})
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_error_about_a_value_does_not_repeat_it() -> None:
    with pytest.raises(ValueError, match=r"header Cookie: character '\\x1b' at index 6 is not allowed"):
        Headers({"Cookie": "secret\x1b"})


def test_names_and_values_are_str() -> None:
    with pytest.raises(TypeError, match="must be str, not int"):
        Headers([("A", 1)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="must be str, not bytes"):
        Headers([(b"A", "b")])  # type: ignore[list-item]


def test_latin_1_and_tab_are_allowed_in_a_value() -> None:
    value = "a\tb" + bytes(range(0x80, 0x100)).decode("latin-1") + "c"
    assert check_value("x", value) == value


@pytest.mark.parametrize("text", ["a" * 80, "\x1b[2J", "<script>'\"", "\ud800", "\u202e"])
def test_what_is_shown_is_escaped(text: str) -> None:
    assert shown(text) == repr(text)
    assert shown(text).isprintable()


def test_what_is_shown_is_cut() -> None:
    assert shown("a" * 100_000, 3) == "'aaa…'"


# Tokens and lists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("char", [chr(code) for code in range(0x180)] + ["\u212a", "\u3000", "\ud800"])
def test_the_alphabet_of_tokens(char: str) -> None:
    assert is_token(char) is is_token("a" + char) is (char in TCHAR)


def test_the_empty_string_is_no_token() -> None:
    assert not is_token("")
    assert not is_token("a\n")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([""], []),
        (["keep-alive, Upgrade"], ["keep-alive", "Upgrade"]),
        (["a", "b,c"], ["a", "b", "c"]),
        ([" \ta\t,\t b "], ["a", "b"]),
        ([", ,a,,b,"], ["a", "b"]),
    ],
)
def test_lists_of_tokens(values: list[str], expected: list[str]) -> None:
    assert tokens(values) == expected


@pytest.mark.parametrize(
    ("value", "index"), [("a b", 0), ("a,b;c", 2), ("a,,é", 3), ('"a"', 0), ("a,\xa0b", 2)]
)
def test_what_is_no_list_of_tokens(value: str, index: int) -> None:
    with pytest.raises(ValueError, match=f"not a token at index {index}$"):
        tokens(["x", value])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["chat"], ["chat"]),
        (["a, b", "c"], ["a", "b", "c"]),
        (["a\t ,\t b \t"], ["a", "b"]),
        (["Chat,chat"], ["Chat", "chat"]),
        (["__class__, constructor, __init__"], ["__class__", "constructor", "__init__"]),
    ],
)
def test_subprotocols(values: list[str], expected: list[str]) -> None:
    assert parse_subprotocols(values) == expected


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([""], "unexpected end"),
        (["a", ""], "unexpected end"),
        (["a,"], "unexpected end"),
        ([",a"], "unexpected character at index 0"),
        (["a,,b"], "unexpected character at index 2"),
        (["a b"], "unexpected character at index 2"),
        (["a;b"], "unexpected character at index 1"),
        (["a=b"], "unexpected character at index 1"),
        (['"a"'], "unexpected character at index 0"),
        (["a, \xe9"], "unexpected character at index 3"),
        (["a\xa0,b"], "unexpected character at index 1"),
        (["a\x0b"], "unexpected character at index 1"),
        (["a, b, a"], "repeated"),
        (["a", "a"], "repeated"),
    ],
)
def test_what_is_no_list_of_subprotocols(values: list[str], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_subprotocols(values)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, []), ((), []), ("a", ["a"]), (["a", "b"], ["a", "b"]), (iter("ab"), ["a", "b"])],
)
def test_subprotocols_of_a_caller(given: list[str], expected: list[str]) -> None:
    assert checked_subprotocols(given) == expected


@pytest.mark.parametrize("bad", ["", [""], ["a", "a"], "a b", "a,b", ["\r\n"], "é", "a\x00"])
def test_bad_subprotocols_of_a_caller(bad: str | list[str]) -> None:
    with pytest.raises(ValueError, match="subprotocol"):
        checked_subprotocols(bad)


def test_subprotocols_of_a_caller_are_str() -> None:
    with pytest.raises(TypeError, match="must be str, not bytes"):
        checked_subprotocols([b"chat"])  # type: ignore[list-item]


# Extensions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        (["foo"], [("foo", [])]),
        (["a, b", "c"], [("a", []), ("b", []), ("c", [])]),
        (["a;b;c=1 ; d=e"], [("a", [("b", None), ("c", "1"), ("d", "e")])]),
        (["a\t ;\t b=c \t,\t d "], [("a", [("b", "c")]), ("d", [])]),
        (["a;b;b=1;b=2, a;b"], [("a", [("b", None), ("b", "1"), ("b", "2")]), ("a", [("b", None)])]),
        (['a; b="c"'], [("a", [("b", "c")])]),
        ([r'a; b="\1\0"; d'], [("a", [("b", "10"), ("d", None)])]),
        (
            ["__class__; constructor; __init__=__doc__"],
            [("__class__", [("constructor", None), ("__init__", "__doc__")])],
        ),
        (
            ["permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate"],
            [
                ("permessage-deflate", [("client_max_window_bits", None), ("server_max_window_bits", "10")]),
                ("permessage-deflate", []),
            ],
        ),
    ],
)
def test_extensions(values: list[str], expected: list[tuple[str, Parameters]]) -> None:
    assert parse_extensions(values) == expected


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", "unexpected end"),
        ("a,", "unexpected end"),
        (",a", "unexpected character at index 0"),
        ("a,,b", "unexpected character at index 2"),
        ("a;", "unexpected character at index 1"),
        ("a;;b", "unexpected character at index 1"),
        ("a b", "unexpected character at index 2"),
        ("a;b c", "unexpected character at index 4"),
        ("a;b=", "unexpected character at index 3"),
        ("a;b =c", "unexpected character at index 4"),
        ("a;b= c", "unexpected character at index 3"),
        ("a;=c", "unexpected character at index 1"),
        ('a;b="c', "unexpected character at index 3"),
        ('a;b="c"d', "unexpected character at index 7"),
        ('a;b="c\\"', "unexpected character at index 3"),
        ('a;b=""', "quoted value at index 5 is not a token"),
        ('a;b="c d"', "quoted value at index 5 is not a token"),
        ('a;b="c,d"', "quoted value at index 5 is not a token"),
        ('a;b="\\""', "quoted value at index 5 is not a token"),
        ('"a"', "unexpected character at index 0"),
        ("a;b=\xe9", "unexpected character at index 3"),
    ],
)
def test_what_is_no_list_of_extensions(value: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_extensions([value])


@given(st.lists(st.tuples(TOKENS, st.lists(st.tuples(TOKENS, st.none() | TOKENS))), min_size=1))
def test_formatted_extensions_are_parsed_back(extensions: list[tuple[str, Parameters]]) -> None:
    assert (
        parse_extensions([", ".join(format_extension(*extension) for extension in extensions)]) == extensions
    )


@given(st.text(st.sampled_from('ab=;,"\\ \t\x00é')))
def test_any_text_is_parsed_or_refused_with_value_error(text: str) -> None:
    for parse in (tokens, parse_subprotocols, parse_extensions):
        assert refusal(parse, text).isprintable()


HOSTILE = {
    "blanks": "a" + " " * 200_000 + "b",
    "tabs before a semicolon": "a" + "\t" * 200_000 + ";",
    "empty elements": "," * 200_000,
    "blanks between commas": " ,\t" * 100_000 + "\x00",
    "unclosed quote": 'a;b="' + "c" * 200_000,
    "unclosed quote of escapes": 'a;b="' + "\\a" * 100_000,
    "unclosed quote ending in a backslash": 'a;b="' + "\\\\" * 100_000 + "\\",
    "many unclosed quotes": 'a;b="c;' * 30_000,
    "quoted value of escaped quotes": 'a;b="' + '\\"' * 100_000 + '"',
    "parameters": "a" + ";b" * 100_000 + "=",
    "offers": "a;b=c," * 40_000,
    "token": "a" * 200_000 + "\x00",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_values_cost_linear_time(value: str) -> None:
    start = time.process_time()
    for parse in (tokens, parse_subprotocols, parse_extensions):
        assert len(refusal(parse, value)) < 100
    # Measured: below 0.1 s each. Quadratic time would be hours.
    assert time.process_time() - start < 2
