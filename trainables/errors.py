"""Errors a user can mend.  The message names the file, key or snapshot, what is wrong there, and the remedy."""


class InputError(ValueError):
    """Something the user gave cannot be used as it is; the message is one line and says what to do."""


class DatasetError(InputError):
    """A dataset, or a file to import into one, is missing, incomplete, damaged or of another kind."""
