# shellcheck shell=sh disable=SC2154 # Nix sets packages, source, out
# Runs in Nix's sandbox under the packages' busybox: the seed's packages and this checkout become a builder image.
# $packages is the seed's /usr.
set -eu
bb=$packages/bin/busybox
image=$source/images/builder-vm

# The slim kernel is there only where tools/build-kernel has built it.
slim=$source/programs/slim
[ -d "$slim" ] || { slim=$PWD/slim && "$bb" mkdir "$slim"; }

# An older seed does not say what its kernel was configured with.
config=$packages/share/mvm/kernel.config
[ -e "$config" ] || { config=$PWD/config && : >"$config"; }

make() {
    "$source/programs/mvm-mkrootfs" --set packages="$packages" --set programs="$source/programs" --set nix="$source" \
        --set image="$image" --set modules="$packages/share/mvm/modules" \
        --set kernel="$packages/share/mvm/kernels/distribution/vmlinux" --set list="$packages/share/mvm/packages.txt" \
        --set initrd="$out/initrd" --set slim="$slim" --set config="$config" "$@"
}

"$bb" mkdir "$out"
"$bb" cp "$packages/share/mvm/kernels/distribution/vmlinux" "$out/vmlinux"
"$bb" cp "$image/cmdline.txt" "$out/cmdline.txt"
make --spec "$image/initrd.spec" --format initrd --output "$out/initrd"
make --spec "$image/rootfs.spec" --output "$out/rootfs.ext4"
"$source/programs/mvm-mkrootfs" --manifest "$out"
