"""The benchmark suite runs: everything once for a moment, of syncws and bare sockets, with what is installed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import world
from command import ROOT

pytestmark = [world.threads_only, world.untraced, pytest.mark.timeout(120)]  # about programs in processes of their own

RUN = ROOT / "benchmarks" / "run.py"
CONTENDERS = "raw,syncws,syncws-gevent" if importlib.util.find_spec("gevent") else "raw,syncws"
WITHOUT_PEERS = {"nogil-c32", "nogil-c100"}  # series in which none of these is measured


def run(*arguments, patience=100):
    command = [sys.executable, str(RUN), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a whole run, the smallest there is, has written its results and its page."""
    folder = tmp_path_factory.mktemp("benchmarks")
    said = run(
        "--here", "--smoke", "--contenders", CONTENDERS, "--results", folder / "results", "--publish", folder / "docs"
    )
    assert "FAILED" not in said, said
    return folder


@pytest.fixture(scope="module")
def series(folder):
    [path] = (folder / "results").glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))["series"]


def test_every_series_has_samples_of_syncws(series):
    lacking = {name for name, entry in series.items() if not any(who.startswith("syncws") for who in entry["samples"])}
    assert lacking <= WITHOUT_PEERS


def test_messages_went_to_and_fro(series):
    for name in ("echo-1", "echo-64", "echo-c100-pinned", "echo-1mib", "client-echo", "flood-iterate", "flood-listen"):
        assert series[name]["samples"]["syncws"][0]["rate"] > 0, name


def test_an_idle_connection_has_one_thread(series):
    assert series["idle"]["samples"]["syncws"][0]["threads"] == 1


def test_the_page_shows_each_table_and_picture(folder):
    page = (folder / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert len(pictures) >= 10
    for picture in pictures:
        ET.parse(folder / "docs" / picture)
    assert page.count("| messages/s |") >= 8
    assert " are met, " in page


def test_the_groups_are_named():
    assert "P13" in run("--list")
