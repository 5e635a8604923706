"""Header fields: the mapping that holds them, and the grammar of the values the handshake reads.

Rank 1: imports nothing of the package. The peer wrote what is parsed here: every parser is linear in it.
Fields and lists: RFC 9110 sections 5.5 and 5.6; the extension grammar: RFC 6455 section 9.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, Sequence, ValuesView
from typing import Protocol, TypeAlias, TypeVar


class _HasItems(Protocol):
    def items(self) -> Iterable[tuple[str, str]]: ...


# Not Mapping: http.client.HTTPMessage is none, and has its repeated fields in items() only.
HeaderSource: TypeAlias = _HasItems | Iterable[tuple[str, str]]
Parameters: TypeAlias = list[tuple[str, str | None]]
_Element = TypeVar("_Element")

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_IS_TOKEN = re.compile(_TOKEN)
_NAME = re.compile(rf"({_TOKEN})[ \t]*")
_COMMA = re.compile(r",[ \t]*")
# The alternatives inside the quotes exclude each other, so an unclosed string costs one pass and no more.
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})(?:=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?[ \t]*')
_ESCAPED = re.compile(r"\\(.)")
# Everything but tab, printable ASCII and what RFC 9110 calls obs-text (latin-1 beyond ASCII).
_NOT_IN_A_VALUE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def is_token(text: str) -> bool:
    """Tell whether `text` is a token of RFC 9110 section 5.6.2."""
    return _IS_TOKEN.fullmatch(text) is not None


def shown(text: str, limit: int = 80) -> str:
    """`text` as an error message or a log line may show it: escaped, and cut to `limit` characters."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def check_value(what: str, value: str) -> str:
    """Return `value` if one line of a head can carry it; else ValueError, which does not repeat it.

    The value may be a secret; the error names `what` it is and where it is wrong.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be str, not {type(value).__name__}")
    if bad := _NOT_IN_A_VALUE.search(value):
        raise ValueError(f"{what}: character {bad.group()!r} at index {bad.start()} is not allowed")
    return value


class Headers(MutableMapping[str, str]):
    """Header fields in their order: a mapping whose names have no case and may repeat.

    `headers[name]` and `get` give the first value, `get_all` all of them; iteration, `len`, `items()` and
    `values()` count every field. Assignment replaces, `add` adds. What no HTTP head can carry: ValueError.
    """

    def __init__(self, source: HeaderSource = ()) -> None:
        self._fields: list[tuple[str, str]] = []
        pairs: object = source.items() if hasattr(source, "items") else source
        for pair in pairs if isinstance(pairs, Iterable) else (pairs,):
            if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise TypeError("headers must be a mapping of names to values, or pairs of a name and a value")
            self.add(*pair)

    @classmethod
    def parsed(cls, fields: list[tuple[str, str]]) -> Headers:
        """Of fields that are known to be right, in a list that nobody else keeps."""
        headers = cls()
        headers._fields = fields
        return headers

    def add(self, name: str, value: str) -> None:
        """Append a field, whether or not there is one of that name."""
        self._fields.append(_checked(name, value))

    def get_all(self, name: str) -> list[str]:
        """All values of `name` in their order; an empty list if there is none."""
        wanted = name.lower()
        return [value for field, value in self._fields if field.lower() == wanted]

    def grouped(self) -> dict[str, list[str]]:
        """All values by the names in lower case: for whoever looks for many."""
        groups: dict[str, list[str]] = {}
        for name, value in self._fields:
            groups.setdefault(name.lower(), []).append(value)
        return groups

    def __getitem__(self, name: str) -> str:
        for value in self.get_all(name):
            return value
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        field = _checked(name, value)
        self._fields = [*self._others(name), field]

    def __delitem__(self, name: str) -> None:
        others = self._others(name)
        if len(others) == len(self._fields):
            raise KeyError(name)
        self._fields = others

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._fields])

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(n.lower(), v) for n, v in self._fields] == [(n.lower(), v) for n, v in other._fields]

    def items(self) -> ItemsView[str, str]:
        return _Items(self)

    def values(self) -> ValuesView[str]:
        return _Values(self)

    def copy(self) -> Headers:
        return Headers(self)

    def __repr__(self) -> str:
        # Names only: values carry cookies and passwords.
        return f"<Headers {', '.join(self)}>"

    def _others(self, name: str) -> list[tuple[str, str]]:
        wanted = name.lower()
        return [field for field in self._fields if field[0].lower() != wanted]


class _Items(ItemsView[str, str]):
    """Every field; the view of a plain mapping would give the first value for each repetition."""

    def __init__(self, headers: Headers) -> None:
        super().__init__(headers)
        self._fields = headers._fields

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __contains__(self, item: object) -> bool:
        return item in self._fields


class _Values(ValuesView[str]):
    """Every value, for the same reason."""

    def __init__(self, headers: Headers) -> None:
        super().__init__(headers)
        self._fields = headers._fields

    def __iter__(self) -> Iterator[str]:
        return (value for _, value in self._fields)

    def __contains__(self, value: object) -> bool:
        return any(value == own for _, own in self._fields)


def checked_subprotocols(protocols: str | Iterable[str] | None) -> list[str]:
    """A caller's subprotocols, given as one, as several or as None; else TypeError or ValueError."""
    if isinstance(protocols, (bytes, Mapping)) or not isinstance(protocols, (Iterable, type(None))):
        raise TypeError(f"protocols must be a subprotocol or a list of them, not {protocols!r}")
    found = [protocols] if isinstance(protocols, str) else list(() if protocols is None else protocols)
    for protocol in found:
        if not isinstance(protocol, str):
            raise TypeError(f"a subprotocol must be str, not {type(protocol).__name__}")
        if not is_token(protocol):
            raise ValueError(f"a subprotocol must be a token, not {shown(protocol)}")
    return _each_once(found)


def tokens(values: Iterable[str]) -> list[str]:
    """The tokens of a comma-separated list spread over any number of fields.

    Empty elements are skipped, as RFC 9110 section 5.6.1.2 asks of a recipient. Else ValueError.
    """
    found = []
    for value in values:
        position = 0
        for element in value.split(","):
            token = element.strip(" \t")
            if token and not is_token(token):
                raise ValueError(f"not a token at index {position}")
            if token:
                found.append(token)
            position += len(element) + 1
    return found


def parse_subprotocols(values: Iterable[str]) -> list[str]:
    """The subprotocols of Sec-WebSocket-Protocol fields: tokens, each once; else ValueError."""
    return _each_once(list(_elements(values, _name)))


def parse_extensions(values: Iterable[str]) -> list[tuple[str, Parameters]]:
    """Sec-WebSocket-Extensions fields as [(name, [(parameter, value or None), …]), …]; else ValueError."""
    return list(_elements(values, _extension))


def format_extension(name: str, parameters: Parameters) -> str:
    """One extension as a header value: the inverse of `parse_extensions`."""
    return "; ".join([name, *(key if value is None else f"{key}={value}" for key, value in parameters)])


def _checked(name: str, value: str) -> tuple[str, str]:
    if not isinstance(name, str):
        raise TypeError(f"a header name must be str, not {type(name).__name__}")
    if not is_token(name):
        raise ValueError(f"a header name must be a token: {shown(name)}")
    # Blanks around it are no part of a value (RFC 9110 section 5.5).
    return name, check_value(f"header {name}", value).strip(" \t")


def _each_once(subprotocols: list[str]) -> list[str]:
    if len(set(subprotocols)) != len(subprotocols):
        raise ValueError("a subprotocol is repeated")
    return subprotocols


def _elements(values: Iterable[str], read: Callable[[str, int], tuple[_Element, int]]) -> Iterator[_Element]:
    """The elements of a comma-separated list, each taken by `read(text, position) -> (element, position)`.

    Stricter than `tokens`: RFC 6455 has no empty elements (sections 4.1 and 9.1).
    """
    for value in values:
        text = value.strip(" \t")
        element, position = read(text, 0)
        yield element
        while position < len(text):
            comma = _COMMA.match(text, position)
            if comma is None:
                raise _unexpected(text, position)
            element, position = read(text, comma.end())
            yield element


def _name(text: str, position: int) -> tuple[str, int]:
    match = _NAME.match(text, position)
    if match is None:
        raise _unexpected(text, position)
    return match.group(1), match.end()


def _extension(text: str, position: int) -> tuple[tuple[str, Parameters], int]:
    name, position = _name(text, position)
    parameters: Parameters = []
    while match := _PARAMETER.match(text, position):
        key, value, quoted = match.groups()
        if quoted is not None:
            value = _ESCAPED.sub(r"\1", quoted)
            # RFC 6455 section 9.1: what stands in the quotes must itself be a token.
            if not is_token(value):
                raise ValueError(f"quoted value at index {match.start(3)} is not a token")
        parameters.append((key, value))
        position = match.end()
    return (name, parameters), position


def _unexpected(text: str, position: int) -> ValueError:
    if position == len(text):
        return ValueError("unexpected end of the value")
    return ValueError(f"unexpected character at index {position}")
