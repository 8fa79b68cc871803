"""What is run once before the site is served."""
