"""Errors whose message is one line fit for a user; the command line prints them without a traceback."""


class HdstError(Exception):
    """What was found, what was wanted and what to do, in one line."""


class DataError(HdstError, ValueError):
    """A file or a value is not what it has to be."""


class MissingError(HdstError, LookupError):
    """A thing that was asked for by name is not there."""


def one_line(error: BaseException) -> str:
    """What to tell a user of an error: its text, or what the system refused and where."""
    if isinstance(error, OSError) and not isinstance(error, HdstError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split())
