"""File formats of other projects. Their libraries are imported when a file is read or written."""
