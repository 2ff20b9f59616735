"""What the clock says on a machine that may have other work as well."""

import time

WORK = 0.2  # seconds of a processor: some hundred slices of a scheduler


def slowdown() -> float:
    """How many seconds pass now while a process gets one of a processor: 1 on a machine that has nothing else to do.

    A promise of seconds is one for such a machine, so a test of it allows so many times as much.
    """
    begun, worked = time.monotonic(), time.process_time()
    while time.process_time() - worked < WORK:
        pass
    return max(1.0, (time.monotonic() - begun) / WORK)
