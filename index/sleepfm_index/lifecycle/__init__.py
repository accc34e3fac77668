"""Changing a store: delete, compact, restore, verify."""
