"""The nearest people to somebody, by shape and by code, among few or a million."""
