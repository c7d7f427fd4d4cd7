#!/bin/sh
# A guest for aarch64 on a machine of another kind: its agent from the cross compiler, kernel and shell from the distribution's
# archive, put together by hand, because there is no builder for that architecture yet.
# shellcheck disable=SC2016 # for apt and other shells
. "$(dirname "$0")/../lib/tap.sh"
. "$MVM_SOURCE/tests/lib/vms.sh"
ours "$MVM_HOME" "$MVM_CACHE_DIR"
cleanup() { mvm down --all >/dev/null 2>&1 || :; }
for program in qemu-system-aarch64 aarch64-linux-gnu-gcc mmdebstrap; do
    if ! command -v "$program" >/dev/null; then
        skip 'a guest for aarch64' "there is no $program"
        finish
    fi
done
# The machine's own apt configuration says where packages come from, as when a builder is made.
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
archive=$(apt-get indextargets --format '$(CODENAME)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' | sed -n "s/^$release|main|//p" | head -n 1)
suite=$(sed -n 's/^#define PACKAGES_SUITE "\(.*\)"/\1/p' "$MVM_SOURCE/src/bootstrap/packages.h")
packages=$tmp/packages
check 'kernel and shell come from the archive of arm64' mmdebstrap --variant=extract --mode=chrootless --format=directory \
    --architectures=arm64 --include=busybox-static,linux-image-cloud-arm64 "$suite" "$packages" \
    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main"
check 'the agent is compiled for aarch64' ninja -C "$MVM_RELEASE" mvm-init-aarch64

# ---- The image ----
image=$tmp/image
mkrootfs=$MVM_RELEASE/src/image/mvm-mkrootfs
mkdir -p "$image" "$tmp/modules" "$tmp/programs"
cp "$MVM_RELEASE/mvm-init-aarch64" "$tmp/programs/mvm-init"
n=10
for module in virtio_blk failover net_failover virtio_net overlay; do # each after what it depends on
    find "$packages/usr/lib/modules" -name "$module.ko.xz" -exec xz -dc {} \; >"$tmp/modules/$n-$module.ko"
    n=$((n + 1))
done
cp "$packages"/boot/vmlinuz-* "$image/vmlinux"
cp "$MVM_SOURCE/nix/tools/kernels/distribution/cmdline.txt" "$image/"
check 'its initrd is made' "$mkrootfs" --spec "$MVM_SOURCE/nix/images/builder-vm/initrd.spec" --format initrd \
    --output "$image/initrd" --set programs="$tmp/programs" --set modules="$tmp/modules"
{
    printf '%s\n' 'label hello' 'uuid-from hello' 'link /bin usr/bin' 'link /sbin usr/sbin'
    for folder in dev proc sys run tmp var/tmp mnt root; do echo "dir 0755 /$folder"; done
    echo "file 0755 /usr/sbin/mvm-init $tmp/programs/mvm-init"
    echo "file 0755 /usr/bin/busybox $packages/usr/bin/busybox"
    for applet in sh sleep uname cat hostname poweroff wc; do echo "link /usr/bin/$applet busybox"; done
    echo 'text 0644 /etc/passwd root:x:0:0:root:/root:/bin/sh%0a'
    echo 'text 0755 /usr/bin/hello #!/bin/sh%0aecho "Hello from $(hostname), on $(uname -m)."%0a'
    echo 'text 0644 /etc/mvm/guest.conf network static%0aservice hello%0aarg /bin/sh%0aarg -c%0aarg hello; exec sleep 1000000%0auser root%0arestart no%0a'
} >"$tmp/spec"
check 'its root file system is made' "$mkrootfs" --spec "$tmp/spec" --output "$image/rootfs.ext4"

# ---- Its life ----
run mvm up "$image" --name a --timeout 120 --json
is 'an aarch64 guest boots' "$(json .mode)/$status" cold/0
run mvm exec a -- hello
is 'it answers' "$out/$status" "Hello from a, on aarch64./0"
check 'its service has run' sh -c '"$1" logs a | grep -q "Hello from a"' sh "$MVMCTL"
run mvm inspect a
has 'it is emulated, and why is told' "$out" 'the guest is for aarch64'
head -c 3000000 /dev/urandom >"$tmp/bytes"
check 'a file is copied into it' mvm cp "$tmp/bytes" a:/tmp/bytes
is 'with all its bytes' "$(mvm exec a -- wc -c /tmp/bytes)" '3000000 /tmp/bytes'
check 'it is paused' mvm pause a
check 'it goes on' mvm resume a
is 'as it was' "$(mvm exec a -- uname -m)" aarch64
check 'it is saved while it runs' mvm snapshot create a now
run mvm up --from a:now --name b --json
is 'another continues from there' "$(mvm exec b -- sh -c 'hostname; wc -c </tmp/bytes' | tr '\n' ' ')/$status" 'b 3000000 /0'
run mvm up "$image" --name c --json
is 'one more is restored from its first boot' "$(json .mode)/$status" warm/0
is 'it answers too' "$(mvm exec c -- hello)" 'Hello from c, on aarch64.'
mvm exec c -- poweroff -f >/dev/null 2>&1
check 'a guest that powers itself off ends' eventually 20 sh -c '! "$1" ls --json | jq -e ".vms[] | select(.name == \"c\" and .state == \"ready\")"' sh "$MVMCTL"
check 'the others end when they are told' mvm down --all
is 'nothing of them is left' "$(vm_processes)" ''
finish
