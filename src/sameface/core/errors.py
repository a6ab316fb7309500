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
