"""The package of the repository, which the site in a folder beside it imports."""

NAMES = ("Zagreb", "Ärmelkanal", "Aachen")
