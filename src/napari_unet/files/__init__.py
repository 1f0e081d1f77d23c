"""Everything that reads or writes a user's files."""
