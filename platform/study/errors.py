"""Why a study cannot go on."""

from ...trainables.errors import InputError


class StudyError(InputError):
    """A study cannot be started, or came to nothing."""


class StudyInterrupted(StudyError):
    """The user stopped the study; it can go on."""


class SearchStopped(StudyError):
    """The method or Ray Tune could not go on."""
