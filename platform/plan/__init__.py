"""What a study takes on other numbers of slots."""
