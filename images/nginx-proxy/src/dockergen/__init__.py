"""Write nginx's configuration from the running containers.

The data flow: ``docker_api`` (what runs) → ``settings`` (what each container
asks for, checked) → ``model`` (virtual hosts) → ``nginx.tmpl`` (text) → ``cli`` (write, notify,
watch). ``settings`` and ``model`` are pure functions; only ``docker_api`` and ``cli`` have side
effects.
"""
