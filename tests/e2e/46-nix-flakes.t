#!/bin/sh
# What Nix's own tests of flakes try, as builds: the value is the one that Nix gives.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"

unset MVM_NO_PERSISTENT_BUILDER # one builder for all
# flake FOLDER EXPRESSION [INPUTS]: its default package throws the text that the expression is.
flake() {
    mkdir -p "$1"
    printf '{ inputs = { %s }; outputs = { self, ... }@inputs: rec { packages.x86_64-linux.default = throw "saw: ${%s}"; x = 2; }; }\n' "${3:-}" "$2" >"$1/flake.nix"
}
repository() {
    git init -q "$1"
    git -C "$1" add .
    GIT_COMMITTER_DATE='1600000000 +0000' git -C "$1" -c user.name=n -c user.email=e commit -qm 1
}
# gives NAME REF VALUE: a build of REF ends with that value.
gives() {
    run mvm build --flake "$2" --offline
    is "N1: $1" "$(printf '%s\n' "$err" | grep -o 'saw: [^"]*' | head -1)" "saw: $3"
}
refused() {
    run mvm build --flake "$2" --offline
    is "N1: $1" "$status" 11
    has "N1: $1: the error" "$err" "$3"
}

# ---- Attributes ----

mkdir -p "$tmp/attrs"
cat >"$tmp/attrs/flake.nix" <<'N'
{
  outputs = { self }: {
    x = throw "saw: top";
    packages.x86_64-linux.x = throw "saw: package";
    packages.x86_64-linux."sth sth" = throw "saw: space";
    packages.x86_64-linux."a.b" = throw "saw: dot";
    packages.x86_64-linux."50%" = throw "saw: percent";
  };
}
N
gives 'a name is a package first' "$tmp/attrs#x" package
gives 'a dot before it means the top' "$tmp/attrs#.x" top
gives 'the whole path' "$tmp/attrs#packages.x86_64-linux.x" package
gives 'an attribute with a space' "$tmp/attrs#sth sth" space
gives 'the same percent-encoded' "$tmp/attrs#sth%20sth" space
gives 'an attribute with a dot in quotes' "$tmp/attrs#\"a.b\"" dot
gives 'an attribute with a percent sign' "$tmp/attrs#50%25" percent

# ---- Where the flake is ----

flake "$tmp/plain" 'toString self.x'
gives 'a folder' "$tmp/plain" 2
cd "$tmp/plain" || exit 1
gives 'the folder one is in' . 2
gives 'the same as path:' path:. 2
cd "$tmp" || exit 1
flake "$tmp/flake%20" '"odd name"'
repository "$tmp/flake%20"
gives 'a folder whose name looks encoded' "$tmp/flake%20" 'odd name'
gives 'the same as a URL' "git+file://$tmp/flake%2520" 'odd name'
ln -s "$tmp/plain" "$tmp/plain-link"
gives 'a symlink to the folder' "$tmp/plain-link" 2

top=$tmp/top
flake "$top" '"top"'
flake "$top/sub" '"${builtins.readFile ./message} ${builtins.readFile (self + "/message")} ${builtins.readFile ../above} ${if self.outPath == self.sourceInfo.outPath + "/sub" then "below" else self.outPath}"'
printf good >"$top/sub/message"
printf up >"$top/above"
mkdir -p "$top/sub/a/b"
touch "$top/sub/a/b/in"
gives 'a flake below the top of a folder' "path:$top?dir=sub" 'good good up below'
repository "$top"
gives 'a flake below the top of a repository' "$top/sub" 'good good up below'
gives 'the same by ?dir=' "git+file://$top?dir=sub" 'good good up below'
gives 'a folder below it that has no flake.nix' "$top/sub/a/b" 'good good up below'
ln -s "$top/sub" "$tmp/sub-link"
gives 'a symlink to a folder in a repository' "$tmp/sub-link" 'good good up below'
mkdir "$tmp/other"
ln -s "$top/sub" "$tmp/other/link"
printf wrong >"$tmp/other/above"
repository "$tmp/other"
gives 'a symlink in one repository to a folder in another' "$tmp/other/link" 'good good up below'
mkdir -p "$tmp/none/a"
touch "$tmp/none/a/in"
repository "$tmp/none"
refused 'no flake up to the top of the repository' "$tmp/none/a" 'no flake.nix in .* or above it'

# ---- What is in it ----

flake "$tmp/names" '"${dirOf self.outPath} ${if builtins.match "[a-z0-9]+-source" (baseNameOf self.outPath) != null then "source" else baseNameOf self.outPath}"'
gives 'what the root is called' "$tmp/names" '/nix/store source'
flake "$tmp/tracked" 'toString (builtins.attrNames (builtins.readDir self))'
repository "$tmp/tracked"
touch "$tmp/tracked/new" "$tmp/tracked/added"
git -C "$tmp/tracked" add added
gives 'files that git does not track are not there' "$tmp/tracked" 'added flake.nix'
rm "$tmp/tracked/added"
gives 'nor one that was removed' "$tmp/tracked" 'flake.nix'
flake "$tmp/reads" 'builtins.readFile ./untracked'
repository "$tmp/reads"
touch "$tmp/reads/untracked"
refused 'to read one is an error' "$tmp/reads" 'untracked'
flake "$tmp/about" '"${self.rev or "none"} ${toString self.lastModified} ${self.lastModifiedDate} ${toString (self.revCount or 0)}"'
repository "$tmp/about"
gives 'what it knows of its commit' "$tmp/about" "$(git -C "$tmp/about" rev-parse HEAD) 1600000000 20200913122640 1"
ln -s flake.nix "$tmp/about/changed"
git -C "$tmp/about" add changed
gives 'and of a changed tree' "$tmp/about" 'none 1600000000 20200913122640 0'

# ---- A commit ----

flake "$tmp/commits" '"${builtins.readFile ./word} ${self.rev or "none"} ${toString (self.revCount or 0)}"'
printf one >"$tmp/commits/word"
repository "$tmp/commits"
first=$(git -C "$tmp/commits" rev-parse HEAD)
git -C "$tmp/commits" branch old
printf two >"$tmp/commits/word"
git -C "$tmp/commits" -c user.name=n -c user.email=e commit -qam 2
second=$(git -C "$tmp/commits" rev-parse HEAD)
printf dirty >"$tmp/commits/word"
gives 'what is checked out' "$tmp/commits" 'dirty none 0'
gives 'a branch of a repository' "$tmp/commits?ref=old" "one $first 1"
gives 'HEAD and not the work tree' "git+file://$tmp/commits?ref=HEAD" "two $second 2"
gives 'a commit of a repository' "git+file://$tmp/commits?rev=$first" "one $first 1"
gives 'a commit and a branch' "git+file://$tmp/commits?ref=old&rev=$first" "one $first 1"
refused 'a branch that is not there' "git+file://$tmp/commits?ref=nope" "has no ref 'nope'"
gives 'a flake of a commit, below the top' "git+file://$top?ref=HEAD&dir=sub" 'good good up below'
refused 'a name that is in no registry' nosuchflake "cannot find flake 'flake:nosuchflake'"

# ---- Inputs ----

fam=$tmp/family
flake "$fam" 'toString (self.x * inputs.sub0.x)' 'sub0.url = "path:./sub0";'
flake "$fam/sub0" '"sub0"'
flake "$fam/sub1" 'toString (self.x * inputs.root.x * 3)' 'root.url = "path:../";'
flake "$fam/sub2" 'toString (self.x * inputs.root.x * inputs.one.x)' 'root.url = "path:./.."; one.url = "path:../sub1";'
gives 'an input below the flake' "path:$fam" 4
gives 'an input that is the folder above' "path:$fam?dir=sub1" 12
repository "$fam"
gives 'an input below the flake, in a repository' "$fam" 4
gives 'inputs above and beside it' "$fam/sub2" 8
has_not 'N1: what is locked of them names no folder of this machine' "$(cat "$fam/sub2/flake.lock" 2>/dev/null)" "$tmp"
# Not here: relative inputs that are no flakes. Nix 2.26 gives the flake's own tree in their place.
flake "$tmp/follows" 'toString (inputs.a.x + inputs.b.x)' 'a.url = "path:./a"; b.follows = "a";'
flake "$tmp/follows/a" '"a"'
gives 'an input that follows another' "path:$tmp/follows" 4
flake "$tmp/loop" '"loop"' 'a.follows = "b"; b.follows = "a";'
refused 'inputs that follow each other' "path:$tmp/loop" 'cycle'
printf '{ outputs = ' >"$tmp/loop/flake.nix"
refused 'a flake.nix that is no Nix' "path:$tmp/loop" 'syntax error'

finish
