"""What can go wrong, in one tree.

SameFaceError
├── BadPhoto        the file or array is not a photo we can use (broken, too large, NaN, wrong shape)
├── NoFaceFound     a good photo without a usable face
├── AssetMissing    a weights or model file is not there, or is not what its name says
├── BadModel        a morphable model file that does not hold what its format promises
├── BadData         a data set or results folder that does not have the layout its reader expects
├── BadOutput       the results cannot be written (read-only folder, full disk)
└── TrainingFailed  a run that cannot go on (non-finite loss, settings that differ from the folder's)

Every message says what was given, what was expected and what to do. Errors of the *caller's code* (a wrong shape,
an unknown name) are ValueError and TypeError.
"""


def compared(value: float, limit: float, digits: int = 2) -> tuple[str, str]:
    """Two numbers for a message, with as many more digits as show which of them is larger.

    >>> compared(0.5987, 0.6), compared(0.2, 0.6)
    (('0.599', '0.600'), ('0.20', '0.60'))
    """
    while digits < 9 and value != limit and f"{value:.{digits}f}" == f"{limit:.{digits}f}":
        digits += 1
    return f"{value:.{digits}f}", f"{limit:.{digits}f}"


def in_one_line(error: BaseException) -> str:
    """What an error of the system or of a library says."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


class SameFaceError(Exception):
    """Base of every error that a user of sameface can cause and mend."""


class BadPhoto(SameFaceError):
    """The file or array is not a photo we can use."""


class NoFaceFound(SameFaceError):
    """The photo was read, but no face in it can be used."""


class AssetMissing(SameFaceError):
    """A weights or model file is absent, or is not what it claims to be."""


class BadModel(SameFaceError):
    """A morphable model file does not hold what its format promises."""


class BadData(SameFaceError):
    """A data set folder does not have the layout its reader expects."""


class BadOutput(SameFaceError):
    """The results cannot be written where they were asked for."""


class TrainingFailed(SameFaceError):
    """A training run cannot go on."""
