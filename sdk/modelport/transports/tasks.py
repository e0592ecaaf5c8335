"""Many transfers at once: as long as one fails, the others that had not begun are not begun."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

_AT_ONCE = 16


def task(run: Callable[..., None], *values: object) -> Callable[[], None]:
    """A call that is still to be made."""
    return lambda: run(*values)


def all_done(tasks: Iterable[Callable[[], None]]) -> None:
    """
    Run tasks in threads, and wait for them.

    Raises:
        errors.ModelportError: What the first that failed raised; those that had not begun are not begun.
    """
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="modelport-transfer") as pool:
        futures = [pool.submit(each) for each in tasks]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    failed = [each for each in futures if not each.cancelled() and each.exception()]
    if failed:
        failed[0].result()
