"""Names of what an app has in a server's Docker: Compose projects, containers, networks, images."""

from __future__ import annotations

from dataclasses import dataclass

# What follows an app's name in the projects of its database and of its domains. No app and no
# service may have a name that ends so.
DATABASE = "-db"
DOMAINS = "-vhost"
# What follows an app's name in its networks: the closed one, and the one with a way out.
NETWORKS = ("backend", "internet")


@dataclass(frozen=True)
class Names:
    """
    The names of one app's objects in Docker.

    Compose names a container ``PROJECT-SERVICE-NUMBER``.
    """

    app: str

    @property
    def repository(self) -> str:
        """Repository of the app's images; the tag is a release's id."""
        return f"flask-vps/{self.app}"

    @property
    def database_project(self) -> str:
        """Project of its own Postgres."""
        return self.app + DATABASE

    @property
    def database(self) -> str:
        """Container of its own Postgres."""
        return f"{self.database_project}-db-1"

    @property
    def database_volume(self) -> str:
        """Volume with the data of its own Postgres."""
        return f"{self.database_project}_data"

    @property
    def domains_project(self) -> str:
        """Project of the container that announces the app's domains to nginx-proxy."""
        return self.app + DOMAINS

    @property
    def release_command(self) -> str:
        """Container of the release command."""
        return f"{self.app}-init"

    @property
    def networks(self) -> dict[str, str]:
        """Its networks: ``backend`` is closed, ``internet`` has a way out."""
        return {network: f"{self.app}-{network}" for network in NETWORKS}

    def release(self, identifier: str) -> str:
        """Name the project of a release."""
        return f"{self.app}-{identifier}"

    def image(self, identifier: str) -> str:
        """Name the image of a release."""
        return f"{self.repository}:{identifier}"

    def service(self, name: str) -> str:
        """Name the project of a service beside the app, such as Valkey."""
        return f"{self.app}-{name}"

    def volume(self, name: str) -> str:
        """
        Name a volume of its own.

        The dot, which no app has in its name, keeps the volumes of `a` apart from those of `a-b`.
        """
        return f"{self.app}.{name}"

    def derived(self) -> dict[str, str]:
        """Return the names for templates and tasks."""
        return {
            "database": self.database,
            "database_project": self.database_project,
            "database_volume": self.database_volume,
            "domains_project": self.domains_project,
            "release_command": self.release_command,
            "repository": self.repository,
            **self.networks,
        }


def app_of(project: str) -> str:
    """Return the app of a project of a database or of domains; otherwise the project itself."""
    return project.removesuffix(DOMAINS).removesuffix(DATABASE)
