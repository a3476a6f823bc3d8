"""What each release stores, kept as fixtures: the present code must read, change and fire it."""
