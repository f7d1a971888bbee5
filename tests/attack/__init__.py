"""Attacks on the running bot, by class. A new class is an `Attack` in a module here, and an entry in `__main__`."""
