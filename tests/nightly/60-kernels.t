#!/bin/sh
# Every example boots with both kernels, cold and restored, and says which; without a slim kernel it is said how to get one.
. "$(dirname "$0")/../lib/tap.sh"
wants_kernels=1
. "$(dirname "$0")/../lib/e2e.sh"
unset MVM_NO_PERSISTENT_BUILDER # one builder for all

# with KERNEL EXAMPLE: builds and boots it.
with() {
    flake=$tmp/$2-$1
    example "$2" "$flake"
    [ "$1" = distribution ] || sed -i "s/^\( *\)name = .*;/&\n\1kernel = \"$1\";/" "$flake/flake.nix"
    run mvm build --flake "$flake" --json
    is "$2 with the $1 kernel is built, and says so" "$(json .kernel_kind)/$status" "$1/0"
    check 'it boots cold' mvm exec --flake "$flake" --cold -- true
}

for folder in "$MVM_SOURCE"/examples/*/; do
    with distribution "$(basename "$folder")"
done

if [ "$(uname -m)" != x86_64 ]; then
    skip 'the slim kernel' 'it is described for x86_64 only'
    finish
fi
built=$(stat -Lc %i "$MVM_CACHE_DIR/kernels/slim/vmlinux")
run timeout -k 5 60 "$MVM_SOURCE/tools/build-kernel"
is 'a kernel that is there is not built again' "$(stat -c %i "$out")/$status" "$built/0"
for folder in "$MVM_SOURCE"/examples/*/; do
    with slim "$(basename "$folder")"
done
flake=$tmp/hello-slim
run mvm build --flake "$flake" --verbose
has 'the kernel is named for people too' "$err" 'kernel: slim'
image=$(mvm build --flake "$flake" --json | jq -r .kernel)
check 'it has no initrd' test ! -e "$(dirname "$image")/initrd"
run mvm up --flake "$flake" --name s --json
is 'the first boot leaves a snapshot' "$(json .mode)/$status" cold/0
mvm down s >/dev/null
run mvm up --flake "$flake" --name s --json --cpus 1
is 'the second is restored from it' "$(json .mode)/$status" warm/0
has 'it runs the slim kernel' "$(mvm exec s -- hello)" '^Hello from s, a microVM on Linux 6\..*-mvm-slim\.$'
is 'with its network' "$(mvm exec s -- sh -c 'ip addr show eth0 | grep -c 10.0.2.15')/$(json .address)" 1/10.0.2.15/24
is 'what is written stays in its memory' "$(mvm exec s -- sh -c 'echo x >/etc/x && cat /etc/x; mount | grep -c "^overlay on / "')" "$(printf 'x\n1')"
# What the configuration promises, by the kernel's own lists.
is 'with the file systems' "$(mvm exec s -- sh -c 'for f in ext4 erofs overlay tmpfs cgroup2 fuse; do grep -qw $f /proc/filesystems || echo $f; done')" ''
is 'cgroups and namespaces' "$(mvm exec s -- sh -c 'for f in memory pids cpu io cpuset; do grep -qw $f /sys/fs/cgroup/cgroup.controllers || echo $f; done; for f in mnt net pid user uts ipc cgroup time; do [ -e /proc/self/ns/$f ] || echo $f; done')" ''
is 'seccomp' "$(mvm exec s -- sh -c 'grep -c ^Seccomp_filters /proc/self/status')" 1
sleeps=$(mvm exec s -- sh -c 'read a b </proc/uptime; sleep 2; read c d </proc/uptime; echo "$a $c"')
check "its timer keeps time ($sleeps)" sh -c "echo '$sleeps' | awk '{ d = \$2 - \$1; exit !(d > 1.9 && d < 20) }'"
mvm down s >/dev/null
check 'R13: the slim kernel boots with 64 MiB' mvm exec --flake "$flake" --cold --memory 64M -- hello
check 'two processors and 512 MiB' sh -c "'$MVMCTL' exec --flake '$flake' --cold --cpus 2 --memory 512M -- nproc | grep -qx 2"

# Its agent over a virtio socket, in the stand-in for Firecracker with QEMU and a vhost-user device behind it.
if [ -x "${MVM_TEST_VHOST_VSOCK:-}" ]; then
    folder=$(dirname "$image")
    mkdir "$tmp/path"
    ln -s "$MVM_SOURCE/tests/fake/firecracker" "$tmp/path/firecracker"
    (
        MVM_HOME=$tmp/vsock
        PATH=$tmp/path:$PATH
        believe_kvm "$folder"
        mvm up "$folder" --name v --hypervisor firecracker --network none --cold >/dev/null 2>&1
        mvm exec v -- uname -r
        seq 100000 | mvm exec v -- cat | cksum
        mvm down v
    ) >"$tmp/said"
    has 'a guest whose machine has no console reaches the host over a virtio socket' "$(head -n 1 "$tmp/said")" 'mvm-slim$'
    is 'and carries what goes in and out' "$(sed -n 2p "$tmp/said")" "$(seq 100000 | cksum)"
else
    skip 'a guest whose machine has no console' 'MVM_TEST_VHOST_VSOCK names no vhost-device-vsock'
fi

# A kernel that has not been built.
sed -i 's/kernel = .*/kernel = "fast";/' "$flake/flake.nix"
run mvm build --flake "$flake"
has 'another kernel is refused with the list' "$err" 'mkGuest: kernel: expected distribution or slim'
mvm dev down >/dev/null 2>&1
rm "$MVM_CACHE_DIR/kernels/slim"
sed -i 's/kernel = .*/kernel = "slim";/' "$flake/flake.nix"
run mvm build --flake "$flake"
is 'without a slim kernel: phase nix-eval' "$status" 11
has 'it is said' "$err" 'mkGuest: kernel: the slim kernel has not been built'
has 'and how to get it' "$err" 'hint: tools/build-kernel '
finish
