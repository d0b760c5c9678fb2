"""Repeatable comparisons of the pipeline with the raw engines, printed as ratios."""
