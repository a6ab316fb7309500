#!/usr/bin/env bash
# torchrun of torch 2.13.0 reads the flags of the script that it starts: one that begins two or more of torchrun's own
# (each of which it lists with dashes and with underscores) stops it before anything runs, as "ambiguous". So no script
# can have --start, --max or --rdzv behind its name, though the same words work under `python script.py`, and though the
# script's own parser never sees them. `--` before the script's name helps.
#
# Seen on x86-64 Linux, Python 3.11 and 3.12:
# "--start: ambiguous option; --max: ambiguous option; --other: ['--other', '1']; after --: ['--start', '1']".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip --quiet --disable-pip-version-check install --target "$work/packages" torch==2.13.0 numpy==2.3.5
echo 'import sys; print(sys.argv[1:])' > "$work/script.py"
export PYTHONPATH="$work/packages"

launched() {
    python3 -W ignore -m torch.distributed.run --standalone --nproc-per-node 1 "$@" 2>&1 |
        grep -oE "ambiguous option|^\[.*\]" | head -n 1 || true
}

test "$(python3 "$work/script.py" --start 1)" = "['--start', '1']" || { echo "the script is wrong"; exit 1; }
start=$(launched "$work/script.py" --start 1)
max=$(launched "$work/script.py" --max 1)
other=$(launched "$work/script.py" --other 1)
after=$(launched -- "$work/script.py" --start 1)
echo "--start: $start; --max: $max; --other: $other; after --: $after"
test "$other" = "['--other', '1']" || { echo "a flag unlike torchrun's own does not arrive either"; exit 1; }
test "$after" = "['--start', '1']" || { echo "-- before the script does not help any more"; exit 1; }
test "$start" = "ambiguous option" -a "$max" = "ambiguous option" || { echo "torchrun leaves such flags alone now"; exit 1; }
