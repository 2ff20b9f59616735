"""Ctrl-C and SIGTERM.

A stage dies of them at once, wherever it is: what it leaves is what `kill -9` leaves, and the next `dvc repro` goes on
from there. As an exception an interrupt would be lost in callbacks of the interpreter's, and in libraries as they load.
Only a block in which there is something to end has a handler.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def handled(handler: Callable[[int, Any], Any] | signal.Handlers, *numbers: signal.Signals) -> Iterator[None]:
    """Inside the block `handler` gets these signals, as `signal.signal` has it.

    They reach a main thread alone; in another nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
