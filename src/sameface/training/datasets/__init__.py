"""Readers of training data: one file per data set.

A data set file defines

- `gives: tuple[str, ...]`: the keys of its items;
- `load(root, split) -> Sequence[dict[str, np.ndarray]]`: map style, decoding lazily; splits are train, val and test;
- `sample(root)`: writes a tiny made-up copy of the layout, for tests.
"""
