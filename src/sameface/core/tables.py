"""Parquet files from outside: which columns they have, and that their sizes can be true, before they are read."""

import os
from collections.abc import Mapping
from typing import Any

from sameface.core.errors import BadData, in_one_line
from sameface.core.files import PathLike, open_file

__all__ = ["read_table", "rows_of_lists"]

VALUES_PER_BYTE, VALUES = 100, 1_000_000
"""per byte of the file, and beside that: packed repetitions that promise more would fill the memory"""


def read_table(path: PathLike, columns: Mapping[str, str], layout: str) -> Any:
    """These columns of a Parquet file as a pyarrow table, with the file's metadata.

    `columns` says what each holds: text, bytes, whole (numbers), number, flag, or list (of numbers); "any" is not
    looked at, and a column of nulls only is whatever was asked for. Raises BadData for what is no Parquet file, lacks a
    column, has it twice or of another kind, or claims more than it can hold; `layout` says what was expected.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file(path) as file:
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            names = parquet.schema_arrow.names
            missing = sorted(name for name in columns if names.count(name) != 1)
            if missing:
                which = f"lacks the columns {', '.join(missing)} of {layout}, or has them twice"
                raise BadData(f"{path} {which}; it has {', '.join(names)[:400] or 'none'}")
            odd = [name for name in columns if not _is(parquet.schema_arrow.field(name).type, columns[name])]
            if odd:
                which = "; ".join(f"{name} is {parquet.schema_arrow.field(name).type}" for name in odd)
                raise BadData(f"{path} has columns of another kind: {which[:400]}; expected {layout}")
            _check_claims(parquet.metadata, os.fstat(file.fileno()).st_size)
            return parquet.read(columns=list(columns))
        except (pa.ArrowException, OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            raise BadData(f"{path} cannot be read as Parquet ({in_one_line(error)[:400]}); expected {layout}") from None


def rows_of_lists(column: Any) -> list[Any]:
    """Each row's list of numbers as an array, or None where it is null; rows may differ in length."""
    import pyarrow as pa

    whole = column.combine_chunks()
    if pa.types.is_null(whole.type):
        return [None] * len(whole)
    if pa.types.is_fixed_size_list(whole.type):
        whole = whole.cast(pa.list_(whole.type.value_type))
    ends = whole.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).cumsum()
    flat, null = whole.flatten().to_numpy(zero_copy_only=False), whole.is_null().to_numpy(zero_copy_only=False)
    return [None if gone else flat[a:b] for a, b, gone in zip([0, *ends[:-1]], ends, null, strict=True)]


def _is(kind: Any, wanted: str) -> bool:
    """Whether an Arrow type is what a column should hold."""
    from pyarrow import types

    def numeric(one: Any) -> bool:
        return types.is_integer(one) or types.is_floating(one) or types.is_null(one)

    if wanted == "list":
        lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return types.is_null(kind) or (lists and numeric(kind.value_type))
    looks = {
        "text": lambda: types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind),
        "bytes": lambda: types.is_binary(kind) or types.is_large_binary(kind),
        "whole": lambda: types.is_integer(kind), "number": lambda: numeric(kind), "any": lambda: True,
        "flag": lambda: types.is_boolean(kind),
    }  # fmt: skip
    return types.is_null(kind) or looks[wanted]()


def _check_claims(metadata: Any, size: int) -> None:
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    values = sum(group.column(k).num_values for group in groups for k in range(group.num_columns))
    if max(values, metadata.num_rows) > VALUES_PER_BYTE * size + VALUES or min(values, metadata.num_rows) < 0:
        raise ValueError(f"{values} values of {metadata.num_rows} rows are promised in {size} bytes")
