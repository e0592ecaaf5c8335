"""
Make a dim picture, and learn from it how to brighten such pictures: picture.pgm and models/curve.bin.

The model is a curve: for each of the 256 levels of grey, the level that it becomes.
"""

from collections import Counter
from itertools import accumulate
from pathlib import Path

here = Path(__file__).parent
WIDTH, HEIGHT = 64, 48

# Hills at dusk: nothing is darker than 20, nothing brighter than 90.
pixels = bytes(20 + (x * x // 90 + y * 3 // 4 + (x * y) % 7) % 71 for y in range(HEIGHT) for x in range(WIDTH))
(here / "picture.pgm").write_bytes(b"P5 %d %d 255\n" % (WIDTH, HEIGHT) + pixels)

seen = Counter(pixels)
darker_or_equal = list(accumulate(seen[level] for level in range(256)))
curve = bytes(255 * count // len(pixels) for count in darker_or_equal)
(here / "models").mkdir(exist_ok=True)
(here / "models" / "curve.bin").write_bytes(curve)
