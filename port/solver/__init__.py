"""Caffe's solver: learning-rate policies, update rules, snapshots."""

from .solver import Solver, load_solver

__all__ = ["Solver", "load_solver"]
