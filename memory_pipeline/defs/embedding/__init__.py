"""Vectors of memories."""
