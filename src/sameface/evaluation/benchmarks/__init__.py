"""One benchmark = one file: Options, cases, score, summary, published, truth and sample (docs/evaluate.md)."""
