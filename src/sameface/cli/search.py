"""`sameface index INDEX FROM …` and `sameface search INDEX PHOTO …`: people, and who looks like them."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sameface.cli.exits import DONE, PARTLY, exit_code
from sameface.cli.terminal import harmless
from sameface.core.errors import SameFaceError
from sameface.core.files import check_output
from sameface.photo import MIN_SCORE

__all__ = ["index", "search"]


def index(
    folder: Annotated[Path, tyro.conf.Positional],
    sources: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    each: bool = False,
    min_score: float = MIN_SCORE,
    predictor: str = "default",
    quiet: bool = False,
) -> int:
    """People -> an index to search (docs/search.md); what is in it stays, and who is there already is passed over.

    Exit code: 0 done, 1 nothing could be done, 2 wrong usage, 3 done, but some people could not be taken.

    Args:
        folder: Folder of the index; made if it is not there.
        sources: Folders that `sameface bulk` wrote; saved results, or folders of them; folders whose sub-folders are
            persons, or a list of photos (thousands of photos are for `sameface bulk` first).
        each: Every photo is somebody of its own.
        min_score: Least score of a detected face, 0 to 1.
        predictor: Network to use: default, or the path of your own .onnx.
        quiet: No progress bar and no summary.
    """
    from sameface.cli.people import Progress
    from sameface.search.approximate import FROM
    from sameface.search.index import Index
    from sameface.search.people import check_source

    if not sources:
        raise ValueError("give somebody to put into the index: sameface index people.index FACES")
    for source in sources:
        check_source(source, folder)
    made = Index.build(folder, predictor=predictor)
    with Progress("people", None, quiet) as tick:
        added = made.add(*sources, each=each, min_score=min_score, tick=lambda done: tick("people", None, done))
    for _, kind, message in added.problems:
        print(harmless(f"not taken, {kind}: {message}"), file=sys.stderr)
    if more := sum(added.errors.values()) - len(added.problems):
        print(f"not taken: {more:,} more people", file=sys.stderr)
    if not quiet:
        print(harmless(f"{folder}: {len(made):,} people, {added.new:,} of them new"))
        if added.known:
            print(f"  there already, with the same face: {added.known:,}")
        for kind, count in sorted(added.errors.items()):
            print(f"  not taken, {kind}: {count:,}")
        if len(made) >= FROM and made.store.nearby is None:
            print("  everybody is looked at in a search; pip install 'sameface[search]' makes that fast")
    return exit_code(bool(added.new or added.known), not added.errors)


def search(
    folder: Annotated[Path, tyro.conf.Positional],
    photos: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    by: Literal["shape", "code"] = "shape",
    count: int = 10,
    each: bool = False,
    far: float = 0.1,
    json: bool = False,
    out: Path | None = None,
    min_score: float = MIN_SCORE,
    predictor: str = "default",
) -> int:
    """Somebody -> the nearest people of an index, with what `sameface verify` says of each.

    From one photo it is often wrong, and the more so the more people there are: identify nobody by it (docs/search.md).

    Args:
        folder: Folder of the index.
        photos: Photos or a folder of photos of ONE person; or a saved result; or FOLDER:PERSON, a row of a folder of
            `sameface bulk` or of an index.
        by: What near means: shape, in mm, or code, what the recogniser says of photos.
        count: How many people.
        each: Everything that is given is somebody of their own.
        far: Error rate of same and different: at most about this part of different people is called same (0.01 to 0.5).
        json: Print JSON instead of a table.
        out: File to write the hits to: .json, .csv or .parquet.
        min_score: Least score of a detected face, 0 to 1.
        predictor: Network to use: default, or the path of your own .onnx.
    """
    from sameface.search import hits
    from sameface.search.index import Index

    if out is not None:
        hits.check_suffix(out)
        check_output(out, *photos)
    people, found, failed = Index(folder, predictor=predictor), [], []
    for given in [(one,) for one in photos] if each else [photos]:
        try:
            found.append(people.search(*given, by=by, count=count, far=far, min_score=min_score))
        except SameFaceError as error:
            failed.append(error)
    if not found:
        raise failed[0]
    print(hits.text_of(found).rstrip() if json else "\n\n".join(_table(one.as_text()) for one in found))
    for error in failed:
        print(harmless(f"not searched: {error}"), file=sys.stderr)
    for photo, _, message in (dropped for one in found for dropped in one.dropped):
        print(harmless(f"not used: {message if photo in message else f'{photo}: {message}'}"), file=sys.stderr)
    if out is not None:
        hits.save(out, found)
    return PARTLY if failed or any(one.dropped for one in found) else DONE


def _table(told: str) -> str:
    return "\n".join(map(harmless, told.splitlines()))
