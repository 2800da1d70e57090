"""Hours of random readers, faults, changes of origins and rescans, on one mount over real servers.

Four promises are checked throughout: right bytes or an error; each call within its deadline; nothing leaves the tree
that an origin of the mount holds; no file of an origin is changed. And what the daemon holds (memory, descriptors,
threads, tasks) is compared between start and end.
"""
