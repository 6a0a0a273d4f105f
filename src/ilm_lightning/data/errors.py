"""What can be wrong with a user's data."""


class DataError(ValueError):
    """A data file or table that cannot be used; the message names the file, the column and what to do."""


class UnknownItemError(DataError):
    """A mention that names no item of the catalogue; the message lists the nearest titles."""


class LeakError(DataError):
    """A text of a validation or test item that was about to enter training."""
