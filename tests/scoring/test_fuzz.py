"""A slice of the fuzz; `python -m tests.scoring.fuzz` sends the whole of it."""

from __future__ import annotations

import pytest
from tests.scoring import fuzz

SLICE = 400
"""Inputs to each server; the same ones in every run."""


@pytest.mark.parametrize("name", [name for name in fuzz.SCRIPTS if name != "schema"])
def test_whatever_is_sent_is_answered_or_closed_and_nothing_breaks(name):
    with fuzz.started(name) as target:
        fuzz.fuzz(target, SLICE, derandomize=True)
        assert target.sent >= SLICE // 2  # the same input is not sent twice


def test_whatever_is_sent_to_a_script_with_a_schema_is_answered_or_closed_and_nothing_breaks(schema_python):
    with fuzz.started("schema", schema_python) as target:
        fuzz.fuzz(target, SLICE, derandomize=True)
        assert target.sent >= SLICE // 2


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("def init(): pass\ndef run(raw): return {'saw': raw[1:]}", "run\\(\\) did not see what was sent"),
        ("def init(): pass\ndef run(raw): 1 / 0", "500 was answered"),
        ("import os\ndef init(): pass\ndef run(raw): os._exit(9)", "answered with nothing|ended with status 9"),
        ("def init(): pass\ndef run(raw): return 'Traceback (most'", "A traceback was answered"),
        ("import time\ndef init(): pass\ndef run(raw): time.sleep(60)", "No answer within"),
    ],
)
def test_the_fuzz_sees_faults(monkeypatch, script, fault):
    monkeypatch.setitem(fuzz.SCRIPTS, "undecorated", script)
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 2)
    sent = fuzz.Sent(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", sound=True, body=b"ab")
    with fuzz.started("undecorated") as target, pytest.raises(fuzz.FaultError, match=fault):
        target.send(sent)
