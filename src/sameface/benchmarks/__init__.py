"""One benchmark = one file: `Options`, `cases`, `score`, `summary`, `published`, `truth`, `sample` (docs/evaluate.md)."""
