"""Say what to do about the errors of pip and of compilers."""

from __future__ import annotations

import re

# The errors of pip when no resolver answers, or none knows the name. pip would retry for minutes
# and then blame the index.
NO_RESOLVER = r"Temporary failure in name resolution"
NO_NAME = re.compile(
    rf"{NO_RESOLVER}|Name or service not known|No address associated with hostname"
)
NO_RESOLVER_ADVICE = (
    "The name of the index could not be resolved: no resolver answers in the network of builds. If "
    "containers cannot reach the server's resolver, set build_network to host. The list of "
    "dependencies is not the cause."
)
NO_NAME_ADVICE = (
    "The resolver does not know the name of an index or address that is shown above: correct it in "
    "the list or in build_pip_index_url, or add it to the server's resolver."
)
# Programs that builds of packages run, and the Debian packages that have them.
PROGRAMS = {
    "autoconf": "autoconf",
    "autoreconf": "autoconf automake libtool",
    "c++": "g++",
    "cargo": "cargo",
    "clang": "clang",
    "clang++": "clang",
    "cmake": "cmake",
    "g++": "g++",
    "gfortran": "gfortran",
    "go": "golang-go",
    "krb5-config": "libkrb5-dev",
    "make": "make",
    "meson": "meson",
    "mysql_config": "default-libmysqlclient-dev",
    "mariadb_config": "libmariadb-dev",
    "net-snmp-config": "libsnmp-dev",
    "ninja": "ninja-build",
    "node": "nodejs",
    "npm": "npm",
    "patchelf": "patchelf",
    "pg_config": "libpq-dev",
    "pkg-config": "pkg-config",
    "pkgconf": "pkg-config",
    "protoc": "protobuf-compiler",
    "rustc": "rustc",
    "swig": "swig",
    "unzip": "unzip",
    "xml2-config": "libxml2-dev",
    "xslt-config": "libxslt1-dev",
    "x86_64-linux-gnu-g++": "g++",
    "aarch64-linux-gnu-g++": "g++",
    "x86_64-linux-gnu-gcc": "gcc",
}
_NAME = r"[A-Za-z0-9_+.-]+"
# How shells, gcc, distutils, CMake, Meson and Python name a program that does not exist.
MISSING_PROGRAM = [
    re.compile(pattern)
    for pattern in (
        rf"command '({_NAME})' failed: No such file",
        rf"error: command '({_NAME})' not found",
        rf"unable to execute '({_NAME})'",
        r"gcc: fatal error: cannot execute .(cc1plus)",
        rf"(?:sh|bash)(?:: line)?(?:: \d+)?: ({_NAME}): (?:command )?not found",
        rf"No such file or directory: '({_NAME})'",
        rf"({_NAME}): (?:command )?not found",
        rf"(?:make|configure|CMake)[^\n]*: ({_NAME}): No such file",
        rf"({_NAME}) executable not found",
        rf"Could not (?:find|run) ({_NAME})",
        rf"Program '?({_NAME})'? (?:not found|found: NO)",
        rf"Did not find ({_NAME})\b",
        rf"can't find ({_NAME})\b",
    )
]
SAYINGS = {
    r"No CMAKE_CXX_COMPILER|[Uu]nknown compiler\(s\): \[\['c\+\+|a C\+\+ compiler|cc1plus": "g++",
    r"Rust compiler|can't find Rust|[Ii]nstall Rust|rustup": "cargo rustc",
    r"No CMAKE_Fortran_COMPILER|[Uu]nknown compiler\(s\): \[\['gfortran|No Fortran": "gfortran",
    r"[Pp]kg-config (is )?(not|could not)|PkgConfig|pkg-config.*not found": "pkg-config",
    r"CMake must be installed|No CMAKE_MAKE_PROGRAM|requires CMake": "cmake make",
    r"No CMAKE_C_COMPILER|no acceptable C compiler": "gcc",
}
# Headers and libraries by the Debian packages that have them.
HEADERS = {
    "ares.h": "libc-ares-dev",
    "bzlib.h": "libbz2-dev",
    "cairo.h": "libcairo2-dev",
    "curl/curl.h": "libcurl4-openssl-dev",
    "event.h": "libevent-dev",
    "ffi.h": "libffi-dev",
    "ft2build.h": "libfreetype-dev",
    "gdal.h": "libgdal-dev",
    "geos_c.h": "libgeos-dev",
    "gmp.h": "libgmp-dev",
    "graphviz/cgraph.h": "libgraphviz-dev",
    "gssapi.h": "libkrb5-dev",
    "gssapi/gssapi.h": "libkrb5-dev",
    "hdf5.h": "libhdf5-dev",
    "jpeglib.h": "libjpeg-dev",
    "lber.h": "libldap-dev",
    "ldap.h": "libldap-dev",
    "leveldb/db.h": "libleveldb-dev",
    "libmemcached/memcached.h": "libmemcached-dev",
    "libpq-fe.h": "libpq-dev",
    "libxml/xmlversion.h": "libxml2-dev libxslt1-dev",
    "libxml/xpath.h": "libxml2-dev libxslt1-dev",
    "lzma.h": "liblzma-dev",
    "magic.h": "libmagic-dev",
    "mpfr.h": "libmpfr-dev",
    "mysql.h": "default-libmysqlclient-dev",
    "openssl/opensslv.h": "libssl-dev",
    "openssl/ssl.h": "libssl-dev",
    "pcre.h": "libpcre2-dev",
    "proj.h": "libproj-dev",
    "sasl.h": "libsasl2-dev",
    "sasl/sasl.h": "libsasl2-dev",
    "snappy.h": "libsnappy-dev",
    "sodium.h": "libsodium-dev",
    "sql.h": "unixodbc-dev",
    "sqlite3.h": "libsqlite3-dev",
    "uuid/uuid.h": "uuid-dev",
    "webp/decode.h": "libwebp-dev",
    "xmlsec/xmlsec.h": "libxmlsec1-dev pkg-config",
    "yaml.h": "libyaml-dev",
    "zbar.h": "libzbar-dev",
    "zlib.h": "zlib1g-dev",
    "zmq.h": "libzmq3-dev",
}
MISSING_HEADER = re.compile(r"fatal error: ([\w./+-]+\.h(?:pp|xx)?): No such file")
COMPILING = (
    r"Failed (to build|building wheel)|error: command .* failed|metadata-generation-failed"
    r"|subprocess-exited-with-error"
)
ADVICE = {
    r"Could not find a version|No matching distribution|requires a different Python": (
        "A version in the list does not exist for this Python ({python}), or the index does not "
        "have it: raise the version, choose the Python that it needs with `python` in the app's "
        "entry, or use a Dockerfile."
    ),
    r"CERTIFICATE_VERIFY_FAILED|SSLError": (
        "Downloads pass through a proxy with its own certificate authority: set build_ca_bundle."
    ),
    r"THESE PACKAGES DO NOT MATCH THE HASHES": (
        "A download is not what the list was made with: make the list again, and look at what "
        "changed before you deploy it."
    ),
    r"all requirements must have their versions pinned|Hashes are required in --require-hashes": (
        "One line of the list has a hash, so all need a version and a hash: make the list again "
        "with pip-compile --generate-hashes."
    ),
    r"Permission denied \(publickey|Load key|could not read Username|Authentication failed": (
        "A repository in the list is private: put its key into vault_deploy_keys under the "
        "repository's address, or its user and token into vault_build_secrets as NETRC, or set "
        "ssh_agent: true to use your own SSH agent."
    ),
    r"\b401 (Client )?Error|403 (Client )?Error|401 Unauthorized|403 Forbidden": (
        "An index refused the login: put its user and token into vault_build_secrets as NETRC."
    ),
    r"administratively prohibited|No route to host": (
        "The list names a private address: name it in docker_builds_may_reach."
    ),
}
NO_WHEEL = (
    "{package} has no wheel for this Python ({python}) and could not be compiled. Versions older "
    "than this Python often cannot: raise the version, or choose an older Python with `python` in "
    "the app's entry."
)
OTHERWISE = (
    " Otherwise add the Debian packages that it needs to build_packages, such as "
    "default-libmysqlclient-dev, pkg-config or libxml2-dev."
)


def missing_packages(output: str) -> list[str]:
    """Name the Debian packages whose programs, headers or libraries a compilation did not find."""
    found = []
    for pattern in MISSING_PROGRAM:
        for name in pattern.findall(output):
            if name == "cc1plus":
                found.append("g++")
            elif name in PROGRAMS:
                found += PROGRAMS[name].split()
    for pattern, names in SAYINGS.items():
        if re.search(pattern, output):
            found += names.split()
    for header in MISSING_HEADER.findall(output):
        found += HEADERS.get(header, "").split()
    return list(dict.fromkeys(found))


def failed_package(output: str) -> str:
    """Name the package that could not be compiled, as far as pip's output tells."""
    end = re.search(r"finished with status 'error'|Failed building wheel|\berror: ", output)
    before = output[: end.end() if end else None]
    if match := re.search(r"Failed (?:building wheel for|to build) (\S+)", output):
        return match[1]
    found = re.findall(r"(?:Collecting|Building wheel for) ([^\s(]+)", before)
    return found[-1] if found else "A package"


def advise(output: str, python: str) -> list[str]:
    """
    Suggest what to do about the errors in pip's output.

    Parameters
    ----------
    output : str
        What pip printed.
    python : str
        Version of the app's Python, such as ``3.13``.

    Returns
    -------
    list of str
        Sentences, the most important first.
    """
    if NO_NAME.search(output):
        return [NO_RESOLVER_ADVICE if re.search(NO_RESOLVER, output) else NO_NAME_ADVICE]
    found = []
    if re.search(COMPILING, output):
        packages, package = missing_packages(output), failed_package(output)
        if packages:
            found.append(
                f"{package} could not be compiled without {' and '.join(packages)}: add "
                f"`build_packages: [{', '.join(packages)}]` to the app's entry."
            )
        found.append(
            NO_WHEEL.format(package=package, python=python) + ("" if packages else OTHERWISE)
        )
    for pattern, text in ADVICE.items():
        if re.search(pattern, output):
            found.append(text.format(python=python))
    return found
