"""The way of a submission: a step is a module."""
