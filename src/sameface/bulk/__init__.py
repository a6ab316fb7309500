"""Folders or lists of photos, of any number of people → Parquet files."""
