"""Photos of many people in public repositories → one Parquet file each, as tools/people_crops.py reads them.

    git clone --bare … kinship.git                      github.com: samirmehd1yev/kinship_detection
    python tools/people_photos.py fiw kinship.git runs/people/fiw.parquet
    python tools/people_photos.py celeba hw4.git runs/people/celeba.parquet --identities facerec.git
    python tools/people_photos.py utk gender.git runs/people/utk.parquet

Sources: `fiw` (samirmehd1yev/kinship_detection; Families In the Wild, 3,020 people), `celeba` (karthikSingireddy/
cs389-hw4, with the identities in matush97/faceRecognition; 5,429 people), `utk` (Mohanish-5744/Major_Ensemble_Gender;
UTKFace without identities). Research, non-commercial. Columns: source, name, person (null: nobody knows), image.
"""

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDERS = {"fiw": "data/raw/fiw/train/train-faces", "celeba": "celebA", "utk": "crop_part1"}
IDENTITIES = "identity_CelebA.txt"


def pictures(repository: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of the pictures in a folder of the repository's newest commit; no checkout is made."""
    git = ["git", "--git-dir", str(repository)]
    listed = subprocess.run([*git, "ls-tree", "-r", "-z", "HEAD", folder], capture_output=True, check=True).stdout
    with subprocess.Popen([*git, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for line in listed.decode("utf-8", "surrogateescape").split("\0"):
            about, _, path = line.partition("\t")
            if not path.lower().endswith((".jpg", ".txt")) or Path(path).name.startswith("."):
                continue
            reader.stdin.write(about.split()[2].encode() + b"\n")
            reader.stdin.flush()
            size = int(reader.stdout.readline().split()[2])
            data = reader.stdout.read(size)
            reader.stdout.read(1)
            yield path, data


def main(source: str, repository: Path, out: Path, identities: Path | None) -> None:
    known: dict[str, str] = {}
    if identities is not None:
        text = next(data for path, data in pictures(identities, IDENTITIES) if path == IDENTITIES)
        known = dict(line.split() for line in text.decode().splitlines() if line.strip())
    rows = []
    for path, data in pictures(repository, FOLDERS[source]):
        parts = path.split("/")
        if source == "fiw":
            family, member = parts[-3:-1]
            name, person = "/".join(parts[-3:]), f"{family}/{member}" if member.startswith("MID") else None
        else:
            name, person = parts[-1], known.get(parts[-1])
        rows.append({"source": source, "name": name, "person": person, "image": data})
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    pq.write_table(pa.Table.from_pylist(rows), part)
    part.replace(out)
    print(f"{out}: {len(rows)} photos of {len({row['person'] for row in rows} - {None})} people")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=sorted(FOLDERS))
    parser.add_argument("repository", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--identities", type=Path)
    args = parser.parse_args()
    main(args.source, args.repository, args.out, args.identities)
