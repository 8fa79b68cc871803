"""What `install-dependencies` is made of."""
