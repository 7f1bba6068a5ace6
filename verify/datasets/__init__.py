"""Image lists and label files of the paper's data sets, made from the data sets' own annotations.

`python -m verify dataset`; the lists have the form of the authors' released ones, and are compared with them.
"""
