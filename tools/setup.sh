# shellcheck shell=sh disable=SC2034 # the names are for those who source this
# Sourced by tools/demo and tools/check: phases with their seconds, and the Debian packages both need.

packages_build="gcc libc6-dev meson ninja-build pkg-config libjson-c-dev libssl-dev libuv1-dev libext2fs-dev comerr-dev
libzstd-dev liblzma-dev zlib1g-dev libcurl4-openssl-dev libgit2-dev libsqlite3-dev libslirp-dev"
packages_run="qemu-system-x86 bubblewrap libslirp0 mmdebstrap git ca-certificates"
packages_kernel="linux-source gcc libc6-dev make flex bison bc libelf-dev xz-utils"
packages_aarch64="qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross" # guests of that architecture, and their agent
packages_check="clang clang-format clang-tidy libclang-rt-14-dev shellcheck mandoc perl e2fsprogs procps jq python3 strace
iproute2 curl minisign openssl dpkg-dev zsh fish python3-pexpect python3-pip chromium"

phase_name=
phase_log=
phase() {
    phase_end
    phase_name=$1
    phase_start=$(date +%s)
    printf '== %s\n' "$phase_name"
}
phase_end() {
    [ -n "$phase_name" ] || return 0
    phase_log="$phase_log$(printf '%-34s %4d s' "$phase_name" $(($(date +%s) - phase_start)))
"
    phase_name=
}
phase_summary() {
    phase_end
    printf '\n%s' "$phase_log"
}

# Installs what is missing of the packages named: as root, or by sudo where it asks for nothing; else says what to do.
need_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    else
        printf 'These packages are missing; ask an administrator to run:\n  apt-get install --no-install-recommends%s\n' "$missing" >&2
        exit 1
    fi
    echo "installing:$missing"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# linux-source depends on the package of the present version, which has the source as a tar archive: package, version, tarball.
kernel_source_package() {
    package=$(dpkg-query -W -f '${Depends}' linux-source)
    package=${package%% *}
    version=$(dpkg-query -W -f '${Version}' "$package")
    tarball=$(dpkg-query -L "$package" | grep '\.tar\.xz$') || fail "$package has no source in it" 'install linux-source again'
}
