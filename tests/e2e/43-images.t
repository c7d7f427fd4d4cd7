#!/bin/sh
# mkGuest tells the truth: what an image refers to is in it, and what it cannot take is said by name.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/e2e.sh"
unset MVM_NO_PERSISTENT_BUILDER # one builder for all of it

# ---- What is refused: many values in one evaluator, which goes on after an error ----

cases=$tmp/cases
mkdir -p "$cases/tools/bin"
echo '{ outputs = _: { }; }' >"$cases/flake.nix"
n=0
# refused NAME ARGUMENTS ERROR: mkGuest's error for these arguments has this text.
: >"$tmp/wanted"
refused() {
    n=$((n + 1))
    printf '"case %s"\n(guest { %s }).name\n' "$n" "$2" >>"$cases/lines"
    printf '%s\t%s\t%s\n' "$n" "$1" "$3" >>"$tmp/wanted"
}
# taken NAME ARGUMENTS: there is none.
taken() { refused "$1" "$2" '"x-image"'; }
x='name = "x"; command = "true";'
echo "guest = a: (import /usr/share/mvm/nix/lib { system = \"x86_64-linux\"; tools = \"/usr/share/mvm/tools\"; }).mkGuest a" >"$cases/lines"
echo 'long = n: builtins.substring 0 n (builtins.concatStringsSep "" (builtins.genList (_: "0123456789") 14000))' >>"$cases/lines"
taken 'G4: a right image evaluates' "$x"
refused 'G4: an argument that is mistyped' 'name = "x"; comand = "true";' "unknown argument 'comand': did you mean command?"
refused 'G4: one that other tools have' 'name = "x"; cmd = "true";' "unknown argument 'cmd': did you mean command?"
refused 'G4: one that is like nothing' "$x zzzzzzzz = 1;" "unknown argument 'zzzzzzzz': known are bootBudget, command"
refused 'G4: one of a service' "$x services.web = { comand = \"x\"; };" "services.web: unknown argument 'comand': did you mean command?"
refused 'G4: one of a file' "$x files.\"/x\" = { sorce = ./x; };" "files./x: unknown argument 'sorce': did you mean source?"
refused 'G4: no name' 'command = "true";' 'name is missing'
refused 'G4: a name with a space' 'name = "x y"; command = "true";' 'got "x y": did you mean x-y?'
refused 'G4: nothing to run' 'name = "x";' 'neither command nor services say what the VM runs'
refused 'G4: an empty command' 'name = "x"; command = "";' 'command: expected a shell line or a list of words, got ""'
refused 'G4: a command without a program' 'name = "x"; command = [ "" "a" ];' 'command[0]: expected a program, got ""'
refused 'G4: a readiness command without one' "$x services.web = { command = \"x\"; ready.command = [ \"\" ]; };" 'services.web.ready.command[0]: expected a program, got ""'
refused 'G4: a shell line that Linux does not take' 'name = "x"; command = long 131072;' 'command: has 131072 bytes, at most 131071 are taken'
refused 'G4: a word that it does not take' 'name = "x"; command = [ "a" (long 131072) ];' 'command[1]: has 131072 bytes, at most 131071 are taken'
refused 'G4: a variable that it does not take' "$x env.A = long 131070;" 'env.A: has 131072 bytes, at most 131071 are taken'
taken 'G4: the longest that it takes' "$x env.A = long 131069; services.web.command = long 131071;"
refused 'G4: a command twice' "$x services.x.command = \"true\";" 'services.x: command is short for this service already'
refused 'G4: too little memory' "$x memory = 1;" 'memory: expected MiB from 64 to 16777216, got 1'
least=$(sed -n 's/^#define DISTRIBUTION_MIN_MIB //p' "$MVM_SOURCE/src/image/manifest.c")
refused 'R13: memory that up would refuse, with this kernel' "$x memory = $((least - 1));" "memory: the distribution kernel needs $least MiB to boot, got $((least - 1))"
taken 'R13: memory that up takes' "$x memory = $least;"
refused 'G4: memory with a unit' "$x memory = \"512M\";" 'got "512M": did you mean 512?'
refused 'G4: too many processors' "$x vcpus = 1000;" 'vcpus: expected a number of processors from 1 to 64, got 1000'
refused 'G4: too much room' "$x spare = 1000000;" 'spare: expected MiB from 1 to 4096, got 1000000'
refused 'G4: a port that is none' "$x ports = [ 80 70000 ];" 'ports[1]: expected a port from 1 to 65535, got 70000'
refused 'G4: another network' "$x network = \"dhpc\";" 'network: expected static or dhcp, got "dhpc": did you mean dhcp?'
refused 'G4: rules beside what allows nothing' "$x network = { policy = \"none\"; allow = [ \"a.b\" ]; };" 'network: has rules in allow, and the policy none'
refused 'G4: a rule that is none' "$x network.allow = [ \"a b\" ];" 'network.allow[0]: expected a rule such as "example.org:443", got "a b"'
refused 'G4: a budget of nothing' "$x bootBudget = { };" 'bootBudget: has neither instructions nor warmMilliseconds'
refused 'G4: another kernel' "$x kernel = \"slimm\";" 'kernel: expected distribution or slim, got "slimm": did you mean slim?'
refused 'G4: a mode that makes another file' "$x files.\"/x\" = { text = \"\"; mode = \"0644 /y\"; };" 'files./x.mode: expected a text of three or four octal digits, got "0644 /y"'
refused 'G4: a mode without quotes' "$x files.\"/x\" = { text = \"\"; mode = 0755; };" 'files./x.mode: expected a text of three or four octal digits, got 755: did you mean "0755"?'
refused 'G4: a file of nothing' "$x files.\"/x\" = { };" 'files./x: has neither text nor source'
refused 'G4: a file of two things' "$x files.\"/x\" = { text = \"\"; source = ./flake.nix; };" 'files./x: has both text and source'
refused 'G4: a path that is relative' "$x files.\"etc/x\" = \"\";" 'files.etc/x: expected an absolute path, got "etc/x": did you mean /etc/x?'
refused 'G4: a path that leads out' "$x files.\"/a/../b\" = \"\";" 'files./a/../b: expected an absolute path'
refused 'G4: a path behind a link' "$x files.\"/bin/x\" = \"\";" 'files./bin/x: /bin is a link to usr/bin: did you mean /usr/bin/x?'
refused 'G4: a path that the guest hides' "$x files.\"/run/x\" = \"\";" 'files./run/x: the guest would not see it'
refused "G4: a file that the guest's agent writes" "$x files.\"/etc/resolv.conf\" = \"\";" "files./etc/resolv.conf: the guest's agent writes it when it starts"
refused 'G4: another that it writes' "$x files.\"/etc/machine-id\" = ./flake.nix;" "files./etc/machine-id: the guest's agent writes it"
refused "G4: the host's name in two places" "$x files.\"/etc/hostname\" = \"a\";" 'files./etc/hostname: mkGuest writes it: did you mean hostname?'
refused "G4: a file with mkGuest's own content" "$x files.\"/etc/mvm/guest.conf\" = \"\";" 'files./etc/mvm/guest.conf: mkGuest writes it of command, services and env'
refused 'G4: a file below such a one' "$x files.\"/etc/resolv.conf/x\" = \"\";" "files./etc/resolv.conf/x: the guest's agent writes it"
refused "G4: another agent" "$x files.\"/usr/sbin/mvm-init\" = { text = \"\"; mode = \"0755\"; };" "files./usr/sbin/mvm-init: it is the guest's agent"
refused 'G4: a home that the guest hides' "$x users.a.home = \"/run/a\";" 'users.a.home: the guest would not see it: it mounts /run when it starts'
refused 'G4: a home behind a link' "$x users.a.home = \"/lib/a\";" 'users.a.home: /lib is a link to usr/lib: did you mean /usr/lib/a?'
taken 'G4: a home that every guest has' "$x users.a.home = \"/tmp\"; users.b.home = \"/\";"
refused 'G4: a variable with a newline in its name' "$x env.\"A\\nB\" = \"\";" 'env.A\nB: expected a variable'
refused 'G4: a variable that is no text' "$x env.A = true;" 'env.A: expected a text, got true: did you mean "true"?'
refused 'G4: a variable of a service' "$x services.web = { command = \"x\"; env.A-B = \"\"; };" 'services.web.env.A-B: expected a variable'
refused 'G4: a restart that is none' "$x services.web = { command = \"x\"; restart = \"on_failure\"; };" 'services.web.restart: expected no or on-failure or always, got "on_failure": did you mean on-failure?'
refused 'G4: a user with a newline' "$x services.web = { command = \"x\"; user = \"a\\nrestart no\"; };" 'got "a\nrestart no"'
refused 'G1: a text is no package' "$x packages = [ \"hello\" ];" 'got "hello": did you mean pkgs.hello?'
refused 'G1: nor is a path of the store without what brings it there' "$x packages = [ \"/nix/store/00000000000000000000000000000000-x\" ];" 'packages[0]: expected a package'
refused 'G1: a text is no source' "$x files.\"/x\".source = \"./flake.nix\";" 'did you mean the path ./flake.nix, without quotes?'
refused 'G2: a user that is not declared' "$x services.web = { command = \"x\"; user = \"www\"; };" 'services.web.user: no user www is declared: did you mean users.www = { }?'
refused 'G2: a user that is mistyped' "$x users.www = { }; services.web = { command = \"x\"; user = \"wwww\"; };" 'services.web.user: no user wwww is declared: did you mean www?'
refused 'G2: a group that is not declared' "$x users.www.group = \"web\";" 'users.www.group: no group web is declared'
refused 'G2: a number twice' "$x users.a.uid = 5; users.b.uid = 5;" 'users.b: has the number 5, which is that of a'
refused 'G2: root' "$x users.root = { };" 'users.root: is in every image'
refused 'G2: a home with a colon' "$x users.a.home = \"/a:b\";" 'users.a.home: expected a path without'
refused 'G2: a home that is too long' "$x users.a.home = \"/\${long 255}\";" 'users.a.home: has 256 bytes, at most 255 are taken'
refused 'G2: a member of too many groups' "$x users.a = { }; groups = builtins.listToAttrs (builtins.genList (i: { name = \"g\${toString i}\"; value.members = [ \"a\" ]; }) 33);" 'users.a: is in more than 32 groups'
refused 'G2: a group of too many' "$x groups.g.members = builtins.genList (i: \"a\") 101;" 'groups.g.members: has more than 100 members'
refused 'G2: users in two places' "$x users.a = { }; files.\"/etc/passwd\" = \"\";" 'users: files./etc/passwd says already who there is'
refused 'G3: more services than the agent takes' "$x services = builtins.listToAttrs (builtins.genList (i: { name = \"s\${toString i}\"; value.command = \"true\"; }) 64);" 'services: has more than 64 services'
refused 'G3: a service that is ready by nothing' "$x services.web = { command = \"x\"; ready = { }; };" 'services.web.ready: has neither port nor command nor notify'
refused 'G3: a port that is none' "$x services.web = { command = \"x\"; ready.port = 0; };" 'services.web.ready.port: expected a port from 1 to 65535, got 0'
taken 'G1: a path may stand where a text may' "$x env.A = /work/flake.nix; services.web = { command = [ \"cat\" /work/flake.nix 5 ]; cwd = /work/tools; }; files.\"/x\" = /work/tools;"

# ---- The reference page: its headings are the library's table, its examples evaluate ----

page=$MVM_SOURCE/docs/images.md
mkdir "$cases/www"
echo '<p>' >"$cases/www/index.html"
echo 'touch' >"$cases/tools/bin/tool"
cat >>"$cases/lines" <<'N'
pkgs = { hello = /work/www; }
let walk = where: t: if t ? fields then builtins.concatMap (n: [ "${where}${n}" ] ++ walk "${where}${n}." t.fields.${n}.type) (builtins.attrNames t.fields) else if t ? word then walk "${where}${t.word}." t.inner else if t ? inner then walk where t.inner else [ ]; in "arguments ${toString (walk "" (import /usr/share/mvm/nix/lib/arguments.nix (import /usr/share/mvm/nix/lib/check.nix)))}"
N
headings=$(sed -n 's/^### `\(.*\)`$/\1/p' "$page")
for heading in $headings; do
    example=$(awk -v h="### \`$heading\`" '$0 == h { of = 1; next } /^##/ { of = 0 } of && /^```nix$/ { code = 1; next } /^```$/ { code = 0 } code' "$page" |
        tr '\n' ' ' | sed "s/''/\"/g; s|\\./|/work/|g")
    case $heading in name) base='command = "true";' ;; command) base='name = "x";' ;; *) base=$x ;; esac
    n=$((n + 1))
    printf '"case %s"\n(guest { %s }).name\n' "$n" "$base $example" >>"$cases/lines"
    printf '%s\tG4: the example of %s in docs/images.md evaluates\t-image"\n' "$n" "$heading" >>"$tmp/wanted"
done
(cd "$cases" && mvm dev shell -- sh -c 'nix repl --quiet <lines 2>&1') </dev/null | sed 's/\x1b\[[0-9;]*m//g' >"$tmp/answers"
while IFS="$(printf '\t')" read -r i name wanted; do
    answer=$(awk -v first="\"case $i\"" '$0 == first { on = 1; next } /^"case / { on = 0 } on' "$tmp/answers")
    has "$name" "$answer" "$(printf %s "$wanted" | sed 's/[][?\\]/\\&/g')"
done <"$tmp/wanted"
arguments=$(sed -n 's/^"arguments \(.*\)"$/\1/p' "$tmp/answers" | tr ' ' '\n' | sort)
is 'G4: docs/images.md has each argument and no other' "$(printf '%s\n' "$headings" | sort)" "$arguments"

# ---- What is in the image ----

flake=$tmp/refers
mkdir -p "$flake/dir/bin" "$flake/www/sub"
printf '#!/bin/sh\necho of a folder\n' >"$flake/dir/bin/of-folder"
printf '#!/bin/sh\necho a script\n' >"$flake/script"
chmod +x "$flake/dir/bin/of-folder" "$flake/script"
echo page >"$flake/www/sub/page"
ln -s sub/page "$flake/www/link"
cat >"$flake/flake.nix" <<'N'
{
  inputs.mvm.url = "mvm";
  inputs.tools.url = "mvm-tools";
  outputs = { self, mvm, tools }: let
    bb = "${tools}/bin/busybox";
    # A program that refers to a file of its name.
    thing = name: let
      deep = derivation { inherit name; system = "x86_64-linux"; builder = bb; args = [ "sh" "-c" "echo deep ${name} >$out" ]; };
    in derivation {
      name = "${name}-top"; system = "x86_64-linux"; builder = bb;
      args = [ "sh" "-c" "${bb} mkdir -p $out/bin; printf '#!/bin/sh\\ncat ${deep}\\n' >$out/bin/${name}; ${bb} chmod +x $out/bin/${name}" ];
    };
  in {
    packages.x86_64-linux.default = mvm.lib.x86_64-linux.mkGuest {
      name = "refers";
      network.allow = [ "*.example.org:443" ];
      packages = [ ./dir (thing "package") ];
      files = {
        "/opt/copy".source = "${thing "copied"}/bin/copied";
        "/opt/text".text = "${thing "text"}";
        "/opt/script" = ./script;
        "/opt/secret" = { source = ./script; mode = "0600"; };
        "/srv/www".source = ./www;
        "/srv/www/more" = "more";
        "/usr/bin/wget" = { text = "#!/bin/sh\necho not of busybox\n"; mode = "0755"; };
      };
      env.OF_IMAGE = thing "env";
      users.www.shell = "${thing "shell"}/bin/shell";
      users.app = { uid = 4000000; group = "data"; home = "/srv/app"; shell = "/bin/false"; };
      groups.data = { gid = 70000; members = [ "www" ]; };
      services.www = { command = "umask 077; id >who; echo $PWD $USER >>who"; user = "www"; restart = "no"; };
      services.one = { command = [ "${thing "word"}/bin/word" ]; env.OF_SERVICE = thing "service"; restart = "no"; };
    };
  };
}
N
run mvm run --flake "$flake" --name r
is 'G1: an image that refers to much is built and boots' "$status" 0
run mvm inspect r --json
is 'what an image wishes to reach counts within the policy' "$(json '[.network, .image_network]' | jq -c .)" \
    '["public",{"policy":"listed","allow":["*.example.org:443"]}]'
# shellcheck disable=SC2016 # the guest's variables
run mvm exec r -- sh -c 'of-folder; package; sh /opt/copy; sh $(cat /opt/text)/bin/text; /opt/script; sh $OF_IMAGE/bin/env; sh $(sed -n "s/^www:.*://p" /etc/passwd); ls -d /nix/store/*-service-top/bin/service; /usr/bin/wget'
is 'G1: all of it is there' "$(printf '%s\n' "$out" | sed 's|/nix/store/[^-]*-||' | tr '\n' ',')" \
    'of a folder,deep package,deep copied,deep text,a script,deep env,deep shell,service-top/bin/service,not of busybox,'
check 'G1: a service runs what only its command names' eventually 10 sh -c "'$MVMCTL' logs r | grep -q 'one: deep word'"
run mvm exec r -- sh -c 'cat /srv/www/link /srv/www/more; stat -c %a /srv/www /srv/www/sub/page /opt/script /opt/secret | tr "\n" " "; ls /nix/store | grep -c -e -www -e -roots -e graph -e copied-top'
is 'G1: a folder is a source, with plain modes, and what is copied is there once' "$(printf '%s\n' "$out" | tr '\n' ',')" 'page,more755 644 755 600 0,'
run mvm exec r -- sh -c 'while [ ! -s /home/www/who ]; do sleep 0.1; done; cat /home/www/who; stat -c "%n %u:%g %a" /home/www/who /home/www /srv/app; tail -n 3 /etc/group; grep app: /etc/passwd'
is 'G2: a service runs as the user that the image declares, in its home' "$(printf '%s\n' "$out" | tr '\n' ',')" \
    'uid=1000(www) gid=1000(www) groups=70000(data),/home/www www,/home/www/who 1000:1000 600,/home/www 1000:1000 700,/srv/app 4000000:70000 700,root:x:0:,tty:x:5:,www:x:1000:,app:x:4000000:70000:app:/srv/app:/bin/false,'
is 'G2: exec knows it' "$(mvm exec -u app r -- id -un)" app
mvm down r >/dev/null

sed -i 's/name = "refers"/nam = "refers"/' "$flake/flake.nix"
run mvm build --flake "$flake"
is 'G4: a build that is refused fails in phase nix-eval' "$status" 11
has 'G4: and names the argument' "$err" "mkGuest: unknown argument 'nam': did you mean name\\?"
finish
