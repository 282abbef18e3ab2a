"""What a package logs while a test runs, at the level that users have."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import BufferingHandler


@contextmanager
def log_records(package: str) -> Iterator[list[logging.LogRecord]]:
    """The records that reach the handlers of a package's logger."""
    handler, logger = BufferingHandler(10_000), logging.getLogger(package)
    logger.addHandler(handler)
    try:
        yield handler.buffer
    finally:
        logger.removeHandler(handler)
