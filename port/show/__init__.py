"""Nets and files for people to look at: tables, drawings, pictures, the table of layer types."""
