"""What is left out of every folder, in gitignore syntax, and how each can be taken back in.

``[index] include`` and the ``include`` of a folder override every list here; so does ``!pattern`` in a
``.folder-mcpignore`` file. A ``.gitignore`` file cannot: it may only leave out more.
"""

from __future__ import annotations

EXCLUDES = (
    # version control
    ".git", ".hg/", ".svn/", ".bzr/", ".jj/", "CVS/", "_darcs/",
    # dependencies and environments
    "node_modules/", "bower_components/", ".venv/", "venv/", ".tox/", ".nox/", ".pixi/", ".yarn/", ".pnpm-store/",
    # caches
    "__pycache__/", ".cache/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".gradle/",
    ".ipynb_checkpoints/", ".parcel-cache/", ".turbo/", ".terraform/",
    # build output
    "build/", "dist/", "target/", ".next/", ".nuxt/", ".eggs/", "*.egg-info/", "*.pyc", "*.class", "*.o",
    # editors and desktops
    ".idea/", ".DS_Store", "._*", "Thumbs.db", "desktop.ini", "~$*", ".~lock.*#", "*.swp", "*.swo", "*~", ".#*", "#*#",
    "*.part", "*.crdownload", "*.partial",
    # bins and system areas of a disk
    "$RECYCLE.BIN/", "System Volume Information/", "lost+found/", ".Trash/", ".Trash-*/", ".Trashes/",
    ".Spotlight-V100/", ".fseventsd/", ".DocumentRevisions-V100/", ".snapshots/", ".zfs/",
)  # fmt: skip
"""Machine-made, repeated or empty of meaning. Matched with letter case."""

SECRETS = (
    # environment files; the samples that projects publish are none
    ".env", ".env.*", "*.env", ".envrc", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist",
    # private keys and their containers
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.kdb", "*.ppk", "*.agilekeychain/",
    "*.opvault/", "*.keychain", "*.keychain-db", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.ovpn",
    # credentials of tools
    ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd", ".my.cnf", ".dockercfg",
    ".vault-token", "*.tfstate", "*.tfstate.backup", "credentials", "credentials.json", "client_secret*.json",
    "service-account*.json", "service_account*.json", "secrets.yml", "secrets.yaml", "secrets.toml", "secrets.json",
    ".ssh/", ".gnupg/", ".aws/", ".azure/", ".kube/", ".docker/", ".password-store/", "keychains/", "gcloud/",
    # browser profiles
    ".mozilla/", ".thunderbird/", "google-chrome/", "chromium/", "bravesoftware/", "cookies.sqlite", "key4.db",
    "logins.json", "login data", "cookies",
)  # fmt: skip
"""Names that promise a secret. Matched without letter case; each refused name is reported.

Every pattern here and in the other lists is a name, or has a fixed beginning or end (``Rules.clues``).
"""

HIDDEN = (".*", "!.github")
"""Left out unless ``[index] hidden`` is true."""
