"""The testee as a client: asks the suite's server for its cases, and echoes in each.

Started by run.py. What goes wrong inside a case is the suite's to judge: it wrote down all it saw.
"""

from __future__ import annotations

import argparse

import syncws


def connect(url: str) -> syncws.Socket:
    return syncws.Socket(url, compression=True, ping_interval=None)


def run_case(url: str) -> None:
    """Echo until the suite ends the case; a connection that fails is part of many of them."""
    try:
        with connect(url) as ws:
            for message in ws:
                ws.send(message)
    except (syncws.WebSocketError, OSError) as error:
        print(f"{url}: {error!r}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of the suite's server, without a path")
    parser.add_argument("--agent", default="syncws")
    options = parser.parse_args()
    with connect(f"{options.url}/getCaseCount") as ws:
        count = int(ws.recv(timeout=10))
    for case in range(1, count + 1):
        run_case(f"{options.url}/runCase?case={case}&agent={options.agent}")
    with connect(f"{options.url}/updateReports?agent={options.agent}") as ws:
        ws.wait_closed(timeout=60)


if __name__ == "__main__":
    main()
