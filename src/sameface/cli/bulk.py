"""`sameface bulk PHOTOS … --out FOLDER`: thousands to millions of photos."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from sameface.cli.exits import exit_code
from sameface.cli.terminal import harmless
from sameface.photo import MIN_SCORE

__all__ = ["bulk"]


def bulk(
    photos: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    out: Path,
    each: bool = False,
    workers: int | None = None,
    address: str | None = None,
    min_score: float = MIN_SCORE,
    predictor: str = "default",
    shard: int = 256,
    seconds: float = 300.0,
    quiet: bool = False,
) -> int:
    """Thousands to millions of photos -> Parquet files: a row per photo, a row per person (docs/bulk.md).

    Stopped and called again, it goes on. Exit code: 0 done, 1 nothing could be done, 2 wrong usage, 3 done, but some
    photos could not be used (the column error says why).

    Args:
        photos: Folders whose sub-folders are persons; or one list, Parquet or text, with the columns path and person.
        out: Folder for photos/, persons/ and bulk.json; made if it is not there.
        each: Every photo is somebody of its own; folders are searched to any depth.
        workers: Processes, one thread each; default: one per core, here or of the cluster. 0: this one, without Ray.
        address: A Ray cluster to compute on (auto, or HOST:PORT); default: this machine. It sees the same files.
        min_score: Least score of a detected face, 0 to 1.
        predictor: Network to use: default, or the path of your own .onnx.
        shard: Photos per file; more if a person has more.
        seconds: A photo that takes longer is given up.
        quiet: No progress bar and no summary.
    """
    from sameface.bulk.bulk import Options
    from sameface.bulk.bulk import bulk as run
    from sameface.cli.people import Progress
    from sameface.photo.image import counted

    options = Options(each=each, predictor=predictor, min_score=min_score, shard=shard, seconds=seconds)
    with Progress("photos", None, quiet) as tick:
        told = run(
            photos, out, options, workers=workers, address=address,
            tick=lambda done, total: tick("photos", total, done),
        )  # fmt: skip
    if others := [counted(what, **found) for what, found in told["not_looked_at"].items()]:
        print(harmless(f"not looked at: {', '.join(others)}"), file=sys.stderr)
    if not quiet:
        used, persons = told["photos_used"], told["persons_used"]
        print(f"{out}: {used} of {told['photos']} photos, {persons} of {told['persons']} persons")
        for error, count in told["errors"].items():
            print(f"  not used, {error}: {count}")
        if told["disagreement_mm"]:
            print(f"  photos differ from their person's face by {told['disagreement_mm']['50']:.1f} mm (median)")
    elif told["errors"]:
        print(
            f"{sum(told['errors'].values())} of {told['photos']} photos not used: {out}/photos says why",
            file=sys.stderr,
        )
    return exit_code(bool(told["photos_used"]), not told["errors"])
