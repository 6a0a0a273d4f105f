"""Item-Language Model: item vectors as soft tokens of a language model."""

import sys
from types import TracebackType

__version__ = "0.1.0"


def _without_trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell Ctrl-C on one line; Python then ends the process by SIGINT, status 130 to a shell."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
    else:
        sys.__excepthook__(kind, error, trace)


# Python's sign that one of this package's commands is being started. Here, since Ctrl-C may come while it is imported;
# commands that have more to say of an interruption catch it themselves
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _without_trace
