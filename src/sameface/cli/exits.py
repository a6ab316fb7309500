"""Exit codes of the command line."""

__all__ = ["DONE", "NOTHING", "PARTLY", "STOPPED", "USAGE", "exit_code"]

DONE, NOTHING, USAGE, PARTLY, STOPPED = 0, 1, 2, 3, 130


def exit_code(worked: bool, complete: bool) -> int:
    """Of a run that could use some of what it was given (`worked`), or all of it (`complete`)."""
    return NOTHING if not worked else DONE if complete else PARTLY
