"""What is for Django: in a project of its own, configured for this process."""
