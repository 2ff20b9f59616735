"""Requests to a store: a server that does not answer costs seconds, whatever it does instead, and Ctrl-C no harm."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aebench.interrupts import handled

TIMEOUT = 12.0  # seconds for one answer; requests are given up before, unless a server answers drop by drop
SHORT_TIMEOUT = 3.0  # for what is asked of a store that may have fallen silent just now


class StoreTimeout(BaseException):
    """The store is silent; no `except Exception` on the way up takes it for an answer."""


class _Pending:
    """The interrupt that came in a block of `deferred_interrupts`, and whether one is raised as it comes."""

    number: int | None = None
    at_once = False


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM are raised by a `TimeoutProxy` alone, and at the block's end.

    Raised wherever they come, they would leave a transaction open, and with it a database locked.
    """

    def defer(number: int, _: object) -> None:
        _Pending.number = _Pending.number or number
        if _Pending.at_once:
            raise KeyboardInterrupt

    try:
        with handled(defer, signal.SIGINT, signal.SIGTERM):
            yield
    finally:
        pending, _Pending.number = _Pending.number, None
        if pending:
            signal.raise_signal(pending)


class TimeoutProxy:
    """An object whose methods end within `seconds`, or raise `StoreTimeout`; a deferred interrupt is raised before.

    Waiting is broken off by a signal, which only a main thread receives: elsewhere the limits are those of the object.

    Args:
        of: the object.
        seconds: None waits until a method ends by itself, also when an interrupt comes: a database's transaction.
        interruptible: whether it raises interrupts.
    """

    def __init__(self, of: Any, seconds: float | None = TIMEOUT, *, interruptible: bool = True) -> None:
        self._of = of
        self._seconds = seconds
        self._interruptible = interruptible

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._of, name)
        if threading.current_thread() is not threading.main_thread():
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            if self._interruptible and _Pending.number:
                raise KeyboardInterrupt
            if self._seconds is None:
                return method(*arguments, **named)

            def give_up(*_: object) -> None:
                raise StoreTimeout(f"no answer within {self._seconds:g} seconds")

            before = signal.signal(signal.SIGALRM, give_up)
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
            _Pending.at_once = self._interruptible
            try:
                return method(*arguments, **named)
            finally:
                _Pending.at_once = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        return call

    def with_short_timeout(self) -> "TimeoutProxy":
        """The same object, for what is left to do after an interrupt or a silence: another silence costs little."""
        return TimeoutProxy(self._of, self._seconds and SHORT_TIMEOUT, interruptible=False)
