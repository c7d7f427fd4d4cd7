# Sourced by end-to-end tests behind tap.sh. The first test file makes a builder from nothing and leaves it as a template; the
# others begin with a copy of it, so that they can run side by side.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared between the test files
# shellcheck source=tests/lib/vms.sh
. "$MVM_SOURCE/tests/lib/vms.sh"
template=$MVM_TEST_TMP/template
export MVM_HOME MVM_CACHE_DIR
ours "$MVM_HOME" "$MVM_CACHE_DIR"
# Images are copied and not linked: a link that another test file makes or removes would count as a touch of the image (its
# ctime changes), and its snapshot would be gone.
copy_builder() {
    mkdir -p "$2/home" "$2/cache/builder-vm"
    cp -al "$1/cache/stage0" "$2/cache/"
    cp -a --sparse=always "$1/home/dev" "$2/home/"
    cp -a --sparse=always "$1/cache/builder-vm/$(uname -m)" "$1"/cache/builder-vm/nix-store* "$2/cache/builder-vm/"
}
# The slim kernel that tools/check has built, for who wants it: then the builder image is made anew, with it.
[ -z "${wants_kernels:-}" ] || cp -a "$MVM_TEST_KERNELS" "$MVM_CACHE_DIR/kernels"
copy_image() { cp -a --sparse=always "$1" "$2" && chmod u+w "$2"; }
# Who sets wants_image gets an image of examples/hello in the folder $image: the one that the first test file has left, and then
# no builder. Else it is built.
image=$tmp/image
if [ -n "${wants_image:-}" ] && [ -d "$template/hello" ]; then
    copy_image "$template/hello" "$image"
elif [ -d "$template" ]; then
    copy_builder "$template" "$tmp"
fi
# leave_template IMAGE: what is built here, and that image's folder.
leave_template() {
    copy_builder "$tmp" "$template.new" && copy_image "$1" "$template.new/hello" && mv "$template.new" "$template"
}

# Most files look at what a build leaves: theirs have a builder VM each. What tests the persistent one unsets this.
MVM_NO_PERSISTENT_BUILDER=1
export MVM_NO_PERSISTENT_BUILDER

cleanup() {
    mvm down --all >/dev/null 2>&1 || :
    mvm dev down >/dev/null 2>&1 || :
}
# A copy of an example, outside of this repository's work tree.
example() {
    mkdir -p "$2"
    cp "$MVM_SOURCE/examples/$1/flake.nix" "$2/"
}
# least_image: what a builder's shell runs, in the folder that it makes, for the least that is taken for a kernel and a root file
# system, where no guest boots them. $bb is busybox.
least_image() {
    cat <<'N'
$bb dd if=/dev/zero of=vmlinux bs=1 count=1 seek=2097151
$bb dd if=/dev/zero of=rootfs.ext4 bs=1 count=1 seek=2097151
$bb printf 'ARM\144' | $bb dd of=vmlinux bs=1 seek=56 conv=notrunc
# Its super block: 512 blocks of 4096 bytes.
$bb printf '\002' | $bb dd of=rootfs.ext4 bs=1 seek=1029 conv=notrunc
$bb printf '\002' | $bb dd of=rootfs.ext4 bs=1 seek=1048 conv=notrunc
$bb printf '\123\357' | $bb dd of=rootfs.ext4 bs=1 seek=1080 conv=notrunc
N
}
# least_flake FOLDER [COMMAND]: a flake of such an image, which a changed COMMAND of the shell makes another.
least_flake() {
    mkdir -p "$1"
    { least_image && echo "${2:-:}"; } >"$1/make"
    cat >"$1/flake.nix" <<'N'
{
  inputs.tools.url = "mvm-tools";
  outputs = { self, tools }: let bb = "${tools}/bin/busybox"; in {
    packages.x86_64-linux.default = derivation {
      name = "least"; system = "x86_64-linux"; builder = bb; inherit bb;
      args = [ "sh" "-c" "$bb mkdir $out; cd $out; ${builtins.readFile ./make}" ];
    };
  };
}
N
}
if [ -n "${wants_image:-}" ] && [ ! -d "$image" ]; then
    example hello "$tmp/hello"
    mvm build --flake "$tmp/hello" --json >"$tmp/built" 2>&1
    copy_image "$(dirname "$(jq -rR 'fromjson? | .kernel // empty' "$tmp/built")")" "$image"
fi
# flaky_vmm FOLDER: makes a folder for PATH whose QEMU fails whenever its first supervisor asks for it.
flaky_vmm() {
    qemu=qemu-system-$(uname -m)
    mkdir "$1"
    cat >"$1/$qemu" <<N
#!/bin/sh
[ -e "$1/first" ] || echo \$PPID >"$1/first"
[ "\$(cat "$1/first")" != \$PPID ] || exit 3
exec "$(command -v "$qemu")" "\$@"
N
    chmod +x "$1/$qemu"
}
# boots_while_busy N FLAKE: how many of N boots in a row end well while each processor has something else to do.
boots_while_busy() {
    busy=
    for _ in $(seq "$(nproc)"); do
        timeout 600 sh -c 'while :; do :; done' &
        busy="$busy $!"
    done
    booted=0
    for _ in $(seq "$1"); do
        [ "$(mvm exec --flake "$2" --cold --timeout 60 -- echo up 2>>"$tmp/boots")" = up ] && booted=$((booted + 1))
    done
    # shellcheck disable=SC2086 # a list of process ids
    kill $busy
    [ "$booted" = "$1" ] || say <"$tmp/boots"
}
