"""Background work over contents and the catalogue: pins, the scrub, the check of the cache."""
