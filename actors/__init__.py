"""The joint: where the pure core meets threads, sockets and actors."""
