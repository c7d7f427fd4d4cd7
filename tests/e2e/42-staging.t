#!/bin/sh
# How a flake's tree and its local inputs reach Nix: where they appear, what is left of them, what Nix is told about them.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"

unset MVM_NO_PERSISTENT_BUILDER # what one job leaves is for the next to see
# make_flake FOLDER INPUTS TEXT: its image's cmdline.txt is TEXT, a Nix expression in which `bb` and the inputs are known.
make_flake() {
    mkdir -p "$1"
    cat >"$1/flake.nix" <<N
{
  inputs.tools.url = "mvm-tools";
  $2
  outputs = { self, tools, ... }@inputs: let
    bb = "\${tools}/bin/busybox";
    text = $3;
  in {
    packages.x86_64-linux.default = derivation {
      name = "said"; system = "x86_64-linux"; builder = bb; inherit bb text; passAsFile = [ "text" "make" ];
      make = builtins.readFile ./make;
      args = [ "sh" "-c" "\$bb mkdir \$out; \$bb cp \$textPath \$out/cmdline.txt; cd \$out; \$bb sh \$makePath" ];
    };
  };
}
N
    least_image >"$1/make"
    touch -d @1500000000 "$1/make"
}
# What the image's command line says, which is where the flakes above put what they saw.
said() { cat "$(dirname "$(json .rootfs)")/cmdline.txt"; }
build() { run mvm build --flake "$@" --offline --json; }
in_builder() { mvm exec builder -- sh -c "$1"; }

# ---- Local inputs ----

names='toString (builtins.attrNames (builtins.readDir inputs.nf))'
mkdir -p "$tmp/far/away/em"
printf '[flake]\nallow_inputs = ["%s", "%s"]\n' "$tmp/far" "/tmp/mvm-42-$$" >"$MVM_HOME/config.toml"
echo one >"$tmp/far/away/em/only"
make_flake "$tmp/r3" "inputs.nf = { url = \"path:$tmp/far/away/em\"; flake = false; };" "$names"
build "$tmp/r3"
is 'R3: a local input is there' "$status:$(said)" '0:only'
is 'R3: nothing of it is left in the builder' "$(in_builder "ls -d '$tmp/far/away/em' '$tmp' 2>/dev/null")" ''
mv "$tmp/far/away/em" "$tmp/far/away/gone"
build "$tmp/r3" --force
is 'R3: a local input that has gone fails in nix-eval' "$status:$(json .phase)" 11:nix-eval
has 'R3: and the error names it' "$out" "$tmp/far/away/em"
mv "$tmp/far/away/gone" "$tmp/far/away/em"
build "$tmp/r3" --force
is 'R3: put back, it is there again' "$status:$(said)" '0:only'

mkdir "/tmp/mvm-42-$$"
trap 'cleanup; rm -rf "$tmp" "/tmp/mvm-42-$$"' EXIT
mkdir -p "$tmp/far/away/em/deep/er"
echo x >"$tmp/far/away/em/deep/er/file"
echo y >"/tmp/mvm-42-$$/tmp-file"
make_flake "$tmp/many" "inputs.nf = { url = \"path:$tmp/far/away/em\"; flake = false; };
  inputs.inner = { url = \"path:$tmp/far/away/em/deep/er\"; flake = false; };
  inputs.t = { url = \"path:/tmp/mvm-42-$$\"; flake = false; };" \
    'toString (map (n: builtins.attrNames (builtins.readDir inputs.${n})) [ "nf" "inner" "t" ])'
build "$tmp/many"
is 'R3: inputs within each other and below a folder that the builder has' "$status:$(said)" '0:deep only file tmp-file'
has 'R3: that folder is as before' "$(in_builder 'ls -d /tmp /work /nix/store; ls -A /tmp')" '^/nix/store
/tmp
/work$'

make_flake "$tmp/own" "inputs.nf = { url = \"path:/usr/share/mvm/tools\"; flake = false; };" "$names"
build "$tmp/own"
is "R3: a path that only the builder has is no input" "$status:$(json .phase)" 11:nix-eval
has 'R3: and the error names it' "$out" 'input /usr/share/mvm/tools, which does not exist'

git init -q "$tmp/far/repo"
echo 1 >"$tmp/far/repo/tracked"
git -C "$tmp/far/repo" add tracked
git -C "$tmp/far/repo" -c user.name=n -c user.email=e commit -qm 1
make_flake "$tmp/n4" "description = ''5\" disk'';
  inputs.nf = { url = ''git+file://$tmp/far/./repo''; flake = false; };
  \"inputs\".f = { flake = false; \"url\" = /* in words */ (file://$tmp/far/away/em/only); };" \
    "$names + builtins.readFile inputs.f"
build "$tmp/n4"
is 'N4: a repository and a file, in notations that are seldom seen' "$status:$(said)" '0:trackedone'
echo 2 >"$tmp/far/repo/tracked"
rm -f "$tmp/n4/flake.lock"
build "$tmp/n4"
is 'N4: a repository with changes' "$status:$(said)" '0:trackedone'
check 'N4: as in Nix there is no lock file then' test ! -e "$tmp/n4/flake.lock"

# ---- What Nix is told ----

age='"at ${toString self.lastModified}"'
make_flake "$tmp/n3" '' "$age"
mkdir "$tmp/n3/sub dir&"
echo x >"$tmp/n3/sub dir&/old"
touch -d @1600000000 "$tmp/n3/flake.nix"
touch -d @1600000001 "$tmp/n3/sub dir&/old"
build "$tmp/n3"
is 'N3: lastModified is the age of the newest file' "$status:$(said)" '0:at 1600000001'
first=$(json .image)
build "$tmp/n3" --force
is 'N3: a second build of a flake that uses it gives the same image' "$status:$(json .image)" "0:$first"

# A commit, cloned and built elsewhere, by another builder's view of it.
commit='"${self.rev or "none"} ${self.shortRev or "none"} ${toString (self.revCount or 0)} ${toString self.lastModified} ${self.dirtyRev or "clean"}"'
make_flake "$tmp/rev" '' "$commit"
git init -q "$tmp/rev"
git -C "$tmp/rev" add .
GIT_COMMITTER_DATE='1600000000 +0000' git -C "$tmp/rev" -c user.name=n -c user.email=e commit -qm 1
rev=$(git -C "$tmp/rev" rev-parse HEAD)
build "$tmp/rev" --no-write-lock-file
is 'N3: rev, shortRev, revCount and lastModified are those of the commit' "$status:$(said)" \
    "0:$rev $(printf '%.7s' "$rev") 1 1600000000 clean"
first=$(json .image)
git clone -q "$tmp/rev" "$tmp/rev2"
build "$tmp/rev2" --force --no-write-lock-file
is 'N3: the same commit gives the same image in another folder at another time' "$status:$(json .image)" "0:$first"
echo >>"$tmp/rev/flake.nix"
build "$tmp/rev" --no-write-lock-file
is 'N3: a changed file has no rev, and the age of the commit below it' "$status:$(said)" '0:none none 0 1600000000 clean'
git -C "$tmp/rev" -c user.name=n -c user.email=e commit -qam 2
build "$tmp/rev" --no-write-lock-file
is 'N3: after a commit without another change the image is made anew' "$status:$(said | cut -d ' ' -f 1,3)" \
    "0:$(git -C "$tmp/rev" rev-parse HEAD) 2"

# A flake below the top of a git tree, whose input is the folder above it.
mkdir -p "$tmp/n5/sub dir&"
make_flake "$tmp/n5/sub dir&" 'inputs.up = { url = "path:./.."; flake = false; };' '"up has ${builtins.readFile "${inputs.up}/word"}"'
printf 'above' >"$tmp/n5/word"
git -C "$tmp/n5" init -q
git -C "$tmp/n5" add .
build "$tmp/n5/sub dir&"
is 'N5: build of a folder whose input is the one above it' "$status:$(said)" '0:up has above'
wanted=$(json .image)
run mvm persistent-builder start --workspace "$tmp/n5"
run mvm persistent-builder submit --flake 'path:/work/sub dir&' --offline --json
is 'N5: submit of the same folder' "$status:$(json .image)" "0:$wanted"
run mvm persistent-builder submit --flake 'path:/work/sub dir&' --offline --json --force
is 'N5: and where it has to be built' "$status:$(json .image)" "0:$wanted"
run mvm persistent-builder submit --flake 'path:/work?dir=sub dir%26' --offline --json
is 'N1: submit takes ?dir= below the workspace' "$status:$(json .image)" "0:$wanted"
mkdir "$tmp/n5/a..b"
run mvm persistent-builder submit --flake 'path:/work/a..b' --offline
has 'N1: submit takes a folder with two dots in its name' "$err" 'no flake.nix in .*/a\.\.b'
run mvm persistent-builder submit --flake 'path:/work/../work' --offline
has 'N1: submit takes no folder above the workspace' "$err" 'is not in the workspace'

# ---- As a store path ----

# A builder that tries to change the flake's files, and says what is in them afterwards.
large=$tmp/large
make_flake "$large" '' '"${builtins.readFile ./d1/f1} ${toString (builtins.length (builtins.attrNames (builtins.readDir ./d1)))} ${if builtins.pathExists ./empty then "empty" else "-"} "'
sed -i 's|inherit bb text;|inherit bb text; src = "${self}";|' "$large/flake.nix"
cat >>"$large/make" <<'N'
$bb chmod 644 $src/d1/f1
$bb chmod 755 $src/d1
{ echo poison >$src/d1/f1; } 2>/dev/null
$bb rm -f $src/d1/f2
{ echo poison >$src/d1/new; } 2>/dev/null
{ $bb cat cmdline.txt $src/d1/f1; echo " $($bb ls $src/d1 | $bb wc -l)"; } | $bb tr -d '\n' >said
$bb mv -f said cmdline.txt
N
for d in 1 2 3 4; do
    mkdir -p "$large/d$d"
    for f in $(seq 40); do printf '%s' "$d.$f" >"$large/d$d/f$f"; done
done
mkdir "$large/empty"
ln -s ../d1/f1 "$large/d2/link"
build "$large"
is 'N8: a tree of many files, with an empty folder' "$status:$(said)" '0:1.1 40 empty 1.1 40'
first=$(json .image)
source_=$(in_builder 'dirname /nix/store/*-source/d1')
is 'N8: its files belong to nobody' "$(in_builder "stat -c %u:%a $source_ $source_/d1/f1")" '65533:555
65533:444'
check 'N8: its digest was computed right' mvm exec builder -- nix-store --verify-path "$source_"
is 'N8: Nix knows the path' "$(in_builder "nix-store -q --size $source_ >/dev/null && echo yes")" yes
build "$large"
is 'N8: unchanged, it is not built again' "$status:$(json .cached)" '0:true'
has_not 'N8: and no builder is asked' "$err" 'builder-start'
build "$large" --force
is 'N8: no builder can change the files of a flake' "$status:$(said):$(json .image)" "0:1.1 40 empty 1.1 40:$first"
printf x >>"$large/d3/f3"
build "$large"
has 'N8: of a tree with one changed file that is sent, the lock file, the symlink and the empty folder' "$err$out" '4 new to the builder'
is 'N8: and it is built anew' "$status:$(json .cached)" '0:false'
run mvm dev down
printf x >>"$large/d3/f4"
build "$large"
has 'N8: a builder that was stopped and started has the files still' "$err$out" '4 new to the builder'

finish
