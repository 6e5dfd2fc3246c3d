"""Judged retrieval: what a model, a size or a ranking costs in right answers. Used by tests and benchmarks."""
