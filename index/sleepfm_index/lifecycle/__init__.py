"""What happens to a store after it was built: delete, compact, restore, verify."""
