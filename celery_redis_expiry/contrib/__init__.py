"""For frameworks: each is imported by whoever uses it, and by nothing else of this package."""
