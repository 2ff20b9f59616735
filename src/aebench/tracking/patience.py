"""Requests to a store: a server that does not answer costs seconds, whatever it does instead, and Ctrl-C no harm."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aebench.interrupts import handled

PATIENCE = 12.0  # seconds for one answer; requests are given up before, unless a server answers drop by drop
HURRY = 3.0  # for what is asked of a store that may have fallen silent just now


class NoAnswer(BaseException):
    """The store is silent; no `except Exception` on the way up takes it for an answer."""


class _Heard:
    """The interrupt that came in a block of `interruptible_by_requests`, and whether one is raised as it comes."""

    number: int | None = None
    at_once = False


@contextmanager
def interruptible_by_requests() -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM are heard by a `Patient` alone, and at the block's end.

    Raised wherever they come, they would leave a transaction open, and with it a database locked.
    """

    def hear(number: int, _: object) -> None:
        _Heard.number = _Heard.number or number
        if _Heard.at_once:
            raise KeyboardInterrupt

    try:
        with handled(hear, signal.SIGINT, signal.SIGTERM):
            yield
    finally:
        heard, _Heard.number = _Heard.number, None
        if heard:
            signal.raise_signal(heard)


class Patient:
    """An object whose methods end within `seconds`, or raise `NoAnswer`; an interrupt that was heard is raised before.

    Waiting is broken off by a signal, which only a main thread receives: elsewhere the limits are those of the object.

    Args:
        of: the object.
        seconds: None waits until a method ends by itself, also when an interrupt comes: a database's transaction.
        heedful: whether interrupts are heard.
    """

    def __init__(self, of: Any, seconds: float | None = PATIENCE, *, heedful: bool = True) -> None:
        self._of = of
        self._seconds = seconds
        self._heedful = heedful

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._of, name)
        if threading.current_thread() is not threading.main_thread():
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            if self._heedful and _Heard.number:
                raise KeyboardInterrupt
            if self._seconds is None:
                return method(*arguments, **named)

            def give_up(*_: object) -> None:
                raise NoAnswer(f"no answer within {self._seconds:g} seconds")

            before = signal.signal(signal.SIGALRM, give_up)
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
            _Heard.at_once = self._heedful
            try:
                return method(*arguments, **named)
            finally:
                _Heard.at_once = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        return call

    def in_a_hurry(self) -> "Patient":
        """The same object, for what is left to do after an interrupt or a silence: another silence costs little."""
        return Patient(self._of, self._seconds and HURRY, heedful=False)
