#!/usr/bin/env bash
# pyarrow 25.0.0: a column of fixed-size lists in which a list is null is written to Parquet without a word and cannot be
# read back: ArrowInvalid, "Expected all lists to be of size=2 but index 1 had size=0", whole column. The type alone
# decides: as a list of any size the same rows come back. 26.0.1 reads them, and the file that 25.0.0 wrote, too.
# It meets whoever stores embeddings by row where some rows have none, and reads them with another version.
#
# Seen on x86-64 Linux, Python 3.11:
# "25.0.0 fixed: ArrowInvalid, any size: 3 rows; 26.0.1 reads what 25.0.0 wrote: 3 rows, its own: 3 rows".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 25.0.0 26.0.1; do
  python3 -m pip --quiet --disable-pip-version-check install --target "$work/$version" "pyarrow==$version"
done
cat > "$work/try.py" <<'PYTHON'
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = [[1.0, 2.0], None, [3.0, 4.0]]


def write(path, kind):
    pq.write_table(pa.table({"embedding": pa.array(ROWS, kind)}), path)


def read(path):
    try:
        found = pq.read_table(path, use_threads=False)["embedding"].to_pylist()
    except pa.ArrowInvalid as error:
        assert "Expected all lists to be of size=2" in str(error), error
        return "ArrowInvalid"
    assert found == ROWS
    return f"{len(found)} rows"


version, folder = sys.argv[1:]
assert pa.__version__ == version
fixed = f"{folder}/fixed-{version}.parquet"
write(fixed, pa.list_(pa.float32(), 2))
if version == "25.0.0":
    write(f"{folder}/any.parquet", pa.list_(pa.float32()))
    print(f"25.0.0 fixed: {read(fixed)}, any size: {read(f'{folder}/any.parquet')}", end="; ")
else:
    theirs = f"{folder}/fixed-25.0.0.parquet"
    print(f"26.0.1 reads what 25.0.0 wrote: {read(theirs)}, its own: {read(fixed)}")
sys.stdout.flush()
os._exit(0)
PYTHON
seen=$(for version in 25.0.0 26.0.1; do PYTHONPATH="$work/$version" python3 "$work/try.py" "$version" "$work"; done)
echo "$seen"
test "$seen" = "25.0.0 fixed: ArrowInvalid, any size: 3 rows; 26.0.1 reads what 25.0.0 wrote: 3 rows, its own: 3 rows"
