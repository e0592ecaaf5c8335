"""
Our queue for run() on Granian's WSGI, without the rest of our server.

Granian gives every request and its own protocol object to what `_wsgi_call_wrap` returns; with that object a request
can be answered later and by another thread, as `modelport_scoring.server` does it.
"""

from granian.server import mp
from scoring_apps import SCORE

from modelport_scoring.turns import Turns


def answer(item):
    protocol, body = item
    protocol.response_bytes(200, [("content-type", "application/json")], SCORE(body))


def handler(protocol, environ):
    if environ["PATH_INFO"] != "/score":
        protocol.response_bytes(200, [("content-type", "text/html")], b"Healthy")
    else:
        turns.take((protocol, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))


turns = Turns(1, answer)
mp._wsgi_call_wrap = lambda *_: handler
