"""The files that the authors of the paper released: what they are, where to get them, checking a copy."""
