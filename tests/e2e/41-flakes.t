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
    "i.url = \"git+file://$encoded\";" "i.url = ''path:$encoded'';" "i = { \"url\" = /* \"x */ path:$encoded; };" \
    "i.url = \"path:$tmp/takes/../a%20secret\";" "h.url = ''5\"''; i = { type = \"git\"; url = \"file://$encoded\"; };"; do
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

# ---- References, as Nix takes them ----

unset MVM_NO_PERSISTENT_BUILDER # one builder for all that follows
# saw REF: what the flake of that reference throws: the names in its folder, and the text of part/in below the top.
saw() {
    run mvm build --flake "$1" --offline
    printf '%s\n' "$err" | grep -o 'saw: [^"]*' | head -1
}
# says FILE ATTR: a flake whose package ATTR throws what is beside it and in the submodule.
says() {
    printf '{ outputs = { self }: { packages.x86_64-linux.%s = throw "saw: ${toString (builtins.attrNames (builtins.readDir ./.))} ${if builtins.pathExists ../part/in then builtins.readFile ../part/in else "none"}"; }; }\n' "$2" >"$1"
}
refs=$tmp/refs
mkdir -p "$refs/sub/deep" "$refs/sub/a b"
says "$refs/sub/flake.nix" default
says "$refs/sub/a b/flake.nix" '"x.y"'
touch "$refs/sub/deep/in" "$refs/sub/untracked"
git init -q "$tmp/part"
printf 'in the submodule' >"$tmp/part/in"
git -C "$tmp/part" add in
git -C "$tmp/part" -c user.name=n -c user.email=e commit -qm 1
git init -q "$refs"
git -C "$refs" -c protocol.file.allow=always submodule --quiet add "$tmp/part" part
git -C "$refs" add sub/flake.nix sub/deep sub/a\ b
is 'N1: ?dir= names the folder of the flake in its tree' "$(saw "$refs?dir=sub")" 'saw: a b deep flake.nix none'
is 'N1: so it does behind git+file:' "$(saw "git+file://$refs?dir=sub")" 'saw: a b deep flake.nix none'
is 'N1: flake.nix is looked for in the folders above' "$(saw "$refs/sub/deep")" 'saw: a b deep flake.nix none'
is 'N1: path: takes files that git does not track as well' "$(saw "path:$refs?dir=sub")" \
    'saw: a b deep flake.nix untracked in the submodule'
is 'N1: percent-encoding, and an attribute with quotes' "$(saw "path:$refs?dir=sub%2Fa%20b#%22x.y%22")" 'saw: flake.nix none'
is 'N2: ?submodules=1 brings the files of submodules' "$(saw "$refs?dir=sub&submodules=1")" \
    'saw: a b deep flake.nix in the submodule'

git -C "$refs" -c user.name=n -c user.email=e commit -qm 1
git -C "$refs" worktree add -q "$tmp/worktree"
run mvm dev shell --flake "$tmp/worktree?dir=sub" -- ls
has 'T2: dev shell reads no repository outside of the tree' "$err" "--allow-input $refs/.git"
run mvm dev shell --flake "$tmp/worktree?dir=sub" --allow-input "$refs/.git" -- cat sub/flake.nix
has 'T2: unless it is allowed' "$status:$out" '^0:{ outputs'

echo '{ "nodes": ' >"$refs/sub/flake.lock"
run mvm build --flake "$refs?dir=sub"
is 'N7: a corrupt flake.lock is an error of phase nix-eval' "$status" 11
has 'N7: the error names the file' "$err" "$refs/sub/flake.lock is no lock file"
has 'N7: the hint says how to get it back' "$err" 'checkout flake.lock'
has_not 'N7: no words of a parser in the builder' "$err" 'json.exception'

finish
