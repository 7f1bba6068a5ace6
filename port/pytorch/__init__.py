"""A net as a program of plain PyTorch that needs nothing of this project, and as an exported program (.pt2)."""
