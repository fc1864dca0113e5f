#!/bin/sh
# Makes the virtual environment $1 and installs gpujob with the extras $2 (all that are light, if not given), pinned by
# constraints.txt and, where given, the file $3 too.
# Needs Python >= 3.11 and its venv module, which bare Debian and Ubuntu ship apart.
set -eu
venv=$1
extras=${2:-all,dev}
more=${3:+-c $3}
python=${PYTHON:-python3}

fail() { printf '%s\n' "$@" >&2; exit 1; }

command -v "$python" >/dev/null || fail "There is no '$python' here. Install Python 3.11 or newer."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "gpujob needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1)." "Name another: make PYTHON=python3.12 ..."

if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Python's venv module is missing; installing $package ..."
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
    else
        fail "Python's venv module is missing. Install it, then run make again:" "    sudo apt-get install $package"
    fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "Installing gpujob into $venv (once; about a minute) ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt $more -e ".[$extras]"
