#!/bin/sh
# The test guest with its devices on a PCI bus: on the machine that mvmctl gives a kernel which offers that alone, where
# ACPI names the bus and no firmware sets it up, and on two PCs, where firmware does, and loads the kernel: ACPI names the
# newer one's bus, the older one's is reached by ports.
# shellcheck source=tests/lib/tap.sh disable=SC2154 # out, err, status
. "$(dirname "$0")/../lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$(dirname "$0")/../lib/guest.sh"
need_test_guest
image=$tmp/image
test_image "$image"
sed -i 's/"kernel_offers":[^]]*]/"kernel_offers":["pci","console"]/' "$image/image.json"
qemu=qemu-system-$(uname -m)
arguments() { tr '\0' ' ' <"/proc/$(field "$1" vmm_pid)/cmdline"; }

# serves NAME WHERE: that VM works.
serves() {
    is "a program runs in it $2" "$(mvm exec "$1" -- echo hello)" hello
    is "what goes in comes out $2" "$(seq 20000 | mvm exec "$1" -- cat | cksum)" "$(seq 20000 | cksum)"
}

run mvm up "$image" --name micro --json
is 'a guest whose kernel knows PCI alone boots' "$status/$(json .mode)" 0/cold
has 'all its devices are on that bus' "$(arguments micro)" 'pcie=on.*virtio-blk-pci.*virtio-net-pci.*virtio-serial-pci'
is 'none is on another' "$(arguments micro | grep -o 'virtio-[a-z]*-device')" ''
serves micro 'without firmware'
check 'the snapshot of its boot is kept' eventually 20 snapshot_kept
run mvm up "$image" --name again --json
is 'the next one starts warm' "$status/$(json .mode)/$(mvm exec again -- hostname)" 0/warm/again
run mvm fork again twin
is 'it is forked' "$status/$(mvm exec twin -- hostname)" 0/twin
mvm down --all >/dev/null

# on MACHINE: what `up` starts is that one.
mkdir "$tmp/path"
cat >"$tmp/path/$qemu" <<N
#!/bin/sh
for arg in "\$@"; do
    shift
    case \$arg in microvm,*) arg=\$MACHINE,memory-backend=ram ;; esac
    set -- "\$@" "\$arg"
done
exec $(command -v "$qemu") "\$@"
N
chmod +x "$tmp/path/$qemu"
PATH=$tmp/path:$PATH
for machine in q35 pc; do
    run env MACHINE=$machine "$MVMCTL" up "$image" --name $machine --cold --json
    is "it boots on QEMU's machine $machine" "$status/$(json .mode)" 0/cold
    has "and that is what it is on" "$(arguments $machine)" " -M $machine,"
    serves $machine "behind the firmware of $machine"
done
finish
