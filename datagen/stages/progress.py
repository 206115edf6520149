"""One log line at most every ten seconds."""

import logging
import time

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0


class Progress:
    """Counts finished units and says how far a stage is."""

    def __init__(self, stage: str, noun: str, total: int, *, done_before: int = 0) -> None:
        self.stage, self.noun, self.total = stage, noun, total
        self.done = self.failed = 0
        self.started = self.last = time.monotonic()
        if done_before and total:
            logger.info(
                f"{stage}: going on, {done_before} of {done_before + total} {noun} are there"
            )

    def advance(self, units: int, failed: int = 0) -> None:
        self.done += units
        self.failed += failed
        now = time.monotonic()
        if now - self.last < INTERVAL_S:
            return
        self.last = now
        rate = self.done / (now - self.started)
        left = duration((self.total - self.done) / rate)
        logger.info(
            f"{self.stage}: {self.done} of {self.total} {self.noun}, "
            f"{rate:.3g} {self.noun}/s, {left} left, {self.failed} failed"
        )


def duration(seconds: float) -> str:
    """Return a duration in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
