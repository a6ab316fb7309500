"""Parquet files from outside: which columns they have, and that their sizes can be true, before they are read."""

import os
from collections.abc import Sequence
from typing import Any

from sameface.core.errors import BadData, in_one_line
from sameface.core.files import PathLike, open_file

__all__ = ["read_table", "rows_of_lists"]

VALUES_PER_BYTE, VALUES = 100, 1_000_000
"""per byte of the file, and beside that: packed repetitions that promise more would fill the memory"""


def read_table(path: PathLike, columns: Sequence[str], layout: str) -> Any:
    """These columns of a Parquet file as a pyarrow table, with the file's metadata.

    Raises BadData for what is no Parquet file, lacks a column or has it twice, or claims more than it can hold;
    `layout` says in messages what was expected.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file(path) as file:
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            names = parquet.schema_arrow.names
            missing = [name for name in columns if names.count(name) != 1]
            if missing:
                which = f"has no (or two) columns {', '.join(missing)}, only {', '.join(names)[:400] or 'none'}"
                raise BadData(f"{path} {which}; expected {layout}")
            _check_claims(parquet.metadata, os.fstat(file.fileno()).st_size)
            return parquet.read(columns=list(columns))
        except (pa.ArrowException, OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            raise BadData(f"{path} cannot be read as Parquet ({in_one_line(error)[:400]}); expected {layout}") from None


def rows_of_lists(column: Any) -> list[Any]:
    """Each row's list of numbers as an array, or None where it is null; rows may differ in length."""
    whole = column.combine_chunks()
    ends = whole.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).cumsum()
    flat, null = whole.flatten().to_numpy(zero_copy_only=False), whole.is_null().to_numpy(zero_copy_only=False)
    return [None if gone else flat[a:b] for a, b, gone in zip([0, *ends[:-1]], ends, null, strict=True)]


def _check_claims(metadata: Any, size: int) -> None:
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    values = sum(group.column(k).num_values for group in groups for k in range(group.num_columns))
    if max(values, metadata.num_rows) > VALUES_PER_BYTE * size + VALUES or min(values, metadata.num_rows) < 0:
        raise ValueError(f"{values} values of {metadata.num_rows} rows are promised in {size} bytes")
