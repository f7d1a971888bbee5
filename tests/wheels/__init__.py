"""Tries the built wheel, with the locked versions, on every Python that it is for."""
