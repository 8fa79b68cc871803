"""Action that checks all values and the server and reports every problem at once."""

import ipaddress
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.parsing.vault import AnsibleVaultError, EncryptedString
from ansible.plugins.action import ActionBase

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from checks import host as server_rules
from checks.apps import filled
from checks.builds import check_agent, pythons
from checks.databases import check_connections
from checks.domains import domain_error, redirects
from checks.files import is_file, local
from checks.memory import limits, postgres_memory
from checks.outside import LOOPBACK, Target, check_reached, targets
from checks.report import HIDDEN, SECRET_NAME, UNKNOWN, Finding, quote
from checks.site import Site, check_address, check_site, concerning
from checks.ssh import ssh_advice
from checks.throwaway import check_names, known_names
from checks.yaml_traps import yaml_traps
from module_utils.app import (
    INHERITED,
    NAME,
    App,
    ascii_domain,
    entry_options,
    has_postgres,
)
from module_utils.services import is_true

ROOT = Path(__file__).parents[2]
FACTS = ["min", "hardware", "network", "virtual"]
# Variables that Ansible itself gives to a host.
MAGIC = re.compile(r"(ansible|inventory|group|play|role)_|(hostvars|groups|vars|omit|environment)$")


class ActionModule(ActionBase):
    """Check the inventory's values and a server, and change nothing."""

    _supports_check_mode = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("root_needed", "server_checked"))

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result = super().run(tmp, task_vars)
        given = task_vars or {}
        name = given["inventory_hostname"]
        if "servers" not in given.get("group_names", []):
            groups = ", ".join(sorted(set(given["groups"]) - {"all", "ungrouped"})) or "none"
            fix = "Put your server into the group servers in hosts.yml"
            wrong = f"has no host in the group servers (its groups: {groups})"
            return _report(result, name, [Finding("the inventory", wrong, fix)])

        # Facts gathered as root, which later plays may use, and facts gathered without root.
        self._gathered: dict[str, Any] = {}
        self._unprivileged: dict[str, Any] = {}
        specs = _specs()
        # Facts come first, as values may be computed from them.
        address = check_address(name, given.get("ansible_host", ""))
        reached = [] if address else self._reach(name, given)
        self._templar.available_variables = given | {"ansible_facts": self._facts}
        site = self._site(given, specs)
        found = self._broken + check_site(site) + self._traps(given)
        found = concerning(site, found) + address + reached
        if self._facts and self._task.args.get("server_checked", True):
            found += self._look(name, given, site) + self._agent(site)
            found += _throwaway(site)
            found += self._crowds(site, found)
        if all(finding.warning for finding in found):
            result["preflight_apps"] = self._completed(site)
            result["preflight_pythons"] = pythons(site, site.defaults)
            result["_ansible_verbose_override"] = True
            if self._gathered:
                # Later plays need not gather them again.
                result["ansible_facts"] = {**self._gathered, "_ansible_facts_gathered": True}
        return _report(result, name, found)

    def _completed(self, site: Site) -> list[dict[str, Any]]:
        """Give every key of the chosen apps a value."""
        defaults = _role_defaults()
        inherited = {n: site.get(n) or defaults[n] for n in INHERITED.values()}
        return [App.from_entry(filled(app), inherited).entry() for app in site.chosen]

    # -- values -----------------------------------------------------------------------------------

    def _site(self, given: dict[str, Any], specs: dict[str, dict[str, Any]]) -> Site:
        """Compute what the inventory sets, and note what cannot be computed."""
        self._broken: list[Finding] = []
        del specs["app_entry"]
        names = {n: v for n, v in given.items() if not MAGIC.match(n)}
        folder = given.get("inventory_dir") or ""
        return Site(
            values={n: self._value(n, lambda n=n: given[n]) for n in names if n in specs},
            names=names,
            options=specs,
            entry=entry_options(),
            roles=_roles(),
            certificates_checked=bool(self._task.args.get("server_checked", True)),
            environment=Path(folder).name,
            examples=_examples(),
            defaults=_role_defaults(),
            read=self._read,
        )

    def _value(self, where: str, get: Callable[[], Any]) -> Any:
        """Compute one value; a part that fails is reported, and the other parts are computed."""
        try:
            value = get()
            # A `!vault` value is decrypted on access.
            value = str(value) if isinstance(value, EncryptedString) else value
            # Lists and dictionaries are templated by element: as a whole, one bad value fails them.
            if isinstance(value, str):
                value = self._templar.template(value)
        except AnsibleVaultError:
            fix = "Put the vault's passphrase into .vault-passphrase, or add --ask-vault-pass"
            self._broken.append(Finding(where, "cannot be decrypted with the passphrase here", fix))
            return UNKNOWN
        except (AnsibleError, KeyError, TypeError, ValueError) as error:
            secret = SECRET_NAME.search(where)
            cause = re.search(r"'[\w.]+' is undefined|has no attribute '\w+'", str(error))
            why = (cause[0] if cause else "") if secret else quote(error, 160)
            wrong = f"cannot be computed ({why or type(error).__name__})"
            fix = (
                "Write !unsafe before a value that holds {{, {% or {#"
                if secret and not cause
                else "Set the variable that it refers to, or correct the expression"
            )
            self._broken.append(Finding(where, wrong, fix))
            return UNKNOWN
        if isinstance(value, dict):
            return {k: self._value(f"{where}.{k}", lambda k=k: value[k]) for k in list(value)}
        if isinstance(value, list | tuple):
            return [self._value(f"{where}[{n}]", lambda n=n: value[n]) for n in range(len(value))]
        return value

    def _read(self, path: str) -> bytes:
        """Read a file of this machine, and decrypt it if it is vaulted."""
        file = local(path)
        file.read_bytes()  # its error is clearer than the loader's
        try:
            return Path(self._loader.get_real_file(str(file))).read_bytes()
        except AnsibleError as error:
            raise ValueError("is encrypted with a vault and cannot be decrypted") from error

    # -- server -----------------------------------------------------------------------------------

    @property
    def _facts(self) -> dict[str, Any]:
        """Facts by their names in playbooks, without the prefix."""
        facts = self._gathered or self._unprivileged
        return {name.removeprefix("ansible_"): value for name, value in facts.items()}

    def _reach(self, name: str, given: dict[str, Any]) -> list[Finding]:
        """Gather facts, as root if possible."""
        try:
            answer = self._module("ansible.legacy.setup", {"gather_subset": FACTS}, given)
            if _gathered(answer):
                self._gathered = answer["ansible_facts"]
                return []
            why = _said(answer)
        except AnsibleConnectionFailure as error:
            return [_unreachable(name, given, str(error))]
        except AnsibleError as error:
            why = quote(error)
        user = given.get("ansible_user", "the user")
        found = []
        if self._connection.become:
            fix = "Give the password with -K (--ask-become-pass), or log in as a user with sudo"
            needed = self._task.args.get("root_needed", False)
            wrong = f"{user} cannot become root ({why})"
            found.append(Finding(f"{name}: ansible_user", wrong, fix, warning=not needed))
            self._connection.set_become_plugin(None)
        try:
            answer = self._module("ansible.legacy.setup", {"gather_subset": FACTS}, given)
        except AnsibleConnectionFailure as error:
            return [_unreachable(name, given, str(error))]
        except AnsibleError as error:
            answer = {"msg": str(error)}
        if _gathered(answer):
            self._unprivileged = answer["ansible_facts"]
            return found
        fix = "Install python3 on the server, or set ansible_python_interpreter to its path"
        wrong = f"Ansible cannot run there ({_said(answer)})"
        return [Finding(f"{name}: ansible_host", wrong, fix)]

    def _module(self, module: str, arguments: dict[str, Any], given: dict[str, Any]) -> dict:
        answer = self._execute_module(module_name=module, module_args=arguments, task_vars=given)
        if answer.get("unreachable"):
            raise AnsibleConnectionFailure(str(answer.get("msg")))
        return answer

    def _agent(self, site: Site) -> list[Finding]:
        """Look for the operator's SSH agent if a build may use it."""
        places = [where for where, app in site.apps if is_true(app.get("ssh_agent"), default=False)]
        if not places:
            return []
        # sudo would not hand root the agent.
        answer = self._low_level_execute_command("ssh-add -l", sudoable=False)
        return check_agent(places, answer["rc"])

    def _look(self, name: str, given: dict[str, Any], site: Site) -> list[Finding]:
        """Inspect the server, and compare it with the values."""
        defaults = self._defaults(site)
        apps = [app for _, app in site.apps if NAME.fullmatch(str(app.get("name")))]
        dns, ca = site.get("preflight_dns", "error"), site.ca if site.asks_ca else ""
        resolves = set(_acme_domains(site))
        ports = [int(p) for p in defaults["ports"] if re.fullmatch(r"\d+", str(p))]
        bundle = local(site.ca_bundle)
        arguments = {
            "ports": ports,
            "domains": sorted(resolves),
            "apps": [a["name"] for a in apps if has_postgres(a)],
            "reach": sorted({f"{t.host}:{t.port}" for t in self._outside(site)}),
            "directory": ca if re.match("https?://", ca) else "",
            "bundle": bundle.read_text(errors="replace") if is_file(bundle) else "",
        }
        try:
            seen = self._module("preflight_host", arguments, given)
        except AnsibleError as error:
            seen = {"msg": str(error)}
        if seen.get("failed") or "listeners" not in seen:
            fix = "This is a bug in preflight_host: please report it"
            return [Finding(name, f"could not be inspected ({_said(seen)})", fix)]
        outside = check_reached(name, self._outside(site), seen.get("reached") or {})
        return outside + server_rules.check_server(
            server_rules.Server(
                name=name,
                facts=self._facts,
                seen=seen,
                addresses=_addresses(str(given.get("ansible_host", ""))),
                ports=ports,
                dns=str(dns),
                postgres=defaults["postgres"],
                versions=_versions(apps),
                apps=[str(app.get("name")) for app in site.entries],
                resolves=resolves,
                ca=ca,
                limits=self._limits(site, defaults),
            )
        )

    def _outside(self, site: Site) -> list[Target]:
        """List the servers that the chosen apps connect to over the internet."""
        vault = site.get("vault_app_secrets", {})
        vault = vault if isinstance(vault, dict) else {}
        return [
            target
            for where, app in site.apps
            if is_true(app.get("internet"), default=True)
            for target in targets(where, app, vault.get(app.get("name")))
            if target.port and "." in target.host and not LOOPBACK.fullmatch(target.host)
        ]

    def _limits(self, site: Site, defaults: dict[str, Any]) -> dict[str, int]:
        """Add up the memory that each app may use, in MiB."""
        memory = int(self._facts.get("memtotal_mb") or 0)
        postgres = site.get("postgres_memory_mb", postgres_memory(memory, site.entries))
        entries = [filled(app) for app in site.entries]
        return limits(entries, site.get("app_memory_mb", defaults["app_memory_mb"]), postgres)

    def _traps(self, given: dict[str, Any]) -> list[Finding]:
        """Look for values in the inventory's files that YAML reads differently than written."""
        folder = Path(given.get("inventory_dir") or "/dev/null")
        files = [
            file
            for pattern in ("*.y*ml", "group_vars/**/*.y*ml", "host_vars/**/*.y*ml")
            for file in sorted(folder.glob(pattern))
            if is_file(file)
        ]
        found = []
        for file in files:
            try:
                found += yaml_traps(self._read(str(file)).decode())
            except (OSError, ValueError):
                continue  # Ansible itself reports files that it cannot read.
        return found

    def _crowds(self, site: Site, found: list[Finding]) -> list[Finding]:
        """Compare connections with the memory of databases, once the entries are valid."""
        if not all(finding.warning for finding in found):
            return []
        memory = int(self._facts.get("memtotal_mb") or 0)
        postgres = site.get("postgres_memory_mb", postgres_memory(memory, site.entries))
        apps = [(where, filled(app)) for where, app in site.apps]
        return check_connections(apps, int(postgres))

    def _defaults(self, site: Site) -> dict[str, Any]:
        """Return what the roles use where the inventory sets nothing."""
        values = _role_defaults()
        named = [site.get("images_upstream", values["images_upstream"]), site.images]
        registry = {k: v for names in named if isinstance(names, dict) for k, v in names.items()}
        built = f"postgres:{site.get('images_postgres_major', values['images_postgres_major'])}"
        debian = site.get("images_source", values.get("images_source")) == "debian"
        image = site.get("postgres_image") or (built if debian else registry.get("postgres"))
        major = server_rules.postgres_major(image)
        ports = [site.get(n, values.get(n)) for n in ("proxy_http_port", "proxy_https_port")]
        return {"ports": ports, "postgres": major, "app_memory_mb": values["app_memory_mb"]}


def _versions(apps: list[dict[str, Any]]) -> dict[str, int]:
    """List the apps that choose a version of Postgres."""
    chosen = {str(app["name"]): str(app.get("postgres_version") or "") for app in apps}
    return {name: int(version) for name, version in chosen.items() if version.isdigit()}


def _throwaway(site: Site) -> list[Finding]:
    """Compare the domains with those that the test authority of a throwaway server can resolve."""
    server = site.get("dev_server")
    if not server or site.get("dev_host", "container") != "container" or site.public_ca:
        return []
    return check_names(_acme_domains(site), known_names(str(server)))


def _acme_domains(site: Site) -> dict[str, str]:
    """List the valid domains that an authority has to resolve, with the places of their apps."""
    return {
        ascii_domain(domain): where
        for where, app in site.apps
        if site.tls(app) == "acme" and isinstance(app.get("domains"), list)
        for domain in app["domains"] + redirects(app)
        if not domain_error(domain)
    }


def _report(result: dict[str, Any], name: str, found: list[Finding]) -> dict[str, Any]:
    """Fail with all problems at once; without problems, a later task shows the warnings."""
    problems = list(dict.fromkeys(str(f) for f in found if not f.warning))
    warnings = list(dict.fromkeys(str(f) for f in found if f.warning))
    result.update(changed=False)
    if not problems:
        return {**result, "preflight_warnings": warnings}
    plural = "s" if len(problems) > 1 else ""
    lines = [
        f"Preflight found {len(problems)} problem{plural} for {name}. Nothing was changed.",
        *(f"{number}. {problem}" for number, problem in enumerate(problems, start=1)),
        *(f"Warning: {warning}" for warning in warnings),
    ]
    return {**result, "failed": True, "msg": "\n".join(lines)}


def _specs() -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = {}
    for file in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        specs = yaml.safe_load(file.read_text())["argument_specs"]
        # Playbooks set the options of the other entry points.
        for entry_point in ("main", "inventory"):
            options.update(specs.get(entry_point, {}).get("options", {}))
    return options


def _role_defaults() -> dict[str, Any]:
    """Read the defaults of all roles, without templating them."""
    values: dict[str, Any] = {}
    for file in sorted(ROOT.glob("roles/*/defaults/**/*.yml")):
        values.update(yaml.safe_load(file.read_text()) or {})
    return values


def _roles() -> list[str]:
    return [path.name for path in (ROOT / "roles").iterdir() if path.is_dir()]


def _examples() -> set[str]:
    """Collect the secrets of the example vaults, which no inventory should use."""

    def leaves(value: Any) -> list[str]:
        parts = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            return [leaf for part in parts for leaf in leaves(part)]
        return [str(value)] if value else []

    return {
        leaf
        for file in ROOT.glob("inventory/**/vault.yml.example")
        for leaf in leaves(yaml.safe_load(file.read_text()))
    }


def _unreachable(name: str, given: dict[str, Any], why: str) -> Finding:
    value = given.get("ansible_host") or HIDDEN
    fix = ssh_advice(
        why, str(given.get("ansible_host") or name), str(given.get("ansible_port") or "")
    )
    wrong = f"does not answer over SSH ({quote(why)})"
    return Finding(f"{name}: ansible_host", wrong, fix, value)


def _gathered(answer: dict[str, Any]) -> bool:
    # A failed module may still return the fact of the Python that was found.
    return bool(answer.get("ansible_facts", {}).get("module_setup"))


def _said(answer: dict[str, Any]) -> str:
    return quote(answer.get("module_stderr") or answer.get("module_stdout") or answer.get("msg"))


def _addresses(host: str) -> set[str]:
    """Resolve ansible_host here, because a server behind NAT does not know its public address."""
    try:
        return {str(ipaddress.ip_address(host))}
    except ValueError:
        pass
    try:
        return {str(a[4][0]) for a in socket.getaddrinfo(host, None)} if host else set()
    except OSError:
        return set()
