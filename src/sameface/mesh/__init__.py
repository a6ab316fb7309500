"""Triangle meshes: files of them, the exact and the differentiable rasteriser."""
