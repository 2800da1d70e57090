"""Real servers for tests: foreground processes on loopback, each over a folder of its own, and what can befall them."""
