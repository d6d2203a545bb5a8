"""The libraries under test, one module each, and the loops they run in."""
