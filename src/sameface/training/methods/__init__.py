"""Training recipes: one file per method, from its title to its losses.

A method file defines a frozen dataclass `Config` (its fields become flags; `steps` and `batch` are among them) and
`Method(nn.Module)`, built from a Config, with these members:

- `needs: tuple[str, ...]`: what the data set must give;
- `sample(data, index, rng, train) -> dict[str, np.ndarray]`: one item, augmented when `train`, always of the same
  shapes so that items can be stacked. It receives the whole data set, so that mosaics and pairs can draw other items,
  and must take every random number from `rng`. It runs in threads: it must not change `self`;
- `forward(images) -> dict[str, Tensor]`: the names are the outputs of the exported file;
- `losses(batch, output) -> dict[str, Tensor]`: named scalars, already weighted; the trainer adds them. `batch` is a
  plain dict of tensors: the stacked items, with uint8 pictures (H, W, C) as float (B, C, H, W) in [0, 1];
- `optimizer() -> Optimizer` and `schedule(progress) -> float`: the factor on its learning rates, progress from 0 to 1;
- `metadata() -> dict`: what the exported file says about itself; `example() -> Tensor`: an input to trace it with;
- optionally `dynamic: dict[int, str]`: axes of `images` that stay free in the exported file, perhaps as multiples:
  `{0: "batch", 2: "32*height"}` (default: only the batch).
"""
