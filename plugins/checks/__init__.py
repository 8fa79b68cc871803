"""Rules that preflight holds values and servers to: plain functions, without Ansible."""
