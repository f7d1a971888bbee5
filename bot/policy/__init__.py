"""Authorization: who may do what, decided in one call."""
