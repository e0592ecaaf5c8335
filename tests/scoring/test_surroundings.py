"""What a script sets in the thread of its init(), in Azure that of run() too, is there in the threads of run()."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

SCRIPTS = {
    "a precision": (
        """
        import decimal
        def init(): decimal.getcontext().prec = 4
        def run(data): return str(decimal.Decimal(1) / 3)
        """,
        "0.3333",
    ),
    "numpy's errors": (
        """
        import numpy
        numpy.seterr(all="raise")
        def init(): pass
        def run(data):
            try:
                return str(numpy.float64(1) / numpy.float64(0))
            except FloatingPointError:
                return "raised"
        """,
        "raised",
    ),
    "a loop that nobody has made": (
        """
        import asyncio
        def init(): pass
        async def work():
            await asyncio.sleep(0)
            return "done"
        def run(data): return asyncio.get_event_loop().run_until_complete(work())
        """,
        "done",
    ),
    "a loop with what init() has opened on it": (
        """
        import asyncio
        def init():
            global opened
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            opened = loop.create_future()
            loop.call_soon(opened.set_result, "done")
        async def work(): return await opened
        def run(data): return asyncio.get_event_loop().run_until_complete(work())
        """,
        "done",
    ),
}


@pytest.mark.parametrize("preload", ["false", "true"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_init_sets_is_there_in_run(serve, script, preload):
    text, result = SCRIPTS[script]
    served = serve(text, WORKER_PRELOAD=preload, WORKER_COUNT="2" if preload == "true" else "1")
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(served.score, range(40)))
    assert [json.loads(each.body) for each in answers] == [result] * 40, served.log


def test_a_batch_has_it_too(serve):
    served = serve(
        """
        import decimal
        from modelport_scoring import batched
        decimal.getcontext().prec = 4
        def init(): pass
        @batched
        def run(items): return [str(decimal.Decimal(1) / 3) for _ in items]
        """
    )
    assert json.loads(served.score(1).body) == "0.3333"


def test_a_script_may_go_as_deep_as_in_a_main_thread(serve):
    served = serve(
        """
        import json, sys
        class Nested:
            def __init__(self, depth): self.depth = depth
            def __repr__(self): return repr(Nested(self.depth - 1)) if self.depth else "bottom"
        def init(): sys.setrecursionlimit(100_000)
        def run(data):
            try:
                return repr(Nested(json.loads(data)))
            except RecursionError:  # of C, whose limit Python 3.12 has fixed
                return "bottom"
        """
    )
    assert json.loads(served.score(9000).body) == "bottom"


def test_torch_has_no_gradients_in_run_where_init_wants_none(serve):
    # What torch has of it in Python, which is too large for the tests' environment.
    torch = """
import threading
class Modes(threading.local): gradients = True
modes = Modes()
def is_grad_enabled(): return modes.gradients
def set_grad_enabled(mode): modes.gradients = mode
"""
    served = serve(
        """
        import torch
        def init(): torch.set_grad_enabled(False)
        def run(data): return torch.is_grad_enabled()
        """,
        files={"torch.py": torch},
    )
    assert json.loads(served.score(1).body) is False


def test_requests_that_are_inside_together_share_no_loop(serve):
    served = serve(
        """
        import asyncio, threading
        from modelport_scoring import concurrent
        def init(): pass
        together = threading.Barrier(4)
        async def work():
            together.wait()
            return "done"
        @concurrent(4)
        def run(data):
            try:
                loop = asyncio.get_event_loop()
            except RuntimeError:
                loop = asyncio.new_event_loop()
            return loop.run_until_complete(work())
        """
    )
    with ThreadPoolExecutor(4) as clients:
        assert [json.loads(each.body) for each in clients.map(served.score, range(4))] == ["done"] * 4, served.log
