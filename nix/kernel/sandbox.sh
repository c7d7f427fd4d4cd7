# shellcheck shell=sh disable=SC2154 # Nix sets busybox, recipe, config, sourceArchive, toolchain, out
# Runs in Nix's sandbox under the builder's busybox: unpacks the toolchain, and builds the kernel with it as the root file system, in
# a user namespace of its own, because the toolchain's programs look for their libraries below /.
set -eu
bb=$busybox
root=$PWD/root
work=/build-kernel
"$bb" mkdir -p "$root$work/source" "$root$work/objects" "$root$work/recipe" "$root/proc" "$root/dev" "$root/tmp"
echo 'unpacking the toolchain'
"$bb" tar -C "$root" -xzf "$toolchain"
echo 'unpacking the source'
"$bb" tar -C "$root$work/source" -xzf "$sourceArchive"
"$bb" cp "$recipe/build.sh" "$recipe/$config" "$recipe"/*.c "$root$work/recipe/"
"$bb" cat >"$root$work/run" <<RUN
export PATH=/usr/bin:/bin JOBS=${NIX_BUILD_CORES:-1}
exec sh $work/recipe/build.sh $work/source $work/recipe/$config $work/objects $work/vmlinux
RUN
"$bb" unshare -U -r -m "$bb" sh -c "$bb mount --rbind /dev '$root/dev' && $bb mount --rbind /proc '$root/proc' &&
    exec $bb chroot '$root' /bin/sh $work/run"
"$bb" mkdir "$out"
"$bb" cp "$root$work/vmlinux" "$out/vmlinux"
"$bb" cp "$root$work/objects/.config" "$out/config"
