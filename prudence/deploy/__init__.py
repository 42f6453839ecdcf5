"""Use of trained policies: loading, export, acting by a deadline, and policies in records."""
