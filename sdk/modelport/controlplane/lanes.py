"""
Jobs one after another where their order matters, beside each other where it does not.

Each lane is a queue with a thread of its own while there is something in it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Lanes:
    """Named queues of jobs."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Callable[[], object]]] = {}
        self._changed = threading.Condition()

    def put(self, lane: str, job: Callable[[], object]) -> None:
        """Run `job` after those that are in the lane already."""
        with self._changed:
            queue = self._queues.get(lane)
            if queue is not None:
                queue.append(job)
                return
            self._queues[lane] = deque([job])
        threading.Thread(target=self._drive, args=(lane,), name=f"modelport-{lane}", daemon=True).start()

    def wait_until_empty(self, seconds: float) -> bool:
        """Whether everything had been done before the time was up."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queues, seconds)

    def _drive(self, lane: str) -> None:
        while True:
            with self._changed:
                queue = self._queues[lane]
                if not queue:
                    del self._queues[lane]
                    self._changed.notify_all()
                    return
                job = queue.popleft()
            try:
                job()
            except Exception:
                logger.exception("A job of lane %s raised", lane)
