"""
The scoring server: a user's `score.py` behind HTTP, as Azure runs it.

This folder is copied into the environment that a deployment asks for, whose
Python (3.9 to 3.13) and packages are the user's: so it imports nothing of
`modelport`, needs little (`requirements.txt` says what and why), and can be run
by hand: `python -m modelport_scoring --entry_script score.py`.

One process. Reading order, which is a request's way too:

    __main__   settings, then the script with its init(), and only then a socket
    settings   what the environment and the command line say
    script     the user's code: loading it, calling it, and saying what is wrong with it
    inputs     what run() is given: text, the request, or arguments
    schemas    what inference-schema's decorators say of them
    swagger    /swagger.json, of that
    server     Granian, its signals, and the end of the process
    app        routes, limits, and what becomes of a run()
    exchange   one request and its one answer: ids, headers, status
    cors       which web pages may read the answers
    turns      who may be in run() now, and who waits
    batches    several requests in one call of run()
    streams    answers that come in pieces
    deadlines  who took too long
    loops      `async def run`: the event loop, and a watch over it
    tasks      the app on that loop, where a client that goes away cancels its run()
    asgi       how Granian talks with it
    debugger   who may look on
    logs       Azure's format, and a cheap access log

A request occupies a thread only while its body arrives and while it is in run().
One that waits for its turn is an entry in a queue, and one that is too late is
answered by a watch: so neither a busy script nor a stalled client keeps a probe
waiting. An `async def run` is served on one event loop instead, by the same rules.

What scripts import from here (`marks`, `streams`): `batched`, `concurrent`, `Event`.

`raw` (requests and responses for scripts that want them whole) and `stand_ins` (the
imports that Azure's packages would serve) are loaded by scripts alone.
"""

from modelport_scoring.marks import batched, concurrent
from modelport_scoring.streams import Event

__all__ = ["Event", "__version__", "batched", "concurrent"]

__version__ = "0.1.0"
