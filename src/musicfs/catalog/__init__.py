"""The catalogue: all of its SQL, for reading and writing."""
