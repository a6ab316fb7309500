"""`sameface model VERB …`: show, convert, compile, build or bridge a morphable model, or give a head expressions."""

import json
from pathlib import Path
from typing import Annotated

import tyro

from sameface.cli.exits import USAGE
from sameface.core.errors import BadData
from sameface.core.files import check_output, write_file

__all__ = ["VERBS", "model_help"]


def model_show(path: Annotated[Path | None, tyro.conf.Positional] = None, /) -> int:
    """Say what a morphable model holds (any known format; without a path, ours)."""
    from sameface.morphable.formats import open_or_default

    model = open_or_default(path)
    eyes = model.landmarks(model.mean)
    print(f"{model.name}\n  licence      {model.licence}")
    print(f"  vertices     {model.n_vertices}, faces {len(model.faces)}")
    print(
        f"  identity     {model.n_identity} modes\n"
        f"  expression   {model.n_expression}: {', '.join(model.expression_names[:6])} …"
    )
    print(f"  eye distance {abs(eyes[42:48].mean(0) - eyes[36:42].mean(0))[0]:.1f} mm between the centres")
    regions = ", ".join(f"{name} {int(flags.sum())}" for name, flags in model.regions.items())
    print(f"  regions      {regions or 'none'}\n  mirror map   {'yes' if model.mirror is not None else 'no'}")
    print(f"  texture uv   {'yes' if model.uv is not None else 'no'}")
    return 0


def model_convert(path: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional], /) -> int:
    """Any known morphable model file -> our .npz (millimetres, sigma units, y up)."""
    from sameface.morphable.formats import open_model

    check_output(out, path)
    model = open_model(path)
    model.save(out)
    print(f"{out}: {model.name}, {model.n_vertices} vertices, {out.stat().st_size / 1e6:.1f} MB")
    return 0


def model_compile(
    source: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    faces: int = 200,
    save_report: Path | None = None,
) -> int:
    """ICT-FaceKit npz -> the model that ships with sameface, with a report of what was lost.

    Args:
        source: The ICT-FaceKit Light npz.
        out: The .npz to write.
        faces: How many random source faces to compare with.
        save_report: JSON file to write the report to.
    """
    from sameface import morphable
    from sameface.morphable.compile import compile_model, report

    for file in (out, save_report) if save_report is not None else (out,):
        check_output(file, source)
    compile_model(source).save(out)
    lost = {"megabytes": out.stat().st_size / 1e6, **report(morphable.load(out), source, faces)}
    for name, value in lost.items():
        print(f"  {name:40s} {value:.5g}")
    if save_report is not None:
        about = {"command": f"sameface model compile {source.name} {out.name} --faces {faces}", "report": lost}
        write_file(save_report, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
    return 0


def model_build(
    scans: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    out: Path,
    template: Path | None = None,
    unit: float = 1.0,
    kept: float = 0.98,
    symmetric: bool = False,
    name: str = "from-scans",
    licence: str = "that of the scans",
) -> int:
    """Neutral scans of different people (.obj, .ply, .wrl) -> a morphable model of them.

    Args:
        scans: Mesh files; landmarks beside each as MeshLab's SCAN.pp help.
        out: The .npz to write.
        template: Morphable model whose mesh is laid on the scans; default: ours.
        unit: Millimetres per unit of the files.
        kept: Part of the scans' variance that the modes shall hold.
        symmetric: Count every scan's mirror image too.
        name: What the model calls itself.
        licence: Who may use it.
    """
    from sameface.morphable.build import build_model
    from sameface.morphable.formats import open_model

    check_output(out, *scans, *([] if template is None else [template]))
    mesh = None if template is None else open_model(template)
    built = build_model(
        scans, mesh, unit=unit, kept=kept, symmetric=symmetric, name=name, licence=licence, progress=print
    )
    built.model.save(out)
    share = f"{100 * built.explained:.1f} % of the variance of {len(scans)} scans"
    print(f"{out}: {built.model.n_identity} modes with {share}")
    return 0


def model_bridge(path: Annotated[Path, tyro.conf.Positional], /, *, picture: Path | None = None) -> int:
    """Join a morphable model with ours, once, for `sameface reconstruct --model`; say and show how well they meet.

    Args:
        path: The model's file or folder; what is computed is kept beside it.
        picture: PNG to write: our regions carried over, and where the two mean faces do not meet.
    """
    from sameface.morphable.bridge import bridge
    from sameface.reconstruction.in_model import bridge_picture, png

    if picture is not None:
        check_output(picture, *([path] if path.is_file() else []))
    made = bridge(path, progress=print)
    print(f"{made.target.name}: {made.target.n_vertices} vertices, {'joined' if made.fresh else 'joined before'}")
    print("                linked  mm apart  95 %   there and back")
    for name, region in made.quality.items():
        back = "" if region.back != region.back else f"{region.back:8.2f}"
        print(f"  {name:13s} {region.linked:5.0%} {region.mean:9.2f} {region.p95:6.2f} {back}")
    if picture is not None:
        write_file(picture, png(bridge_picture(made)))
        print(f"{picture}: ours, {made.target.name} with our regions, ours laid on it (red: {2:.0f} mm away)")
    return 0


def model_transfer(head: Annotated[Path, tyro.conf.Positional], /, *, out: Path, unit: float = 1.0) -> int:
    """A head of your own (.obj, .ply, .wrl) -> the same as .glb with ARKit's 51 expressions, by deformation transfer.

    Args:
        head: The mesh; landmarks beside it as MeshLab's HEAD.pp (names: iBUG numbers) help, else they are looked for.
        out: The .glb to write.
        unit: Millimetres per unit of the file.
    """
    from sameface.evaluation.scan_landmarks import find_landmarks
    from sameface.mesh.glb import write_glb
    from sameface.mesh.read import Mesh, read_mesh
    from sameface.morphable.bridge import between
    from sameface.morphable.build import picked_beside
    from sameface.morphable.transfer import as_model, transfer

    check_output(out, head)
    if out.suffix.lower() != ".glb":
        raise ValueError(f"{out.name}: a head with expressions is written as .glb")
    if not 0 < unit < float("inf"):
        raise ValueError(f"unit is the number of mm per unit of the file, but is {unit}")
    read, picked = read_mesh(head), picked_beside(head)
    mesh = Mesh(read.vertices * unit, read.faces)
    if not len(mesh.faces):
        raise BadData(f"{head} has no triangles: a cloud of points cannot be moved; give a mesh")
    points = find_landmarks(mesh, str(head), refined=False) if picked is None else picked * unit
    made = between(as_model(mesh, points, head.stem), name=str(head))
    face = made.quality["face"]
    print(f"{head}: landmarks {'found' if picked is None else 'as picked'}; {face.linked:.0%} of our face has a place")
    write_glb(out, made.target.mean, made.target.faces, morph_targets=transfer(made))
    print(f"{out}: {len(mesh.vertices)} vertices, ARKit's expressions without tongueOut")
    return 0


def model_help() -> int:
    """Show, convert, compile, build, bridge, or transfer expressions from a morphable model (sameface model --help)."""
    return USAGE


VERBS = {
    "show": model_show,
    "convert": model_convert,
    "compile": model_compile,
    "build": model_build,
    "bridge": model_bridge,
    "transfer": model_transfer,
}
"""the verbs of `sameface model`; each returns its exit code"""
