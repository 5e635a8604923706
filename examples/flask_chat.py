"""Flask: a blueprint whose users are known before its WebSocket opens, and a page on the same path.

    python flask_chat.py [PORT]        gunicorn -k gthread --threads 100 flask_chat
"""

import sys

from flask import Blueprint, Flask, Response, g, request

import syncws

TOKENS = {"s3cr3t": "alice"}  # /members/chat?token=s3cr3t
app = application = Flask(__name__)
members = Blueprint("members", __name__, url_prefix="/members")


@syncws.upgrade
def chat(ws, _):
    for message in ws:  # inside Flask's request: g, session and current_app are those of the view
        ws.send(f"{g.user}: {message}")


@members.before_request
def authenticate():
    g.user = TOKENS.get(request.args.get("token"))
    return None if g.user else Response("who are you?\n", status=401)


@members.route("/chat", websocket=True)  # without `websocket` Flask answers 400 to an upgrade
def socket():
    return Response(status=chat.handle(request.environ).status)


members.add_url_rule("/chat", "page", lambda: "a page\n")
app.register_blueprint(members)
if __name__ == "__main__":
    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
