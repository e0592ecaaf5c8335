"""A very small model of a language: it says one word after the other, and each is sent when it is there."""

import asyncio
from collections import Counter, defaultdict
from itertools import pairwise

from modelport_scoring import Event

TEXT = """
the tide comes in and the tide goes out . the boat waits for the tide and the gull waits for the boat .
the boat goes out with the tide and comes in with the fish .
"""


class UnknownWordError(Exception):
    status_code = 404


async def init():
    global following
    following = defaultdict(Counter)
    for word, after in pairwise(TEXT.split()):
        following[word][after] += 1


async def run(prompt: dict):
    word = prompt["word"]
    if word not in following:
        raise UnknownWordError(f"No sentence has {word!r} in it.")
    said = 0
    try:
        while word != "." or prompt.get("forever"):
            yield Event({"word": word}, id=str(said))
            said += 1
            await asyncio.sleep(0.02)  # what a larger model would take
            after = following[word].most_common()
            word = after[said % len(after)][0]
    finally:  # also when the client has gone
        print(f"said {said} words, forever: {prompt.get('forever', False)}")
