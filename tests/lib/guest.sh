# Sourced behind tap.sh by tests that boot the test guest (tests/guest): ready in milliseconds, with no Linux in it.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared between the test files

# shellcheck source=tests/lib/vms.sh
. "$MVM_SOURCE/tests/lib/vms.sh"
cleanup() { mvm down --all >/dev/null 2>&1 || :; }
has_test_guest() { [ -e "$MVM_RELEASE/tests/guest/test-guest" ] && command -v "qemu-system-$(uname -m)" >/dev/null; }
# Ends a test file where there is none.
need_test_guest() {
    has_test_guest && return
    skip 'the test guest boots' 'it is made for x86-64 alone, and QEMU runs it'
    finish
}
# test_image FOLDER: makes an image of it, for `mvmctl up FOLDER`. As those of mkGuest, it has the word for an earlier mvmctl.
test_image() {
    mkdir -p "$1"
    cp "$MVM_RELEASE/tests/guest/test-guest" "$1/vmlinux"
    truncate -s 1M "$1/vmlinux"
    mke2fs -q -t ext4 -O ^has_journal "$1/rootfs.ext4" 1M >/dev/null 2>&1
    printf '{"name":"test","system":"%s-linux","agent_protocol":1,"memory_mib":32,"min_memory_mib":16,"vcpus":1,"kernel_kind":"slim","devices":"cmdline","kernel_offers":["mmio-cmdline","vsock","console"]}\n' \
        "$(uname -m)" >"$1/image.json"
}
# The snapshot of a first boot is synced and kept a moment after its VM is ready.
snapshot_kept() { [ -n "$(find "$MVM_CACHE_DIR/snapshots" -path '*.new/*' -prune -o -name meta.json -print 2>/dev/null)" ]; }
