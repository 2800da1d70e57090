"""One mount: builds everything, starts and stops it, and changes it while it runs."""
