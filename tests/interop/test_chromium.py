"""syncws and the WebSocket of a browser: Chromium without a window, told what to do over its DevTools protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import debian
import pytest
import world
from command import syncws
from world import PATIENCE, eventually, serving, url_of

START = 30.0  # seconds until it runs, on a busy machine
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")

# How a connection goes, as a value: what `talk` does with it, and its close event.
CONVERSATION = """
(async (url, protocols, talk) => {
  const ws = new WebSocket(url, protocols), came = [], closed = new Promise(done => { ws.onclose = done })
  ws.binaryType = "arraybuffer"
  const next = () => new Promise(done => { ws.onmessage = event => done(event.data) })
  const opened = await Promise.race([new Promise(done => { ws.onopen = () => done(true) }), closed.then(() => false)])
  if (opened) await talk(ws, next, came)
  const { code, reason, wasClean } = await closed
  return { opened, came, protocol: ws.protocol, extensions: ws.extensions, code, reason, wasClean }
})
"""
ECHOES = """async (ws, next, came) => {
  for (const size of [0, 1, 125, 126, 65535, 65536, 3000000]) {
    const text = "\\u20ac\\u{1f389}a".repeat(size / 4 + 1).slice(0, size & ~3)
    ws.send(text)
    came.push(await next() === text)
    const bytes = new Uint8Array(size).map((_, i) => i * 7)
    ws.send(bytes)
    const back = new Uint8Array(await next())
    came.push(back.length === size && back.every((byte, i) => byte === bytes[i]))
  }
  ws.close(3001, "gr\\u00fc\\u00dfe")
}"""
LISTENS = """async (ws, next, came) => {
  ws.onmessage = event => came.push(event.data)
}"""


class Page:
    """An empty page of a browser."""

    def __init__(self, devtools: Any) -> None:
        self._devtools = devtools
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters}
        self._devtools.send(json.dumps(order | ({"sessionId": self._session} if self._session else {})))
        while (answer := json.loads(self._devtools.recv(START))).get("id") != number:
            pass  # an event
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def converse(self, url: str, talk: str, protocols: tuple[str, ...] = ()) -> Any:
        return self.evaluate(f"{CONVERSATION}({json.dumps(url)}, {json.dumps(protocols)}, {talk})")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    program = debian.find("chromium")
    if program is None:
        pytest.skip("Debian's chromium is not here")
    folder = tmp_path_factory.mktemp("chromium")
    command = [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        told = Path(folder, "DevToolsActivePort")
        eventually(lambda: told.exists() and len(told.read_text().split()) == 2, START)
        port, path = told.read_text().split()
        yield Page(stack.enter_context(world.Socket(f"ws://127.0.0.1:{port}{path}", max_payload=0, proxy=None)))


@pytest.mark.parametrize("compression", [False, True])
def test_what_a_browser_sends_comes_back_whole(page: Page, compression: bool) -> None:
    closed: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        ws.onclose = lambda event: closed.append((event.code, event.reason, event.wasClean))
        world.echo(ws, request)

    with serving(accept, origins=None, compression=compression, protocols=["chat"]) as server:
        got = page.converse(url_of(server), ECHOES, ("nothing", "chat"))
        eventually(lambda: closed)
    assert got["came"] == [True] * 14
    assert got["protocol"] == "chat"
    assert got["extensions"].startswith("permessage-deflate") is compression
    assert (got["code"], got["reason"], got["wasClean"]) == (3001, "grüße", True)
    assert closed == [(3001, "grüße", True)]


@pytest.mark.parametrize("compression", [False, True])
def test_a_browser_takes_what_a_server_does(page: Page, compression: bool) -> None:
    latencies: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        ws.send(["frag", "mented, ", "grüße"])
        ws.ping(b"how long?")
        with ws.cork():
            ws.send("corked")
            ws.send("x" * 5000)
        server.broadcast("for all")
        with contextlib.suppress(TimeoutError):
            ws.recv(0.5)
        latencies.append(ws.latency)
        ws.close(4001, "enough, 世界")

    with serving(accept, origins=None, compression=compression) as server:
        got = page.converse(url_of(server), LISTENS)
    assert got["came"] == ["fragmented, grüße", "corked", "x" * 5000, "for all"]
    assert (got["code"], got["reason"], got["wasClean"]) == (4001, "enough, 世界", True)
    assert latencies[0] is not None


def test_a_page_of_another_origin_is_refused(page: Page) -> None:
    with serving() as server:
        got = page.converse(url_of(server), LISTENS)
    assert (got["opened"], got["code"], got["wasClean"]) == (False, 1006, False)


@pytest.mark.parametrize("how", ["terminate", "violation"])
def test_a_browser_sees_how_it_ended(page: Page, how: str) -> None:
    def accept(ws: Any, request: Any) -> None:
        ws.send("hello")
        if how == "terminate":
            ws.terminate()
        else:
            for _ in ws:
                pass

    talk = LISTENS if how == "terminate" else 'async (ws, next, came) => { ws.send("x".repeat(2000)) }'
    with serving(accept, origins=None, max_payload=1000) as server:
        got = page.converse(url_of(server), talk)
    assert (got["code"], got["wasClean"]) == ((1006, False) if how == "terminate" else (1009, True))


@world.threads_only  # about a command
def test_the_page_of_the_demo_chats_and_echoes(page: Page) -> None:
    with syncws("demo", "--port", 0) as command:
        page.call("Page.navigate", url=command.line().removeprefix("listening on "))
        states = "[...document.querySelectorAll('small')].map(state => state.textContent)"
        eventually(lambda: page.evaluate(states) == ["connected"] * 2, PATIENCE)
        page.evaluate("chat.querySelector('form').elements.text.value = '<b>hi</b>'")
        page.evaluate("for (const form of document.forms) form.requestSubmit()")
        lines = "[...document.querySelectorAll('li')].map(line => line.textContent)"
        eventually(lambda: len(page.evaluate(lines)) == 2, PATIENCE)
        said, echoed = page.evaluate(lines)
        assert said == "somebody: <b>hi</b>"
        assert echoed.startswith("hello (")
        page.call("Page.navigate", url="about:blank")
