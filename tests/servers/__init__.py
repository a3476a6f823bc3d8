"""Private servers and worker processes for the tests: each on free ports, each gone at the end."""
