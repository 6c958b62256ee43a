# Sourced by .ci/run, from the root of the repository: the Python that several steps need.

# Fail, saying what to install, unless python3 can make a virtual environment for the pinned wheels.
python_ready() {
    if ! python3 -c 'import ensurepip' 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install --yes --quiet python3-venv
    fi
    if ! python3 -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
        echo 'The steps with pinned wheels need python3, version 3.11 to 3.13, with venv and ensurepip.' >&2
        echo 'On Debian and Ubuntu: apt-get install python3 python3-venv' >&2
        return 1
    fi
}
