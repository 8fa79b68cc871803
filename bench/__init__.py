"""What is measured: deploys under load."""
