"""What the keys of an app say about its Postgres: extensions, locale and version."""

from __future__ import annotations

import re
from collections.abc import Iterable

# The extensions that come with Postgres 17, in the packages of Debian and in upstream's image:
# https://www.postgresql.org/docs/17/contrib.html
INCLUDED = {
    *("amcheck", "autoinc", "bloom", "btree_gin", "btree_gist", "citext", "cube", "dblink"),
    *("dict_int", "dict_xsyn", "earthdistance", "file_fdw", "fuzzystrmatch", "hstore"),
    *("insert_username", "intagg", "intarray", "isn", "lo", "ltree", "moddatetime"),
    *("pageinspect", "pg_buffercache", "pg_freespacemap", "pg_prewarm", "pg_stat_statements"),
    *("pg_surgery", "pg_trgm", "pg_visibility", "pg_walinspect", "pgcrypto", "pgrowlocks"),
    *("pgstattuple", "plpgsql", "postgres_fdw", "refint", "seg", "sslinfo", "tablefunc", "tcn"),
    *("tsm_system_rows", "tsm_system_time", "unaccent", "uuid-ossp", "xml2"),
}
# The Debian package of each other extension. The archive that upstream's image has its packages
# from uses the same names.
PACKAGES = {
    **dict.fromkeys(
        (
            *("postgis", "postgis_raster", "postgis_sfcgal", "postgis_topology"),
            *("postgis_tiger_geocoder", "address_standardizer", "address_standardizer_data_us"),
        ),
        "postgis-3",
    ),
    "age": "age",
    "debversion": "debversion",
    "h3": "h3",
    "hll": "hll",
    "hypopg": "hypopg",
    "icu_ext": "icu-ext",
    "ip4r": "ip4r",
    "jsquery": "jsquery",
    "ogr_fdw": "ogr-fdw",
    "orafce": "orafce",
    "periods": "periods",
    "pg_partman": "partman",
    "pg_similarity": "similarity",
    "pgmp": "pgmp",
    "pgrouting": "pgrouting",
    "pgtap": "pgtap",
    "plpgsql_check": "plpgsql-check",
    "prefix": "prefix",
    "q3c": "q3c",
    "roaringbitmap": "roaringbitmap",
    "rum": "rum",
    "semver": "semver",
    "tdigest": "tdigest",
    "timescaledb": "timescaledb",
    "unit": "unit",
    "vector": "pgvector",
}
# Extensions whose library the server must load at its start.
PRELOADED = ("pg_stat_statements", "timescaledb")
# Names under which people know an extension.
ALSO_CALLED = {"pgvector": "vector", "uuid_ossp": "uuid-ossp", "trgm": "pg_trgm", "gis": "postgis"}

# The version in Debian 13. The tags of images that are built from its packages show none.
DEBIAN_MAJOR = "17"

# The locale of databases without the key, and other ways to write it.
PLAIN_LOCALES = ("", "C", "C.UTF-8", "C.utf8", "POSIX")
ICU_LOCALE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")


def image_major(image: str) -> str:
    """Read the major version from an image's name, such as ``postgres:17.2-trixie``."""
    match = re.search(r":(\d{1,2})(?=[.@-]|$)", image.rpartition("/")[2])
    return match[1] if match else DEBIAN_MAJOR


def extension_packages(extensions: Iterable[str], image: str) -> list[str]:
    """Name the Debian packages of extensions that an image of Postgres does not include."""
    major = image_major(image)
    return sorted({f"postgresql-{major}-{PACKAGES[e]}" for e in extensions if e in PACKAGES})


def icu_locale(locale: str) -> str:
    """Return the language tag of a locale, or of a collation such as ``de-x-icu``; empty for C."""
    if locale in PLAIN_LOCALES:
        return ""
    return locale.removesuffix("-x-icu").replace("_", "-")


def postgres_image(image: str, version: int | str | None) -> str:
    """Choose the image of a major version, from the name of another version's."""
    if not version or image_major(image) == str(version):
        return image
    host, slash, last = image.partition("@")[0].rpartition("/")
    name, _, tag = last.partition(":")
    name = f"{host}{slash}{name}"
    # The minor version and the digest belong to the other image.
    return f"{name}:{version}{tag.partition('-')[1]}{tag.partition('-')[2]}"
