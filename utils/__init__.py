"""Keras 3 utilities that the notebooks import."""
