"""
The scoring server: a user's `score.py` behind HTTP, as Azure runs it.

This folder is copied into the environment that a deployment asks for, whose
Python (3.9 to 3.13) and packages are the user's: so it imports nothing of
`modelport`, needs little (`requirements.txt` says what and why), and can be run
by hand: `python -m modelport_scoring --entry_script score.py`.

One process, unless more are asked for. Reading order, which is a request's way too:

    __main__   settings, the address, and then what was asked for
    settings   what can be said to it, each thing once; `kinds` are the ways to spell one
    configuration  what the command line, the environment and a file do say
    greeting   what it says of that to who starts it by hand
    address    whether it can listen there; `sockets` are where it does
    service    the script with its init(), and only then a socket
    keeper     several workers, and new ones for a changed script (`reload`); `worker` is what each knows of it
    health     the process that says whether the server lives (`listener`), from what is `shared`
    script     the user's code: loading it, calling it, and saying what is wrong with it
    inputs     what run() is given: text, the request, or arguments
    typed      what it is given by its annotations; `annotations`, `shapes`, `conversions`, `arrays` are its parts
    flask_context   Flask's `request` in run(), for scripts that use it
    schemas    what inference-schema's decorators say of them
    swagger    /swagger.json, of that; `openapi` and `examples` for typed scripts
    server     Granian, its signals, and the end of the process
    app        routes, limits, and whose turn it is
    outcomes   what becomes of a run(): `results` it returns, what it `raised`
    results    what it returned, as JSON
    raised     what it raised, as an answer
    exchange   one request and its one answer: ids, headers, status
    cors       which web pages may read the answers
    turns      who may be in run() now, and who waits
    surroundings   what init() has set in its thread, for those that run() is in
    batches    several requests in one call of run()
    streams    answers that come in pieces
    deadlines  who took too long
    loops      `async def run`: the event loop, and a watch over it
    tasks      the app on that loop, where a client that goes away cancels its run()
    asgi       how Granian talks with it
    debugger   who may look on
    records    what was answered, for the two that follow
    logs       Azure's format, prints included, and a cheap access log; `request_ids` says whose a line is
    counting   numbers, many requests at a time; which ones, says `metrics`
    exposition the numbers of all workers, for Prometheus
    telemetry  traces, where they are asked for: `tracing`, `app_insights`

A request occupies a thread only while its body arrives and while it is in run().
One that waits for its turn is an entry in a queue, and one that is too late is
answered by a watch: so neither a busy script nor a stalled client keeps a probe
waiting. An `async def run` is served on one event loop instead, by the same rules.

What scripts import from here: `batched`, `concurrent`, `Json` (`marks`) and `Event` (`streams`).

`raw` (requests and responses for scripts that want them whole) and `stand_ins` (the
imports that Azure's packages would serve) are loaded by scripts alone, and `typed` with its
parsers by those that are.
"""

from modelport_scoring.marks import Json, batched, concurrent
from modelport_scoring.streams import Event

__all__ = ["Event", "Json", "__version__", "batched", "concurrent"]

__version__ = "0.1.0"
