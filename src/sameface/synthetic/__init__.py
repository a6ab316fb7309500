"""Pictures with exact truth: people who do not exist, and photos whose heads are turned further."""
