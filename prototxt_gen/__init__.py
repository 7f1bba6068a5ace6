"""Writes the Caffe nets and solvers of Spatial Regularization Networks."""
