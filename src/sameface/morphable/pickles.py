"""Reading pickled models without running what is in them.

A pickle is a program: `pickle.load` calls whatever it names. FLAME and 3DDFA are nevertheless published as pickles,
so here every class or function that a file names is first looked up in `ALLOWED`; a name that is not there raises
BadModel. The names that are there are not called either: each becomes a note of its arguments, and plain numpy
arrays, numbers and containers are made from the notes afterwards. scipy matrices become dense arrays and chumpy
arrays become numpy arrays, without scipy or chumpy being imported. torch tensors are not decoded: they come back as
`Unread`.
"""

import io
import math
import pickle
import pickletools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sameface.core import npz
from sameface.core.errors import BadModel
from sameface.core.files import posing, read_bytes

__all__ = ["ALLOWED", "LARGEST_PICKLE", "Unread", "read_npy", "read_object_npz", "read_pickle"]

LARGEST_PICKLE = 500_000_000
"""bytes; a pickle beyond this is refused before it is read (the largest model we know has 60 MB)"""

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUILTINS = ("builtins", "__builtin__")
_SPARSE = [
    (f"scipy.sparse.{prefix}{layout}", f"{layout}_{kind}", layout)
    for prefix in ("", "_")
    for layout in ("csc", "csr", "coo")
    for kind in ("matrix", "array")
]

ALLOWED: dict[tuple[str, str], str] = {
    **{(module, "_reconstruct"): "array" for module in _NUMPY},
    **{(module, "scalar"): "scalar" for module in _NUMPY},
    ("numpy.core.numeric", "_frombuffer"): "buffer",
    ("numpy._core.numeric", "_frombuffer"): "buffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{(module, name): kind for module, name, kind in _SPARSE},
    ("chumpy.ch", "Ch"): "chumpy",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch.storage", "_load_from_bytes"): "tensor",
    ("copyreg", "_reconstructor"): "rebuilt",
    ("copy_reg", "_reconstructor"): "rebuilt",
    ("_codecs", "encode"): "encoded",
    ("collections", "OrderedDict"): "mapping",
    **{(module, "set"): "set" for module in _BUILTINS},
    **{(module, "frozenset"): "set" for module in _BUILTINS},
    **{(module, "bytes"): "bytes" for module in _BUILTINS},
    **{(module, "object"): "object" for module in _BUILTINS},
}
"""(module, name) of everything a pickled model may name, and what we make of it."""

_REFUSED_OPERATIONS = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))
_DTYPE = re.compile(r"[fiuc](1|2|4|8|16)|b1|[SU][1-9]\d{0,4}|O\d*")
_LARGEST_DENSE = 100_000_000


@dataclass(frozen=True)
class Unread:
    """A value that the file holds and we do not decode."""

    kind: str


class _Note:
    """What a pickle asked for, written down instead of done."""

    kind = ""
    args: tuple[Any, ...]
    state: Any
    entries: dict[Any, Any]

    def __new__(cls, *args: Any, **_: Any) -> "_Note":
        note = object.__new__(cls)
        note.args, note.state, note.entries = args, None, {}
        return note

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, source: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        kind = ALLOWED.get((module, name))
        if kind is None:
            raise BadModel(
                f"{self.source} asks for {module}.{name}, which a face model has no use for; nothing was run. "
                "Do not open it with other programs unless you trust who made it"
            )
        return type(f"_Note_{kind}", (_Note,), {"kind": kind})


def read_pickle(path: Path) -> Any:
    """What a pickle file holds, as numpy arrays, numbers, texts and containers; Python 2 files included."""
    return _loads(_bytes_of(Path(path)), str(path))


def read_npy(path: Path) -> Any:
    """What a .npy file holds; a pickled object inside it goes through `read_pickle`'s list, unlike in numpy."""
    return _npy(_bytes_of(Path(path)), str(path))


def read_object_npz(path: Path) -> dict[str, Any]:
    """What an .npz file holds by name; pickled objects (scipy's matrices, numpy saves so) go through the same list."""

    def member(data: bytes) -> Any:
        return _npy(data, str(path))

    return npz.read_npz(path, LARGEST_PICKLE, error=BadModel, decode=member)


def _npy(data: bytes, source: str) -> Any:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = header(file)
        if not dtype.hasobject:
            return npz.array(data)
    except npz.BROKEN as error:
        raise BadModel(f"{source} is not a .npy file ({error}); download it again") from None
    array = _loads(data[file.tell() :], source)
    return array.item() if isinstance(array, np.ndarray) and array.shape == () else array


def _bytes_of(path: Path) -> bytes:
    data = read_bytes(path, LARGEST_PICKLE, BadModel)
    if (instead := posing(data[:600])) is not None:
        raise BadModel(f"{path} is {instead}")
    return data


def _loads(data: bytes, source: str) -> Any:
    data = _with_its_own_lines(data)
    _check_operations(data, source)
    try:
        notes = _Unpickler(data, source).load()
        return _Reader(source).value(notes)
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadModel(
            f"{source} is not a pickle of arrays ({type(error).__name__}: {error}); download it again"
        ) from None
    except (MemoryError, OverflowError, RecursionError) as error:
        raise BadModel(f"{source} asks for more than this machine has ({type(error).__name__}); refused") from None


def _check_operations(data: bytes, source: str) -> None:
    """Refuse, before anything is loaded, operations that reach outside the file or that only exist to fill memory."""
    try:
        with warnings.catch_warnings(action="error", category=DeprecationWarning):  # odd escapes in texts
            for operation, argument in _operations(data):
                if operation.name in _REFUSED_OPERATIONS:
                    raise BadModel(f"{source} uses the pickle operation {operation.name}: not a face model")
                if "PUT" in operation.name and int(argument or 0) > len(data):
                    raise BadModel(f"{source} numbers an object {argument}, more than it has bytes: not a face model")
    except (ValueError, UnicodeDecodeError, DeprecationWarning) as error:
        raise BadModel(f"{source} is not a pickle, or is cut short ({error}); download it again") from None


def _operations(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    """What `pickletools.genops` gives, but that in texts of Python 2 bytes above 0x7f count too: arrays are such texts.

    Raises ValueError for what is no operation, and for a file that ends before its last.
    """
    file, known = io.BytesIO(data), {operation.code: operation for operation in pickletools.opcodes}
    while (code := file.read(1).decode("latin-1")) in known:
        operation, argument = known[code], None
        if operation.name == "STRING":
            if not file.readline().endswith(b"\n"):
                raise ValueError("it ends within a text")
        elif operation.arg is not None:
            argument = operation.arg.reader(file)
        yield operation, argument
        if operation.name == "STOP":
            return
    raise ValueError(f"at byte {file.tell()} there is no pickle operation")


def _with_its_own_lines(data: bytes) -> bytes:
    """A pickle of lines (protocol 0) as it was before something (git, a mail) ended all its lines as Windows does."""
    if data[:1] == b"\x80" or b"\r\n" not in data or data.count(b"\n") != data.count(b"\r\n"):
        return data
    return data.replace(b"\r\n", b"\n")


class _Reader:
    """Turns notes into values; each object once, so that shared and circular references cannot explode."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.done: dict[int, Any] = {}

    def value(self, thing: Any) -> Any:
        if isinstance(thing, _PLAIN):
            return thing
        key = id(thing)
        if key not in self.done:
            self.done[key] = self.done  # marks what is being made
            self.done[key] = self._made(thing)
        if self.done[key] is self.done:
            self._bad("an object that contains itself")
        return self.done[key]

    def _made(self, thing: Any) -> Any:
        if isinstance(thing, dict):
            return {self._key(k): self.value(v) for k, v in thing.items()}
        if isinstance(thing, list | tuple):
            return type(thing)([self.value(v) for v in thing])
        if isinstance(thing, set | frozenset):
            return {self._key(v) for v in thing}
        if isinstance(thing, _Note):
            reader = getattr(self, f"_{thing.kind}", None)
            return reader(thing) if reader else self._bad(f"a bare {thing.kind}")
        return self._bad(f"a {getattr(thing, 'kind', type(thing).__name__)} where a value should be")

    def _key(self, key: Any) -> Any:
        return key if isinstance(key, _PLAIN) else self._bad("a key that is neither a text nor a number")

    def _bad(self, what: str) -> NoReturn:
        raise BadModel(f"{self.source} holds {what}; expected arrays, numbers, texts and containers of them")

    def _dtype(self, note: Any) -> np.dtype:
        if not (isinstance(note, _Note) and note.kind == "dtype" and note.args):
            self._bad("an array without a number type")
        code = str(note.args[0]).lstrip("<>|=")
        if not _DTYPE.fullmatch(code):
            self._bad(f"an array of type {code!r}")
        order = note.state[1] if note.state else "|"
        return np.dtype(object) if code[0] == "O" else np.dtype((order if order in ("<", ">") else "") + code)

    def _filled(self, raw: Any, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
        if any(not isinstance(n, int) or n < 0 for n in shape):
            self._bad(f"an array of shape {shape}")
        if isinstance(raw, _Note):
            raw = self.value(raw)
        if isinstance(raw, str):  # Python 2 had no bytes
            raw = raw.encode("latin1")
        needed = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
        if isinstance(raw, list) is not dtype.hasobject or len(raw) != needed:
            unit = "items" if dtype.hasobject else "bytes"
            self._bad(f"an array of shape {shape} with {len(raw)} instead of {needed} {unit}")
        if dtype.hasobject:
            flat = np.empty(len(raw), object)
            for i, item in enumerate(raw):
                flat[i] = self.value(item)
        else:
            flat = np.frombuffer(raw, dtype).copy() if needed else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")

    def _array(self, note: _Note) -> np.ndarray:
        if not (isinstance(note.state, tuple) and len(note.state) == 5):
            self._bad("an array without content")
        _, shape, dtype, fortran, raw = note.state
        return self._filled(raw, self._dtype(dtype), shape, bool(fortran))

    def _buffer(self, note: _Note) -> np.ndarray:
        raw, dtype, shape, order = note.args
        return self._filled(self.value(raw), self._dtype(dtype), shape, order == "F")

    def _scalar(self, note: _Note) -> Any:
        return self._filled(self.value(note.args[1]), self._dtype(note.args[0]), (1,), False)[0]

    def _encoded(self, note: _Note) -> bytes:
        text, encoding = note.args
        if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
            self._bad(f"bytes written as {encoding!r}")
        return text.encode("latin1")

    def _bytes(self, note: _Note) -> bytes:
        """Old protocols write empty bytes as `bytes()`, and no others so."""
        return b"" if not note.args else self._bad("bytes made from other things")

    def _rebuilt(self, note: _Note) -> Any:
        """Python 2's way to say "an empty object of this class, then its state"."""
        wanted = note.args[0]
        if not (isinstance(wanted, type) and issubclass(wanted, _Note)):
            self._bad("an object of an unknown class")
        inner = wanted()
        inner.state = note.state
        return self._made(inner)

    def _set(self, note: _Note) -> set[Any]:
        return {self._key(v) for v in (note.args[0] if note.args else ())}

    def _mapping(self, note: _Note) -> dict[Any, Any]:
        pairs = dict(note.args[0]) if note.args else {}
        return {self._key(k): self.value(v) for k, v in (pairs | note.entries).items()}

    def _tensor(self, _: _Note) -> Unread:
        return Unread("torch tensor")

    def _chumpy(self, note: _Note) -> np.ndarray:
        """A chumpy array keeps its numbers in `x`; what else it remembers is bookkeeping."""
        if not (isinstance(note.state, dict) and "x" in note.state):
            self._bad("a chumpy array without x")
        return np.asarray(self.value(note.state["x"]))

    def _sparse(self, note: _Note) -> tuple[dict[str, Any], tuple[int, int]]:
        state = self.value(note.state)
        shape = state.get("_shape", state.get("shape")) if isinstance(state, dict) else None
        if not (isinstance(shape, tuple) and len(shape) == 2 and 0 < shape[0] * shape[1] <= _LARGEST_DENSE):
            self._bad(f"a sparse matrix of shape {shape}")
        return state, shape

    def _compressed(self, note: _Note, axis: int) -> np.ndarray:
        state, shape = self._sparse(note)
        dense = np.zeros(shape, state["data"].dtype)
        outer = np.repeat(np.arange(shape[axis]), np.diff(state["indptr"]))
        where = (state["indices"], outer) if axis else (outer, state["indices"])
        np.add.at(dense, where, state["data"])
        return dense

    def _csc(self, note: _Note) -> np.ndarray:
        return self._compressed(note, axis=1)

    def _csr(self, note: _Note) -> np.ndarray:
        return self._compressed(note, axis=0)

    def _coo(self, note: _Note) -> np.ndarray:
        state, shape = self._sparse(note)
        dense = np.zeros(shape, state["data"].dtype)
        np.add.at(dense, state["coords"] if "coords" in state else (state["row"], state["col"]), state["data"])
        return dense
