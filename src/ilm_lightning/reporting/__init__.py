"""Runs to tables that people read."""
