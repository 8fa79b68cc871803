"""Keep certificates for the containers that ask for one.

One way through the modules: ``wanted`` (which certificates, from the containers) →
``certificate`` (what is on disk, and whether it is due) → ``acme`` (get a new one) →
``service`` (when to try, and telling nginx).
"""
