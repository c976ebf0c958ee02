"""What every room raises for people: one clear sentence, no traceback."""


class HallmarkError(Exception):
    """Something that a person can put right; the message says what, where, and what would be right."""
