"""The command line: `python -m syncws serve`, `connect`, `demo` and `bench`; also as the script `syncws`.

Rank 6, over Server, talk, demo and bench. Reads the arguments, says what fails in one line on stderr, and serves.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import ssl
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from . import __version__, bench, demo, talk
from .exchange import Request
from .frames import COMPILED
from .server import Server
from .talk import complain, say, visible
from .url import join_host


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(_JSONParser if "--json" in given else argparse.ArgumentParser).parse_args(given)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="syncws: %(message)s")
    try:
        status: int = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _leave_output()
        return 1
    except OSError as error:
        _leave_output()
        return complain(talk.reason_of(error))
    return status


def _leave_output() -> None:
    """Whoever read our output is gone: what is still buffered must not fail again at the very end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -- the arguments ------------------------------------------------------------------------------------------


class _JSONParser(argparse.ArgumentParser):
    """One that says in JSON, too, what it does not understand."""

    def error(self, message: str) -> NoReturn:
        with contextlib.suppress(OSError):
            talk.say_json({"error": message})
        super().error(message)


def _parser(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = kind("syncws", description="WebSockets from the command line.")
    core = "compiled" if COMPILED else "pure Python"
    parser.add_argument("--version", action="version", version=f"syncws {__version__} ({core})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="a server: echo, or each message to all clients"))
    _add_connect(commands.add_parser("connect", help="send lines to a server, print what comes"))
    _add_demo(commands.add_parser("demo", help="a tour of two seconds, or a page with a chat"))
    bench.add_arguments(commands.add_parser("bench", help="how many messages a server answers, and how soon"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="where to listen (default: %(default)s, this machine only)")
    add("--port", type=_port, default=8765, help="0 = any free one (default: %(default)s)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--echo", action="store_true", help="send each message back (the default)")
    kind.add_argument("--broadcast", action="store_true", help="send each message to all clients")
    add("--gevent", action="store_true", help="a greenlet for each connection instead of a thread")
    add("--compression", action="store_true", help="agree to permessage-deflate")
    add("--max-payload", type=int, metavar="N", default=64 << 20, help="bytes of a message (default: 64 MiB)")
    add("--ssl", nargs=2, metavar=("CERT", "KEY"), help="serve wss with this certificate, files in PEM")
    add("--any-origin", action="store_true", help="also let in the pages of other hosts")
    add("--cpu", type=int, metavar="N", help="keep the connections' threads on this CPU")
    parser.set_defaults(run=_serve)


def _add_connect(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", metavar="URL", help="ws://…, wss://… or ws+unix:/path:/target")
    add("--header", action="append", default=[], metavar="'A: b'", help="a further header; may be repeated")
    add("--subprotocol", action="append", metavar="S", help="a subprotocol to offer; may be repeated")
    add("--text", action="extend", nargs="+", metavar="M", help="send these messages, not the lines of stdin")
    add(
        "--timeout",
        type=_seconds,
        metavar="S",
        default=5.0,
        help="seconds to connect, to wait for replies after the end of the input, and to close (default: 5)",
    )
    add("--json", action="store_true", help="tell in a last line of JSON how it ended")
    parser.set_defaults(run=talk.run)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    about = "serve a page with a chat and an echo, to be opened in a browser, until Ctrl-C (0 = any free port)"
    parser.add_argument("--port", type=_port, help=f"{about}; without it: a tour of two seconds")
    parser.set_defaults(run=_demo)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 1e6:
        raise argparse.ArgumentTypeError("expected a number of seconds, more than 0")
    return seconds


# -- demo ---------------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    if options.port is None:
        return demo.run()
    from . import playground  # with a server of HTTP, which no other command needs

    try:
        playground.serve(options.port, _announce)
    except OSError as error:
        return complain(f"cannot listen on {join_host('127.0.0.1', options.port)}: {talk.reason_of(error)}")
    return 0


# -- serve --------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    relay = _Relay() if options.broadcast else None
    try:
        context = _tls_context(*options.ssl) if options.ssl else None
    except OSError as error:
        return complain(f"cannot use this certificate and key: {talk.reason_of(error)}")
    try:
        server = _make_server(options, relay.accept if relay else demo.echo, context)
    except ModuleNotFoundError:
        return complain("gevent is not installed: pip install 'syncws[gevent]'")
    except OSError as error:
        return complain(f"cannot listen on {join_host(options.host, options.port)}: {talk.reason_of(error)}")
    except ValueError as error:
        return complain(str(error))
    scheme = "wss" if options.ssl else "ws"
    url = f"{scheme}://{join_host(options.host, server.address()[1])}/"
    # When this is told, serve_forever has its hands on the signals already.
    server.on("listening", lambda: _announce(url))
    if relay:
        relay.start(server)
    # A second Ctrl-C: the clients are terminated by now.
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def _make_server(options: argparse.Namespace, accept: Any, context: ssl.SSLContext | None) -> Server:
    kind = Server
    if options.gevent:
        from .gevent import Server as kind
    return kind(
        accept,
        host=options.host,
        port=options.port,
        origins=None if options.any_origin else "same",
        ssl=context,
        cpu=options.cpu,
        compression=options.compression,
        max_payload=options.max_payload,
    )


def _tls_context(certificate: str, key: str) -> ssl.SSLContext:
    for path in (certificate, key):
        with open(path, "rb"):  # the ssl module would not say which of the two cannot be read
            pass
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _announce(url: str) -> None:
    try:
        say(f"listening on {visible(url)}")
    except BrokenPipeError:
        _leave_output()
    except OSError as error:  # which is nothing to the clients
        _leave_output()
        talk.complain(f"cannot write to the output: {talk.reason_of(error)}")


class _Relay:
    """Sends each message to all clients, one message at a time, so that all of them see the same order."""

    def start(self, server: Server) -> None:
        self._server = server
        self._lock = server._runtime.lock()

    def accept(self, ws: Any, request: Request) -> None:
        for message in ws:
            with self._lock:
                self._server.broadcast(message)
