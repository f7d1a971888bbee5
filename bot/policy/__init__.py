"""Who may: one call answers it."""
