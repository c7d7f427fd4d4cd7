# Sourced by end-to-end tests behind tap.sh. The first test file makes a builder from nothing and leaves it as a template; the
# others begin with a copy of it, so that they can run side by side.
# shellcheck shell=sh disable=SC2034,SC2154 # names shared between the test files
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
[ ! -d "$template" ] || copy_builder "$template" "$tmp"
leave_template() {
    copy_builder "$tmp" "$template.new" && mv "$template.new" "$template"
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
# Processes of VMs below this MVM_HOME: QEMU has the VM's folder nowhere in its arguments, but its image or store is below the cache.
vm_processes() { pgrep -af "qemu-system.*$MVM_CACHE_DIR|qemu-system.*$MVM_HOME" | grep -v -- '-name mvm-builder ' | cut -d ' ' -f 1; }
# The persistent builder's.
builder_processes() { pgrep -f -- "-name mvm-builder .*$MVM_CACHE_DIR" || :; }
# What there is of VMs but the persistent builder.
vm_folders() { find "$MVM_HOME/vms" -mindepth 1 -maxdepth 1 ! -name builder; }
# Supervisors of VMs below this MVM_HOME: nobody else's are looked at, let alone killed. A child of one that has not become
# the VMM yet has its name, too.
supervisors() {
    for pid in $(pgrep -x mvm-supervisor); do
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
        [ "$(cat "/proc/${parent:-0}/comm" 2>/dev/null)" != mvm-supervisor ] || continue
        cat "/proc/$pid/environ" 2>/dev/null | tr '\0' '\n' | grep -qFx "MVM_HOME=$MVM_HOME" && echo "$pid"
    done
    :
}
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
