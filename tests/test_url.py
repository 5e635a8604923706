"""URLs: what they become, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws.url import Address, join_host, parse, split_host


@pytest.mark.parametrize(
    ("url", "shown", "secure", "host", "port", "target", "host_header"),
    [
        ("ws://h", "ws://h/", False, "h", 80, "/", "h"),
        ("wss://h", "wss://h/", True, "h", 443, "/", "h"),
        ("http://h/a", "ws://h/a", False, "h", 80, "/a", "h"),
        ("https://h/a", "wss://h/a", True, "h", 443, "/a", "h"),
        (
            "WSS://Example.ORG:443/A?B",
            "wss://example.org/A?B",
            True,
            "example.org",
            443,
            "/A?B",
            "example.org",
        ),
        ("ws://h:443/", "ws://h:443/", False, "h", 443, "/", "h:443"),
        ("wss://h:80/", "wss://h:80/", True, "h", 80, "/", "h:80"),
        ("ws://h:/", "ws://h/", False, "h", 80, "/", "h"),
        ("ws://h:65535", "ws://h:65535/", False, "h", 65535, "/", "h:65535"),
        ("ws://h:00080", "ws://h/", False, "h", 80, "/", "h"),
        ("ws://h?a=b", "ws://h/?a=b", False, "h", 80, "/?a=b", "h"),
        ("ws://h/?", "ws://h/?", False, "h", 80, "/?", "h"),
        ("ws://h#", "ws://h/", False, "h", 80, "/", "h"),
        ("ws://h/a:b@c//d?e?f", "ws://h/a:b@c//d?e?f", False, "h", 80, "/a:b@c//d?e?f", "h"),
        ("ws://[::1]:9/", "ws://[::1]:9/", False, "::1", 9, "/", "[::1]:9"),
        ("wss://[2001:DB8:0::1]", "wss://[2001:db8::1]/", True, "2001:db8::1", 443, "/", "[2001:db8::1]"),
        ("ws://127.0.0.1:80/", "ws://127.0.0.1/", False, "127.0.0.1", 80, "/", "127.0.0.1"),
        ("ws://my_host.local./", "ws://my_host.local./", False, "my_host.local.", 80, "/", "my_host.local."),
        (
            "ws://BÜCHER.example/",
            "ws://xn--bcher-kva.example/",
            False,
            "xn--bcher-kva.example",
            80,
            "/",
            None,
        ),
        ("ws://u:p@h/", "ws://h/", False, "h", 80, "/", "h"),
    ],
)
def test_addresses(
    url: str, shown: str, secure: bool, host: str, port: int, target: str, host_header: str | None
) -> None:
    address = parse(url)
    assert address.url == shown
    assert (address.secure, address.host, address.port, address.target) == (secure, host, port, target)
    assert address.host_header == (host_header or host)
    assert address.unix is None


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/grüße", "/gr%C3%BC%C3%9Fe"),
        ("/%67%zz", "/%67%zz"),
        ("/?a=1&b=[2]", "/?a=1&b=[2]"),
        ('/"<>{}|^`', "/%22%3C%3E%7B%7D%7C%5E%60"),
        ("/\u2028😀", "/%E2%80%A8%F0%9F%98%80"),
        ("/a/../b", "/a/../b"),
    ],
)
def test_targets_are_visible_ascii(target: str, sent: str) -> None:
    assert parse("ws://h" + target).target == sent


@pytest.mark.parametrize(
    ("url", "unix", "target", "shown"),
    [
        ("ws+unix:/a/b.sock", "/a/b.sock", "/", "ws+unix:/a/b.sock:/"),
        ("ws+unix:/a:/chat?x=1", "/a", "/chat?x=1", "ws+unix:/a:/chat?x=1"),
        ("WS+UNIX:///a:/b:c", "/a", "/b:c", "ws+unix:/a:/b:c"),
        ("ws+unix:/a:?x", "/a", "/?x", "ws+unix:/a:/?x"),
        ("ws+unix:/a:", "/a", "/", "ws+unix:/a:/"),
        ("ws+unix:rel.sock:/", "rel.sock", "/", "ws+unix:rel.sock:/"),
        ("ws+unix:/a%20b%3Ac:/d", "/a b:c", "/d", "ws+unix:/a%20b%3Ac:/d"),
        ("ws+unix:/%FF:/", "/\udcff", "/", "ws+unix:/%FF:/"),
    ],
)
def test_unix_addresses(url: str, unix: str, target: str, shown: str) -> None:
    address = parse(url)
    assert (address.unix, address.target, address.url) == (unix, target, shown)
    assert (address.secure, address.host, address.host_header) == (False, "localhost", "localhost")


@pytest.mark.parametrize(
    ("userinfo", "expected"),
    [
        ("", None),
        ("u", ("u", "")),
        ("u:", ("u", "")),
        (":p", ("", "p")),
        ("u:p:q", ("u", "p:q")),
        ("u%40x:p%3A%2F%C3%A9", ("u@x", "p:/é")),
        ("u@v:p@w", ("u@v", "p@w")),
        ("é:ü", ("é", "ü")),
    ],
)
def test_userinfo_is_decoded(userinfo: str, expected: tuple[str, str] | None) -> None:
    assert parse(f"ws://{userinfo}@h/").userinfo == expected


def test_userinfo_is_kept_out_of_url_and_repr() -> None:
    address = parse("ws://user:hunter2@h/")
    assert "hunter2" not in repr(address) + address.url + address.host_header


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "/",
        "//h/",
        "ws:",
        "ws:/h",
        "ws:h",
        "ws://",
        "ws:///path",
        "ws://:80/",
        "ws://u:p@/",
        "ws://?a",
        "ftp://h/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "wss+unix:/a",
        "ws+unix:",
        "ws+unix::/a",
        "ws+unix://",
        "ws+unix://h/a",
        "ws+unix:/a%00b",
        "ws+unix:/a%0Ab",
        "ws+unix:/a#b",
        "ws://h/#f",
        "ws://h#f",
        "ws://h:65536/",
        "ws://h:99999/",
        "ws://h:000000080/",
        "ws://h:-1/",
        "ws://h:+1/",
        "ws://h:8o/",
        "ws://h:٣/",
        "ws://h:1:2/",
        "ws://::1/",
        "ws://[::1/",
        "ws://[::1]9/",
        "ws://[]/",
        "ws://[::g]/",
        "ws://[1.2.3.4]/",
        "ws://[fe80::1%25eth0]/",
        "ws://[::1:::]/",
        "ws://a..b/",
        "ws://.a/",
        "ws://a,b/",
        "ws://a%2eb/",
        "ws://h;x/",
        "ws://" + "a" * 64 + "/",
        "ws://" + "a." * 127 + "/",
        "ws://" + "é" * 100_000 + "/",
        "ws://e\u3000f/",
        "ws://e\uff0ff/",
        "ws://e\uff03f/",
        "ws://e\uff20f/",
        "ws://e\uff1a80/",
        "ws://a\u200bb\u202e/",
        "ws://\ud800/",
        "ws://h/\ud800",
        "ws://u%3Av@h/",
        "ws://u:p%0D%0A@h/",
        "ws://%00@h/",
        "ws://%ff@h/",
        "ws://good.example\\@evil.example/",
        "ws:\\\\h/",
        "ws://h/\\",
    ],
)
def test_what_is_no_websocket_url(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(url)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("bad", ["\r", "\n", "\t", "\0", " ", "\x1f", "\x7f", "\x85", "\x9f", "\\"])
@pytest.mark.parametrize(
    "place", ["{}ws://h/", "w{}s://h/", "ws:{}//h/", "ws://u{}:p@h/", "ws://h{}x/", "ws://h:8{}0/"]
)
def test_controls_and_blanks_are_refused_everywhere(place: str, bad: str) -> None:
    for url in (
        place.format(bad),
        f"ws://h/a{bad}b",
        f"ws://h/?a{bad}",
        f"ws://h/{bad}",
        f"ws+unix:/a{bad}:/",
    ):
        with pytest.raises(ValueError, match="not allowed"):
            parse(url)


@pytest.mark.parametrize(
    "url", ["ws://u:hunter2@h:x/", "ws://u:hunt/er2@h/", "ws://u:hunter2 @h/", "x://u:hunter2@h"]
)
def test_errors_do_not_repeat_passwords(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(url)
    assert "hunt" not in str(caught.value)


def test_a_url_is_str() -> None:
    with pytest.raises(TypeError):
        parse(b"ws://h/")  # type: ignore[arg-type]


@given(st.text())
def test_any_text_is_parsed_or_refused_with_value_error(text: str) -> None:
    for url in (text, "ws://" + text, "ws://h/" + text, "ws+unix:" + text):
        try:
            address = parse(url)
        except ValueError:
            continue
        assert address.target.isascii()
        assert address.target.isprintable()
        assert " " not in address.target


@given(st.sampled_from(["h", "a.b", "::1", "2001:db8::1"]), st.none() | st.integers(0, 65535))
def test_hosts_are_joined_and_split_again(host: str, port: int | None) -> None:
    assert split_host(join_host(host, port)) == (host, port)


@given(st.text(st.sampled_from("aZ9-_.é"), min_size=1) | st.text("a.", min_size=60, max_size=70))
def test_a_host_name_is_what_the_codec_of_host_names_makes_of_it(name: str) -> None:
    try:
        expected = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        with pytest.raises(ValueError):
            split_host(name)
    else:
        assert split_host(name) == (expected, None)


def test_shown_urls_lead_to_the_same_address() -> None:
    for url in ("wss://[::1]:8080/a?b", "ws+unix:/a%20b:/c"):
        address = parse(url)
        assert isinstance(address, Address)
        assert parse(address.url) == address
