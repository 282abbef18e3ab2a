"""Why a study cannot go on."""

from signal import SIGINT

from ...trainables.errors import InputError


class StudyError(InputError):
    """A study cannot be started, or came to nothing."""


class StudyInterrupted(StudyError):
    """The user stopped the study; it can go on.

    Args:
        message: how.
        number: of the signal that stopped it; that of Ctrl-C, too, where somebody asked for it elsewhere.
    """

    def __init__(self, message: str, number: int = SIGINT) -> None:
        super().__init__(message)
        self.number = number


class SearchStopped(StudyError):
    """The method or Ray Tune could not go on."""
