"""Blobs of layers: loading and saving weights, binary and HDF5; fillers; mean images."""
