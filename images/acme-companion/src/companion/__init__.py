"""Keep certificates for the containers that ask for one.

The data flow: ``wanted`` (which certificates, from the containers) →
``certificate`` (what is on disk, and whether it is due) → ``acme`` (get a new one) →
``service`` (when to try, and telling nginx).
"""
