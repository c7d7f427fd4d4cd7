#!/bin/sh
# Flakes that are not trusted: what their tree names or configures runs nowhere on the host.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"

# A repository that is booby-trapped wherever git's configuration can name a program, a file or another tree.
trap_=$tmp/trap
mark=$tmp/marks
mkdir "$mark"
example hello "$trap_"
git -C "$trap_" init -q
git -C "$trap_" add flake.nix
touch_() { printf 'touch %s/%s; false #' "$mark" "$1"; }
set_() { git -C "$trap_" config --add "$1" "$2"; }
for key in core.fsmonitor core.sshCommand core.pager core.editor core.askPass core.gitProxy core.alternateRefsCommand \
    diff.external diff.x.command diff.x.textconv filter.x.clean filter.x.smudge filter.x.process merge.x.driver \
    credential.helper sequence.editor gpg.program gpg.ssh.program interactive.diffFilter pager.ls-files \
    remote.origin.uploadpack remote.origin.vcs remote.origin.proxy uploadpack.packObjectsHook trailer.x.command \
    trailer.x.cmd sendemail.smtpServer web.browser browser.x.cmd mergetool.x.cmd difftool.x.cmd man.x.cmd \
    guitool.x.cmd submodule.x.update init.templateDir; do
    set_ "$key" "$(touch_ "$key")"
done
set_ alias.ls-files "!$(touch_ alias)"
set_ core.hooksPath "$trap_/hooks"
set_ core.worktree /etc
set_ include.path "$trap_/more"
set_ includeIf.gitdir:/.path "$trap_/more"
set_ extensions.partialClone origin
set_ remote.origin.promisor true
set_ remote.origin.url "ext::sh -c touch% $mark/ext"
set_ protocol.ext.allow always
set_ core.attributesFile "$trap_/attributes"
set_ core.excludesFile "$trap_/attributes"
printf '* filter=x diff=x merge=x\n' >"$trap_/attributes"
cp "$trap_/attributes" "$trap_/.gitattributes"
cp "$trap_/attributes" "$trap_/.git/info/attributes"
printf '[core]\n\tfsmonitor = "%s"\n\tworktree = /etc\n' "$(touch_ include)" >"$trap_/more"
mkdir -p "$trap_/hooks"
for hook in fsmonitor-watchman post-index-change post-checkout pre-commit reference-transaction; do
    printf '#!/bin/sh\ntouch %s/hook\n' "$mark" >"$trap_/hooks/$hook"
    chmod +x "$trap_/hooks/$hook"
    cp "$trap_/hooks/$hook" "$trap_/.git/hooks/$hook"
done
status=0
ASAN_OPTIONS=detect_leaks=0 strace -f --seccomp-bpf -qq -e trace=execve,execveat -o "$tmp/execs" "$MVMCTL" build --flake "$trap_" --json \
    >"$tmp/run.out" 2>"$tmp/run.err" </dev/null || status=$?
is 'T1: a repository full of traps builds' "$status" 0
is 'T1: none of the programs in its configuration ran' "$(ls "$mark")" ''
programs=$(grep ' = 0$' "$tmp/execs" | sed -n 's/^[0-9]* *execve("\([^"]*\)".*/\1/p' | sed 's|^/proc/self/exe$|mvmctl|; s|.*/||' | sort -u)
unknown=
for program in $programs; do
    grep -qF "\`$program\`" "$MVM_SOURCE/docs/security.md" || unknown="$unknown $program"
done
is 'T1: a build runs no program that docs/security.md does not list' "$unknown" ''
has_not 'T1: git is not among them' "$programs" '^git'
has 'T1: the trace saw mvmctl itself' "$programs" '^mvmctl$'

# core.worktree of a repository does not move the tree.
run mvm build --flake "$trap_" --json
is 'T1: and is found unchanged' "$(json .cached)" true

# What lies elsewhere is not read.
git init -q "$tmp/other"
example hello "$tmp/linked"
cp "$tmp/linked/flake.nix" "$tmp/other/"
echo "gitdir: $tmp/other/.git" >"$tmp/linked/.git"
run mvm build --flake "$tmp/linked"
is 'T1: a gitdir out of the tree is refused in phase nix-eval' "$status" 11
has 'T1: it is named' "$err" "gitdir outside of the tree: $tmp/other/.git"

# ---- What leaves the host ----

# inputs_of 'INPUTS': a flake with these inputs; it never evaluates to an image.
inputs_of() {
    rm -rf "$tmp/takes"
    mkdir -p "$tmp/takes"
    printf '{ inputs = { %s }; outputs = { self, ... }@all: { packages.x86_64-linux.default = throw "saw: ${%s}"; }; }\n' "$1" "${2:-toString (builtins.attrNames all)}" >"$tmp/takes/flake.nix"
}
secret=$tmp/a\ secret
mkdir -p "$secret/sub"
echo treasure >"$secret/sub/file"
encoded=$tmp/a%20secret
ln -s "$secret" "$tmp/by-link"
for form in "i = { url = \"path:$encoded\"; flake = false; };" "i.url = \"path://$encoded\"; i.flake = false;" \
    "i = { url = \"$secret\"; flake = false; };" "i = { type = \"path\"; path = \"$secret/sub\"; flake = false; };" \
    "i = { flake = false; url = \"path:$encoded/sub/file\"; };" "i = { url = \"path:$tmp/by-link\"; flake = false; };" \
    "i.url = \"git+file://$encoded\";"; do
    inputs_of "$form"
    run mvm build --flake "$tmp/takes"
    is "T2: an input outside of the tree is refused: ${form%%$tmp*}..." "$status" 11
    has 'T2: the error names it and the flag' "$err" "--allow-input $secret"
    has 'T2: and what would be sent' "$err" "$secret.* would be sent"
done
inputs_of "i = { url = \"github:example/none\"; flake = false; };"
printf '{"nodes":{"root":{"inputs":{"i":"i"}},"i":{"flake":false,"locked":{"type":"path","path":"%s","narHash":"sha256-AAAA"},"original":{"type":"path","path":"%s"}}},"root":"root","version":7}\n' \
    "$secret" "$secret" >"$tmp/takes/flake.lock"
run mvm build --flake "$tmp/takes"
has 'T2: one that flake.lock alone names is refused as well' "$err" "--allow-input $secret"

inputs_of "a = { url = \"path:$encoded\"; flake = false; }; b = { type = \"path\"; path = \"$tmp/one\"; flake = false; };" \
    '(builtins.readFile "${all.a}/sub/file") + builtins.readFile all.b'
echo single >"$tmp/one"
run mvm build --flake "$tmp/takes" --allow-input "$secret" --allow-input "$tmp/one"
has 'T2: what is allowed is there' "$err" 'treasure'
has 'N4: also a plain file, and a name with %20' "$err" 'single'
has 'T2: and is said in one line' "$err" "staged from outside of the flake: $secret \(1 file, 0.0 MB\)"
printf '[flake]\nallow_inputs = ["%s"]\n' "$tmp/one" >"$MVM_HOME/config.toml"
inputs_of "b = { type = \"path\"; path = \"$tmp/one\"; flake = false; };" 'builtins.readFile all.b'
run mvm build --flake "$tmp/takes"
has 'T2: config.toml allows for every build' "$err" 'saw: single'
rm "$MVM_HOME/config.toml"
run mvm build --flake "$tmp/takes" --allow-input "$tmp/nothing"
has 'T2: a flag that names nothing is an error' "$err" "--allow-input.*nothing"

finish
