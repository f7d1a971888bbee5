"""WHAT EACH ROLE STARTS. Parts of the composition root: they build and connect, and decide nothing else."""
