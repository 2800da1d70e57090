"""A FUSE session in pure Python, straight on /dev/fuse. It knows nothing of what the filesystem shows."""
