"""What systems leave in folders, for the tests of readers."""

from pathlib import Path

APPLE_DOUBLE = bytes.fromhex("00051607000200004d6163204f532058") + bytes(66)
"""how macOS begins the ._photo.jpg that it puts beside photo.jpg on a disk that is not its own"""


def littered(root: Path) -> Path:
    """Beside every file and folder under `root`, and in every folder, what is none of the user's."""
    for path in sorted(root.rglob("*")):
        (path.parent / f"._{path.name}").write_bytes(APPLE_DOUBLE)
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r"):
            (folder / name).write_bytes(b"\0")
        for name in ("__MACOSX/._photo.jpg", "@eaDir/photo.jpg", "$RECYCLE.BIN/photo.jpg"):
            (folder / name).parent.mkdir()
            (folder / name).write_bytes(APPLE_DOUBLE)
    return root
