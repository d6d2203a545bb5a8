"""Real peers for the tests: everything listens on loopback, on ports the kernel chose."""
