"""The same app on plain compose behind the same nginx-proxy, for comparison with our deploys."""

import time
from collections.abc import Callable
from dataclasses import replace

from bench.campaign import Campaign
from bench.load import Request

FOLDER = "/opt/naive"
COMPOSE = """\
services:
  web:
    build: .
    restart: unless-stopped
    environment:
      DATABASE_URL: ${DATABASE_URL}
      VIRTUAL_HOST: naive.localhost
      VIRTUAL_PROTO: uwsgi
      VIRTUAL_PORT: "3031"
      LETSENCRYPT_HOST: naive.localhost
    entrypoint: uwsgi --socket :3031 --module ledger:app --master --processes 2 --threads 8
    networks: [edge, backend]
networks:
  edge: {external: true, name: EDGE}
  backend: {external: true, name: ledger-backend}
"""


class Naive:
    """A copy of the app whose container receives requests directly from nginx-proxy."""

    def __init__(self, campaign: Campaign, on_server: Callable[..., str]) -> None:
        """
        Start the copy and wait until it is served.

        Parameters
        ----------
        campaign : Campaign
            The campaign that deployed the app; the copy uses its image.
        on_server : callable
            Runs a command on the server and returns what it prints.
        """
        self.on_server = on_server
        name, port = "naive.localhost", campaign.url.rpartition(":")[2]
        self.campaign = replace(
            campaign,
            url=f"https://{name}:{port}",
            work=campaign.work.parent / "naive",
            requests=[],
            events=[],
        )
        release = on_server("readlink", "/opt/flask-vps/apps/ledger/current").strip()[-12:]
        # The network's name depends on whether it has IPv6.
        of_edge = ["--filter", "label=com.docker.compose.project=edge"]
        edge = on_server("docker", "network", "ls", *of_edge, "--format", "{{.Name}}").strip()
        self._write("compose.yml", COMPOSE.replace("EDGE", edge))
        self._write("Dockerfile", f"FROM flask-vps/ledger:{release}\nCOPY version.txt /app/\n")
        self.version = 0
        self._up()
        certificate = f"/var/lib/docker/volumes/edge_certs/_data/{name}.crt"
        on_server("timeout", "90", "sh", "-c", f"until [ -e {certificate} ]; do sleep 1; done")
        time.sleep(5)

    def redeploy(self, times: int, rate: float) -> list[Request]:
        """Redeploy repeatedly under a load of `rate` requests per second, then remove the copy."""
        try:
            with self.campaign.load(rate, slow_seconds=0):
                for _ in range(times):
                    time.sleep(3)
                    self._up()
                time.sleep(8)
        finally:
            self._shell(f"cd {FOLDER} && docker compose down --timeout 5 && rm -r {FOLDER}")
        return self.campaign.requests

    def _up(self) -> None:
        self.version += 1
        self._write("version.txt", f"{self.version}\n")
        url = "DATABASE_URL=$(cat /opt/flask-vps/apps/ledger/secrets/DATABASE_URL)"
        self._shell(f"cd {FOLDER} && {url} docker compose up -d --build --quiet-pull")

    def _write(self, name: str, text: str) -> None:
        quoted = text.replace("'", "'\\''")
        self._shell(f"mkdir -p {FOLDER} && printf %s '{quoted}' > {FOLDER}/{name}")

    def _shell(self, script: str) -> str:
        return self.on_server("sh", "-c", script)
