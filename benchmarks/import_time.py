"""`from modelport import MLClient` against azure-ai-ml's, as whole processes."""

from __future__ import annotations

import sys

import peers

OURS = "from modelport import MLClient"
OURS_WHOLE = "from modelport import MLClient; from modelport.entities import *"
THEIRS = "from azure.ai.ml import MLClient"


def main() -> int:
    with peers.environment(str(peers.ROOT)) as ours, peers.environment(peers.AZURE) as theirs:
        found = peers.alternating(
            11,
            python=lambda: peers.seconds([str(ours), "-c", "pass"]),
            ours=lambda: peers.seconds([str(ours), "-c", OURS]),
            ours_whole=lambda: peers.seconds([str(ours), "-c", OURS_WHOLE]),
            theirs=lambda: peers.seconds([str(theirs), "-c", THEIRS]),
        )
    for name, value in found.items():
        print(f"{name:>12}: {value * 1000:8.1f} ms")
    holds = peers.verdict("import MLClient, of azure-ai-ml's", found["ours"] / found["theirs"], 0.1)
    holds &= peers.verdict("… with every entity", found["ours_whole"] / found["theirs"], 0.1)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
