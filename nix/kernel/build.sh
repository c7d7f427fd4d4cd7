#!/bin/sh
# Configures and compiles a kernel: build.sh SOURCE CONFIG OBJECTS OUTPUT. SOURCE is a kernel's unpacked source, to which the
# files beside this one are added; OBJECTS is an empty folder; OUTPUT becomes the ELF that boots by PVH. The same source,
# configuration and compiler give the same bytes. RUN is put before make (tools/build-kernel: so that it ends with its
# parent), JOBS run side by side.
set -eu
source=$1 config=$2 objects=$3 output=$4

# What the user's environment says does not get into the kernel.
unset MAKEFLAGS MFLAGS KCFLAGS KAFLAGS KCPPFLAGS CFLAGS LDFLAGS ARCH CROSS_COMPILE LOCALVERSION KCONFIG_CONFIG
export LC_ALL=C KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=mvm KBUILD_BUILD_HOST=mvm \
    KBUILD_BUILD_VERSION=1

build() {
    # shellcheck disable=SC2086 # RUN is a list of words
    ${RUN:-} make -s -C "$source" O="$objects" "$@"
}

echo 'configuring'
cp "$(dirname "$0")/lapic_timer.c" "$source/arch/x86/kernel/"
grep -q lapic_timer.o "$source/arch/x86/kernel/Makefile" || echo 'obj-y += lapic_timer.o' >>"$source/arch/x86/kernel/Makefile"
build KCONFIG_ALLCONFIG="$config" allnoconfig
# An option that this source does not know, or whose conditions are not met, is dropped in silence by the above.
bad=0
while read -r line; do
    case $line in
    CONFIG_*) grep -qxF "$line" "$objects/.config" || { echo "not taken over: $line" >&2; bad=1; } ;;
    '# CONFIG_'*' is not set')
        option=${line#\# }
        if grep -q "^${option% is not set}=" "$objects/.config"; then
            echo "not taken over: $line" >&2
            bad=1
        fi
        ;;
    esac
done <"$config"
[ "$bad" = 0 ]

echo 'compiling'
build -j "${JOBS:-1}" vmlinux
strip -s -o "$output" "$objects/vmlinux"
