"""Data sets → labels, and networks that are shipped; a method or a data set is one file in its folder."""
