"""Builds, checks, runs, grades and reports the notebooks."""
