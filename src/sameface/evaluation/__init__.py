"""Benchmark × system → numbers, tables and pictures; a benchmark is one file in `benchmarks/`."""
