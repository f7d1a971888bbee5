"""The whole way over real sockets: the unchanged bot as a process between the two doubles."""
