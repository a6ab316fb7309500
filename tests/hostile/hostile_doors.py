"""Hostile inputs for every door of sameface: each `Case` is one command in a folder of its own."""

import io
import json
import os
import struct
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from hostile_inputs import Case, Plant, archives, jpeg, png, put, variants

import more_morphable_files
import morphable_files
from faces import astronaut, encoded, scenery

__all__ = ["DOORS", "Case", "cases"]


def photos(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Every kind of photo, damaged; a good photo beside them must come out."""
    small = np.ascontiguousarray(scenery(96, 80))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        folder, ending = work / f"photos-{kind}", kind.lower()
        found = variants(encoded(small, kind), rng)
        for name, what in found.items():
            put(folder / "photos" / f"{name}.{ending}", what)
        put(folder / "photos" / "good.png", encoded(astronaut()))
        count = len(found) + 1 - ("folder" in found)
        yield Case(
            "photos",
            folder.name,
            ["reconstruct", "photos", "--each", "--write", "npz", "--out", "out"],
            count,
            count,
            1,
        )
    folder = work / "photos-claims"
    claims = {f"{k}.png": png(*size) for k, size in enumerate([(60_000, 60_000), (1 << 31, 1), (0, 5), (5, 1 << 30)])}
    claims |= {f"{k}.jpg": jpeg(*size) for k, size in enumerate([(65_535, 65_535), (65_535, 1), (0, 0)])}
    claims["video.jpg"] = b"\0\0\0\x18ftypmp42" + bytes(100)
    claims["svg.png"], claims["page.jpg"] = b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>" * 50
    claims["heic.jpg"] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + struct.pack(">I", 1 << 31) + b"meta" + bytes(60)
    for name, data in claims.items():
        put(folder / name, data)
    put(folder / "good.png", encoded(astronaut()))
    given = [*sorted(claims), "good.png"]
    yield Case(
        "photos",
        folder.name,
        ["reconstruct", *given, "--each", "--write", "npz", "--out", "out"],
        len(given),
        len(given),
        1,
    )
    folder = work / "photos-names"
    names = [
        b"\xff\xfe.png",
        b"a\nb.png",
        b"\x1b[2J.png",
        b"-x.png",
        b"a" * 250 + b".png",
        "ü ñ 漢.png".encode(),
        b"%s%n.png",
        b" .png",
    ]
    for name in names:
        put(folder / "photos" / os.fsdecode(name), encoded(scenery(40, 40)))
    put(folder / "photos" / os.fsdecode(b"good\xff.png"), encoded(astronaut()))
    count = len(names) + 1
    yield Case(
        "photos", folder.name, ["reconstruct", "photos", "--each", "--write", "npz", "--out", "out"], count, count, 1
    )
    for name, given in {
        "refused": [f"none-{k}.jpg" for k in range(2000)], "null": ["a\0b.jpg"], "long": ["a" * 5000 + ".jpg"],
        "address": ["https://example.org/a.jpg"], "empty": [""], "data": ["data:image/png;base64,AAAA"],
    }.items():  # fmt: skip
        folder = work / f"photos-{name}"
        folder.mkdir(parents=True)
        yield Case("photos", folder.name, ["reconstruct", *given, "--out", "out"], len(given), len(given))


def videos(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Clips of a few tiny frames, damaged."""
    import clips

    (work / "videos").mkdir(parents=True)
    for ending in ("mp4", "avi", "mkv", "ts"):
        clip = clips.written(work / "videos" / f"clip.{ending}", [scenery(64, 48)] * 4)
        for name, what in variants(clip.read_bytes(), rng, 2).items():
            folder = work / f"videos-{ending}-{name}"
            put(folder / f"clip.{ending}", what)
            yield Case("videos", folder.name, ["reconstruct", f"clip.{ending}", "--out", "out"])


RESULT: dict[str, Any] = {
    "nan": ("disagreement_mm", float("nan")), "infinite": ("disagreement_mm", float("inf")),
    "huge": ("disagreement_mm", 10**400), "text": ("disagreement_mm", "1e400"), "list": ("disagreement_mm", [[1]]),
    "views": ("views", 7), "no-views": ("views", []), "predictor": ("predictor", {"a": 1}), "model": ("model", None),
    "identity": ("identity", [[1.0]]), "identities": ("identity", [1e400] * 80), "texts": ("identity", ["a"] * 80),
    "version": ("version", True), "format": ("format", []),
}  # fmt: skip
"""values of a result.json that cannot be"""


def sides(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """What `verify` compares: results, arrays, meshes."""
    from sameface import reconstruct
    from sameface.mesh.write import write_obj, write_ply

    source = work / "sides"
    source.mkdir(parents=True)
    answer = reconstruct(encoded(astronaut()))
    answer.save(source / "result.json"), answer.save(source / "face.npz")
    mesh = morphable_files.small_face()
    write_obj(source / "mesh.obj", mesh.vertices, mesh.faces), write_ply(source / "mesh.ply", mesh.vertices, mesh.faces)
    points = ", ".join(f"{x} {y} {z}" for x, y, z in mesh.vertices.round(2))
    corners = ", ".join(f"{a}, {b}, {c}, -1" for a, b, c in mesh.faces)
    (source / "mesh.wrl").write_text(f"#VRML V2.0 utf8\npoint [ {points} ] coordIndex [ {corners} ]")
    found: dict[str, bytes | Plant] = {}
    for name in ("result.json", "face.npz", "mesh.obj", "mesh.ply", "mesh.wrl"):
        stem, _, ending = name.partition(".")
        found |= {f"{stem}-{kind}.{ending}": what for kind, what in variants((source / name).read_bytes(), rng).items()}
    told = json.loads((source / "result.json").read_text())
    found |= {f"value-{k}.json": json.dumps(told | {field: value}).encode() for k, (field, value) in RESULT.items()}
    found |= {f"archive-{name}.npz": data for name, data in archives().items()}
    head = b"ply\nformat ascii 1.0\nelement vertex %d\nproperty float x\nproperty float y\nproperty float z\n"
    found |= {
        "deep.json": b"[" * 200_000, "deep.wrl": b"#VRML V2.0 utf8\n" + b"{" * 300_000,
        "open.wrl": b"point [" * 100_000, "comments.wrl": b"#VRML V2.0 utf8\n" + b"# [ point\n" * 50_000,
        "many.ply": head % 4_000_000_000 + b"end_header\n", "negative.ply": head % -5 + b"end_header\n",
        "lists.ply": head % 1 + b"element face 4000000\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n",
        "long-list.ply": head.replace(b"ascii", b"binary_little_endian") % 0
        + b"element face 1\nproperty list uint int vertex_indices\nend_header\n\xff\xff\xff\x7f",
        "endless.obj": b"f " + b"1 " * 2_000_000, "index.obj": b"v 0 0 0\nf 1 2 99999999999999999999\n",
        "nan.obj": b"v nan 0 0\nv 1 inf 0\nv 1 1 1\nf 1 2 3\n",
    }  # fmt: skip
    good = (source / "result.json").read_bytes()
    for name, what in found.items():
        folder = work / f"sides-{name}"
        put(folder / "good" / "result.json", good)
        put(folder / name, what)
        yield Case("verify", folder.name, ["verify", "good", name, "--out", "out.json"])


def models(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Morphable models of every format."""
    import h5py

    from sameface import morphable

    source = work / "models"
    writers = {
        "flame": morphable_files.write_flame, "gnm": morphable_files.write_gnm,
        "bfm2017": morphable_files.write_bfm2017, "bfm2009": morphable_files.write_bfm2009_small,
        "tddfa": morphable_files.write_tddfa_v2, "flame-npz": more_morphable_files.write_flame_npz,
        "deep3d": more_morphable_files.write_deep3d, "tddfa-v3": more_morphable_files.write_tddfa_v3,
        "face3d": more_morphable_files.write_face3d, "gnm-web": more_morphable_files.write_gnm_web,
    }  # fmt: skip
    files: dict[str, Path] = {}
    for name, write in writers.items():
        (source / name).mkdir(parents=True)
        files[name] = write(source / name).path
    files["ours"] = source / "ours" / "model.npz"
    files["ours"].parent.mkdir()
    morphable.default().save(files["ours"])
    for name, file in files.items():
        beside = {one: one.read_bytes() for one in file.parent.iterdir() if one.is_file() and one != file}
        for kind, what in variants(file.read_bytes(), rng).items():
            folder = work / f"models-{name}-{kind}"
            for one, data in beside.items():
                put(folder / one.name, data)
            put(folder / file.name, what)
            yield Case("model", folder.name, ["model", "convert", file.name, "out.npz"])
    odd: dict[str, bytes] = {f"archive-{kind}.npz": data for kind, data in archives("header.npy").items()}
    for kind, target in {"link": "x", "outside": "/etc/hostname"}.items():
        with h5py.File(source / f"{kind}.h5", "w") as file:
            file["shapeMU"] = h5py.ExternalLink(target, "/x")
        odd[f"{kind}.h5"] = (source / f"{kind}.h5").read_bytes()
    with h5py.File(source / "external.h5", "w") as file:
        file.create_dataset("shapeMU", (16,), "u1", external=[("/etc/hostname", 0, 16)])
    with h5py.File(source / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((16,), "u1")
        layout[:] = h5py.VirtualSource("other.h5", "x", (16,))
        file.create_virtual_dataset("shapeMU", layout)
    with h5py.File(source / "huge.h5", "w") as file:
        file.create_dataset("shapeMU", (1 << 45,), "f8", chunks=(1024,))
    with h5py.File(source / "round.h5", "w") as file:
        file["a/b"] = np.ones(3)
        file["a/c"] = file["a"]
    odd |= {f"{k}.h5": (source / f"{k}.h5").read_bytes() for k in ("external", "virtual", "huge", "round")}
    odd["code.pkl"] = b"cos\nsystem\n(S'touch OWNED'\ntR."
    odd["memory.pkl"] = b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62)
    odd["deep.pkl"] = b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    for name, data in odd.items():
        folder = work / f"models-{name}"
        put(folder / name, data)
        yield Case("model", folder.name, ["model", "show", name])


def lists(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Lists of photos for `bulk`, and folders of people."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {"path": [f"p/{k}.jpg" for k in range(20)], "person": [f"p{k // 3}" for k in range(20)]}
    table = io.BytesIO()
    pq.write_table(pa.table(rows), table)
    text = "path,person\n" + "".join(f"{a},{b}\n" for a, b in zip(*rows.values(), strict=True))
    found: dict[str, bytes | Plant] = {}
    for ending, data in (("parquet", table.getvalue()), ("csv", text.encode())):
        found |= {f"list-{kind}.{ending}": what for kind, what in variants(data, rng).items()}
    found |= {
        "quotes.csv": b'path\n"' + b"a" * 100_000, "columns.csv": b"path," * 5000 + b"\n",
        "nulls.csv": b"path\n\0\n\0\n", "deep.csv": b"path\n" + b"../" * 3000 + b"x\n", "wide.csv": b"path\na,b\n",
        "device.csv": b"path\n/dev/zero\n/dev/stdin\n", "twice.csv": b"path,path\na,b\n",
        "utf16.csv": "path\na\n".encode("utf-16"), "line.csv": b"x" * 200_000,
    }  # fmt: skip
    for name, what in found.items():
        folder = work / f"lists-{name}"
        put(folder / name, what)
        yield Case("bulk", folder.name, ["bulk", name, "--out", "out", "--workers", "0", "--quiet"])
    folder = work / "lists-people"
    for name, what in variants(encoded(scenery(40, 40)), rng, 2).items():
        put(folder / "people" / name / "a.png", what)
    put(folder / "people" / "good" / os.fsdecode(b"\xff.png"), encoded(astronaut()))
    count = len(variants(b"x", rng, 2)) + 1
    yield Case("bulk", folder.name, ["bulk", "people", "--out", "out", "--workers", "0", "--quiet"], count, count, 1)


def networks(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """Networks: damaged, of other shapes, with weights elsewhere, with descriptions that cannot be."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def network(about: Any, elsewhere: str = "", outputs: int = 1) -> bytes:
        weight = numpy_helper.from_array(np.zeros((1,), np.float32), "w")
        if elsewhere:
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            entry = weight.external_data.add()
            entry.key, entry.value = "location", elsewhere
        nodes = [helper.make_node("Add", ["images", "w"], [f"landmarks{k or ''}"]) for k in range(outputs)]
        kind = ["n", 3, 160, 160]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("images", 1, kind)],
            [helper.make_tensor_value_info(f"landmarks{k or ''}", 1, kind) for k in range(outputs)], [weight],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        if about is not None:
            helper.set_model_props(model, {"sameface": about if isinstance(about, str) else json.dumps(about)})
        return model.SerializeToString()

    told = {
        "method": "x", "version": "1", "crop": {"size": 160}, "morphable": "sameface-ict",
        "point_ids": [468, 473, 4, 61, 291],
    }  # fmt: skip
    found: dict[str, bytes | Plant] = dict(variants(network(told), rng))
    found |= {
        f"elsewhere-{k}": network(told, place) for k, place in enumerate(["/etc/hostname", "../x", "weights.bin"])
    }
    for k, change in enumerate([
        {"point_ids": [1, 2]}, {"point_ids": "all"}, {"point_ids": [468, 473, 4, 61, 291, 10**9]}, {"point_ids": [[1]]},
        {"crop": 5}, {"crop": {"size": 10**9}}, {"crop": {"size": "x"}}, {"version": 3}, {"morphable": "other"},
        {"method": None}, {"point_offsets_mm": [1]}, {"views": ["a"]},
        {"point_errors_mm": [[[1, 2, 3]]]}, {"point_errors_mm": "all"}, {},
    ]):  # fmt: skip
        found[f"about-{k}"] = network(told | change)
    found |= {"no-about": network(None), "text": network("{"), "list": network([]), "deep": network("[" * 100_000)}
    del onnx
    photo = encoded(astronaut())
    for name, what in found.items():
        folder = work / f"networks-{name}"
        put(folder / "net.onnx", what)
        put(folder / "good.png", photo)
        yield Case("networks", folder.name, ["reconstruct", "good.png", "--predictor", "net.onnx", "--out", "out"])


def people(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """What `synth` is asked for and given."""
    few = ["--views", "1", "--size", "32", "--workers", "0", "--quiet"]
    for name, more in {
        "many": ["--persons", "999999999999"], "views": ["--views", "100000000"], "size": ["--size", "999999"],
        "seed": ["--seed", "-1"], "none": ["--persons", "0"], "model": ["--model", "none.npz"],
    }.items():  # fmt: skip
        folder = work / f"synth-{name}"
        folder.mkdir(parents=True)
        yield Case("synth", folder.name, ["synth", "--out", "out", *few, *more])
    for name, what in variants(encoded(scenery(40, 40)), rng, 1).items():
        folder = work / f"synth-behind-{name}"
        put(folder / "behind" / "a.png", what)
        yield Case("synth", folder.name, ["synth", "--out", "out", "--persons", "1", *few, "--backgrounds", "behind"])


def in_(module: str, name: str) -> Callable[[Path, np.random.Generator], Iterator[Case]]:
    """Cases that need what takes long to import, from a file that is read only for them."""
    return lambda work, rng: getattr(import_module(module), name)(work, rng)


DOORS: dict[str, Callable[[Path, np.random.Generator], Iterator[Case]]] = {
    "photos": photos, "videos": videos, "verify": sides, "model": models, "bulk": lists,
    "data": in_("hostile_sets", "sets"), "evaluate": in_("hostile_sets", "benchmarks"),
    "export": in_("hostile_runs", "runs"), "networks": networks, "synth": people,
    "train": in_("hostile_runs", "trainings"), "api": in_("hostile_api", "calls"),
    "search": in_("hostile_index", "indices"),
}  # fmt: skip
"""by name; `data` makes the cases of `fit-set`, too"""


def cases(work: Path, seed: int, doors: list[str]) -> Iterator[Case]:
    """The cases of some doors, each in its folder in `work`; what is random in one door does not depend on others."""
    for number, (name, make) in enumerate(DOORS.items()):
        if name in doors:
            yield from make(work, np.random.default_rng([seed, number]))
