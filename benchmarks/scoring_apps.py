"""
What stands beside our scoring server: each app loads the same `score.py` from its working directory and calls it.

So the JSON and the model's work are the same everywhere, and what differs is the way from the socket to run() and
back. Run inside the peers' environment, never imported here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def scored():
    """A function from a body to the answer's body, its script's init() run."""
    sys.path.insert(0, str(Path.cwd()))
    import score

    score.init()
    return lambda body: json.dumps(score.run(body.decode())).encode()


def wsgi(environ, start_response):
    """Runs the script in whatever thread Granian has: one, as it is started here."""
    if environ["PATH_INFO"] != "/score":
        answer = b"Healthy"
    else:
        answer = SCORE(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    start_response("200 OK", [("content-type", "application/json"), ("content-length", str(len(answer)))])
    return [answer]


def constant(environ, start_response):
    """Answers everything as it answered the first request: what is left is HTTP and a call of Python."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    if not ANSWERED:
        ANSWERED.append(SCORE(body))
    (answer,) = ANSWERED
    start_response("200 OK", [("content-type", "application/json"), ("content-length", str(len(answer)))])
    return [answer]


ONE_AT_A_TIME = threading.Semaphore(1)


def semaphore(environ, start_response):
    """Many threads for the protocol, one at a time in run()."""
    if environ["PATH_INFO"] != "/score":
        return wsgi(environ, start_response)
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    with ONE_AT_A_TIME:
        answer = SCORE(body)
    start_response("200 OK", [("content-type", "application/json"), ("content-length", str(len(answer)))])
    return [answer]


ONE_THREAD = ThreadPoolExecutor(1)


async def rsgi(scope, protocol):
    """Runs the script in the event loop."""
    answer = SCORE(await protocol()) if scope.path == "/score" else b"Healthy"
    protocol.response_bytes(200, [("content-type", "application/json")], answer)


async def rsgi_thread(scope, protocol):
    """Runs the script in a thread beside the event loop."""
    if scope.path == "/score":
        answer = await asyncio.get_running_loop().run_in_executor(ONE_THREAD, SCORE, await protocol())
    else:
        answer = b"Healthy"
    protocol.response_bytes(200, [("content-type", "application/json")], answer)


async def _asgi_body(receive):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _asgi_answer(send, answer):
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def asgi(scope, receive, send):
    """Runs the script in the event loop."""
    body = await _asgi_body(receive)
    await _asgi_answer(send, SCORE(body) if scope["path"] == "/score" else b"Healthy")


async def asgi_thread(scope, receive, send):
    """Runs the script in a thread beside the event loop."""
    body, answer = await _asgi_body(receive), b"Healthy"
    if scope["path"] == "/score":
        answer = await asyncio.get_running_loop().run_in_executor(ONE_THREAD, SCORE, body)
    await _asgi_answer(send, answer)


SCORE = scored()
ANSWERED: list[bytes] = []
