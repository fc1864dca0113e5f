"""Rented machines, as real ones: processes, files, sshd and a memory limit of their own, on this machine."""
