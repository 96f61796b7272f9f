"""Decode-time methods."""
