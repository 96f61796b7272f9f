"""Data sets: readers of published ones, and an invented world that needs no download."""
