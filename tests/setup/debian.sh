#!/bin/sh
# See to the programs that the demo or the tests need: by apt as root, else say what is missing and how to get it.
#   debian.sh demo   a Python with venv, git, rsync
#   debian.sh test   also sshd, ssh, login shells, Ceph, PostgreSQL, Slurm, Chromium and FUSE
#   debian.sh bench  also FUSE, lsyncd, curl, PostgreSQL and Slurm
# Without a must (venv, git, rsync) this ends with an error. Tests whose program is missing skip and say so.
set -eu
here=$(dirname -- "$0")
what=${1:?usage: debian.sh demo|test|bench}

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

# Debian keeps the server's programs away from $PATH.
postgresql() {
    has initdb || [ -n "$(find /usr/lib/postgresql -name initdb 2>/dev/null | head -n 1)" ] || others="$others postgresql"
}

slurm() {
    has slurmctld && has slurmd && has sbatch || others="$others slurm-wlm slurm-wlm-basic-plugins"
    has munged || others="$others munge"
}

list_missing() {
    musts= others=
    sh "$here/python.sh" newest >/dev/null || musts="python3 python3-venv"
    has git || musts="$musts git"
    has rsync || musts="$musts rsync"
    if [ "$what" = test ]; then
        has sshd || others="$others openssh-server"
        has ssh || others="$others openssh-client"
        # A store that people run; rclone and moto come by pip.
        has radosgw || others="$others radosgw ceph-mon ceph-osd ceph-base ceph-common"
        has openssl || others="$others openssl"
        postgresql
        slurm
        # Login shells that people have on other machines.
        for shell in zsh fish tcsh; do has "$shell" || others="$others $shell"; done
        has chromium || has google-chrome || others="$others chromium"
        # The browser's driver is a node that links to it.
        [ -n "$(find /usr/lib /lib -name 'libatomic.so.1' 2>/dev/null | head -n 1)" ] || others="$others libatomic1"
        # Without any font Chromium draws no letters at all.
        [ -n "$(find /usr/share/fonts -name '*.ttf' 2>/dev/null | head -n 1)" ] || others="$others fonts-dejavu-core"
    fi
    if [ "$what" != demo ]; then
        # The stand-in for Google Drive is a FUSE file system.
        has fusermount3 || others="$others fuse3"
    fi
    if [ "$what" = bench ]; then
        postgresql
        slurm
        has lsyncd || others="$others lsyncd"
        has curl || others="$others curl"
    fi
    missing=$(echo $musts $others)
}

# Installing openssh-server must not start a server on this machine: the tests start their own, on 127.0.0.1.
install_quietly() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT INT TERM
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q && apt-get install -q -y --no-install-recommends $missing
}

list_missing
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && has apt-get; then
    echo "Installing by apt: $missing"
    install_quietly </dev/null || echo "apt could not install all of it." >&2
    list_missing
    [ -n "$missing" ] || exit 0
fi
echo "Missing on this machine: $missing" >&2
echo "→ Install it, then run make again: sudo apt-get install $missing" >&2
case $musts in
*python3*) echo "  (Python has to be 3.11 or later; another one is named by: PYTHON=… make $what)" >&2 ;;
esac
[ -z "$musts" ] || exit 1
echo "Going on without: the tests that need it skip." >&2
