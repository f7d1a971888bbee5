"""The whole system over real sockets: the unchanged bot as a process between the two doubles."""
