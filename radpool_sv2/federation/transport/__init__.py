"""Connects members: encrypted links over streams, and the mesh of them."""
