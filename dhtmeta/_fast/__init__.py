"""Compute only, in Cython: no clock, no loop; limits are arguments, errors are ValueErrors."""
