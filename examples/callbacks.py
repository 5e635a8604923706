"""A client in the style of browsers: listeners, called by a thread in the background.

    python callbacks.py [URL]
"""

import sys

import syncws

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"
ws = syncws.Socket(url, blocking=False)  # connects in the background


@ws.on("open")
def opened(event):
    ws.send('{"count": 1}')


@ws.on("message")
def message(event):
    count = event.json()["count"]
    print("count:", count)
    if count < 3:
        ws.send(f'{{"count": {count + 1}}}')
    else:
        ws.close(1000, "that is all")


ws.onerror = lambda event: print("error:", event.message)
ws.onclose = lambda event: print("closed:", event.code, event.reason)
ws.wait_closed()
sys.exit(0 if ws.close_code == 1000 else 1)
