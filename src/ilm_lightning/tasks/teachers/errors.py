"""What can go wrong with a teacher, for the user."""


class TeacherError(ValueError):
    """A teacher that cannot go on; the message says why, what is kept, and what to do."""
