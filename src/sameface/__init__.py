"""Photos of a person in, that person's 3D face out.

>>> import sameface
>>> answer = sameface.reconstruct("anna-1.jpg", "anna-2.jpg")  # doctest: +SKIP
>>> answer.save("anna.glb")  # doctest: +SKIP

Everything else is a room away: `sameface.morphable`, `sameface.metrics`, `sameface.reconstruction.fit` … Names are
loaded when they are first used, so that `import sameface` costs a millisecond.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sameface.core.errors import SameFaceError as SameFaceError
    from sameface.morphable import MorphableModel as MorphableModel
    from sameface.morphable import default as default_model
    from sameface.photo.face import Photo as Photo
    from sameface.photo.image import read as read
    from sameface.reconstruction.reconstruct import look as look
    from sameface.reconstruction.reconstruct import reconstruct as reconstruct
    from sameface.reconstruction.reconstruct import shape_distance as shape_distance
    from sameface.reconstruction.result import Reconstruction as Reconstruction
    from sameface.search.index import Index as Index

__version__ = "0.1.0"

_WHERE = {
    "Index": ("search.index", "Index"),
    "MorphableModel": ("morphable", "MorphableModel"),
    "Photo": ("photo.face", "Photo"),
    "Reconstruction": ("reconstruction.result", "Reconstruction"),
    "SameFaceError": ("core.errors", "SameFaceError"),
    "default_model": ("morphable", "default"),
    "look": ("reconstruction.reconstruct", "look"),
    "read": ("photo.image", "read"),
    "reconstruct": ("reconstruction.reconstruct", "reconstruct"),
    "shape_distance": ("reconstruction.reconstruct", "shape_distance"),
}

__all__ = [
    "Index", "MorphableModel", "Photo", "Reconstruction", "SameFaceError", "default_model", "look", "read",
    "reconstruct", "shape_distance",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"sameface has no {name!r}; it has {', '.join(_WHERE)}")
    module, attribute = _WHERE[name]
    return getattr(import_module(f"sameface.{module}"), attribute)


def __dir__() -> list[str]:
    return [*_WHERE, "__version__"]
