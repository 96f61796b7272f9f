"""Adapter, anatomy, generation and toy models."""
