"""Django in one file: a WebSocket in the URLconf, for users with a session.

    python django_chat.py [PORT]        gunicorn -k gthread --threads 100 django_chat
"""

import sys

from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

import syncws

middleware = ["middleware.security.SecurityMiddleware", "contrib.sessions.middleware.SessionMiddleware"]
middleware += ["middleware.common.CommonMiddleware", "middleware.csrf.CsrfViewMiddleware"]
settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="of the example", ALLOWED_HOSTS=["127.0.0.1"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=[f"django.{name}" for name in middleware])

@syncws.upgrade  # origins="same": nobody else's page connects with the cookie
def echo(ws, request):
    for message in ws:
        ws.send(f"{request.environ['chat.user']}: {message}")

def chat(request):  # with ATOMIC_REQUESTS, decorate it with transaction.non_atomic_requests
    if "user" not in request.session:
        return HttpResponse("log in first\n", status=401)
    return HttpResponse(status=echo.handle({**request.environ, "chat.user": request.session["user"]}).status)

def login(request):
    request.session["user"] = request.GET["user"]
    return HttpResponse("welcome\n")

urlpatterns = [path("chat", chat), path("login", login)]
application = get_wsgi_application()
if __name__ == "__main__":
    call_command("runserver", f"127.0.0.1:{(sys.argv[1:] or [8000])[0]}", use_reloader=False)
