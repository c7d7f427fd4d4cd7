#!/bin/sh
# Writes the seeds that are made by hand: attacks of several steps, which a fuzzer seldom meets by chance. The other
# files of a corpus were found by fuzzing (fuzz-NAME -set_cover_merge=1 -use_counters=0).
set -eu
cd "$(dirname "$0")/corpus"
mkdir -p packet dns answerer rule text qmp http nixlog dhcp guestconf flakenix lockfile manifest nar spec ext4 gitrepo githead closure kernel port

# seed FILE BYTES: each file is the hex digits given.
seed() {
    file=$1
    shift
    # shellcheck disable=SC2059,SC2046 # the format is made of the bytes
    printf "$(printf '%s' "$*" | tr -d ' ' | sed 's/../0x& /g' | xargs printf '\\%03o')" >"$file"
}

# repeat N HEX
repeat() {
    n=$1
    while [ "$n" -gt 0 ]; do
        printf '%s' "$2"
        n=$((n - 1))
    done
}

# length, stream, type, channel, reserved, payload
seed frame/hand-reserved-bits        01000000 01000000 03 00 0001 61
seed frame/hand-empty-record         00000000 01000000 03 00 0000
seed frame/hand-length-beyond        01000100 01000000 03 00 0000 61
seed frame/hand-all-types            01000000 00000000 01000000 61 01000000 01000000 02000000 61 \
    01000000 01000000 03040000 61 04000000 01000000 04000000 01000000 00000000 01000000 05000000 \
    01000000 01000000 06000000 61 01000000 00000000 07000000 61

# type, version, fields
seed msg/hand-field-beyond-the-end   12 01 01 05000000 61
seed msg/hand-text-of-32-in-32       35 01 01 20000000 "$(repeat 32 61)"
seed msg/hand-seed-of-65             13 01 01 41000000 "$(repeat 65 61)"
seed msg/hand-nul-inside             02 01 01 03000000 610062
seed msg/hand-cwd-twice              20 01 01 01000000 61 03 01000000 61 03 01000000 62

# mood, then steps (fuzz-mux.c, act)
seed mux/hand-window-ignored         00 0800 02010001 00 f900 030101ffff
seed mux/hand-reset-in-closed        08 0800 02010001 00 0800 05010000 00
seed mux/hand-writable-ends-others   28 0100 0100 0201ffff 0201ffff 0201ffff 0201ffff 0201ffff \
    0203ffff 0203ffff 0203ffff 0203ffff 0203ffff 0600ff 0600ff
seed mux/hand-empty-record           00 0800 02010001 00 00000c 000000000100000003000000
seed mux/hand-send-beyond-window     20 0100 "$(repeat 20 0201ffff0600ff0600ff0600ff)"

# steps (fuzz-tree.c, act): 05 is an entry: name, kind, mode, size / 33, target; 02 is a chunk: offset / 17, length, byte
seed tree/hand-file-through-symlink  05 01 03 ff01 0000 0e 05 04 01 ff01 0100 00 02 0000 0500 61 01
seed tree/hand-file-over-symlink     05 00 03 ff01 0000 05 05 00 01 ff01 0100 00 02 0000 0500 61 01
seed tree/hand-folder-over-symlink   05 01 03 ff01 0000 0e 05 01 02 ff01 0000 00 05 04 01 ff01 0100 00 01
seed tree/hand-link-through-symlink  05 01 03 ff01 0000 0e 05 04 03 ff01 0000 00 01
seed tree/hand-dots-inside           05 00 02 ff01 0000 00 05 0a 01 ff01 0100 00 01
seed tree/hand-dots-outside          05 05 01 ff01 0100 00 01
seed tree/hand-overlap               05 00 01 ff01 0001 00 02 0000 6400 61 02 0100 6400 61 01
seed tree/hand-wrong-checksum        05 00 01 ff01 0001 00 02 0000 6400 01 01

# policy; then of each frame how it is mended (1 MAC and type, 2 IPv6, 4 ARP, 8 source, 16 from outside) and its length
ethernet4="525500000202 525400123456 0800"
ethernet6="525500000202 525400123456 86dd"
from6=fd6d766d000000000000000000000015
seed packet/hand-metadata            01 09 3600 "$ethernet4" 4500 0028 0000 4000 4006 0000 0a00020f a9fea9fe 9c40 0050 00000000 00000000 5002 0000 0000 0000
seed packet/hand-public-and-back     01 09 2b00 "$ethernet4" 4500 001d 0000 4000 4011 0000 0a00020f 08080808 1388 0035 0009 0000 61 \
    11 2b00 525400123456 525500000202 0800 4500 001d 0000 4000 4011 0000 08080808 0a00020f 0035 1388 0009 0000 61
seed packet/hand-fragments           01 09 3600 "$ethernet4" 4500 0028 0001 2000 4006 0000 0a00020f 08080808 9c40 0050 00000000 00000000 5002 0000 0000 0000 \
    09 3600 "$ethernet4" 4500 0028 0001 0001 4006 0000 0a00020f 08080808 9c40 0016 00000000 00000000 5002 0000 0000 0000
seed packet/hand-mapped-loopback     02 03 4a00 "$ethernet6" 60000000 0014 06 40 "$from6" 00000000000000000000ffff7f000001 9c40 1f90 00000000 00000000 5002 0000 0000 0000
seed packet/hand-dns                 03 09 2b00 "$ethernet4" 4500 001d 0000 4000 4011 0000 0a00020f 0a000203 1388 0035 0009 0000 61
seed packet/hand-host-port           03 09 3600 "$ethernet4" 4500 0028 0000 4000 4006 0000 0a00020f 0a000202 9c40 1f90 00000000 00000000 5002 0000 0000 0000
seed packet/hand-router-claimed      01 03 5600 "$ethernet6" 60000000 0020 3a ff "$from6" ff020000000000000000000000000001 8800 0000 60000000 fd6d766d000000000000000000000002 0201 525400123456
seed packet/hand-router-advertised   01 03 4600 "$ethernet6" 60000000 0010 3a ff fe80000000000000505400fffe123456 ff020000000000000000000000000001 8600 0000 40000708 00000000 00000000
seed packet/hand-arp-for-router      01 05 2a00 ffffffffffff 525400123456 0806 0001 0800 06 04 0002 525400123456 0a000202 000000000000 0a000202
seed packet/hand-membership          01 03 5a00 "$ethernet6" 60000000 0024 00 01 fe80000000000000505400fffe123456 ff020000000000000000000000000016 3a00 0502 0000 0100 8f00 0000 00000001 04000000 "$(repeat 16 00)"
question="076578616d706c65 036f7267 00 0001 0001"
seed dns/hand-query                  1234 0100 0001 0000 0000 0001 "$question" 00 0029 04d0 00000000 0000
seed dns/hand-alias                  1234 8180 0001 0002 0000 0000 "$question" c00c 0005 0001 0000003c 0006 03777777 c00c 03777777 c00c 0001 0001 0000003c 0004 08080808
seed dns/hand-soa                    1234 8183 0001 0000 0001 0000 "$question" c014 0006 0001 0000003c 0018 c00c c014 00000001 00000002 00000003 00000004 00000005
seed dns/hand-pointers-in-a-circle   1234 8180 0001 0001 0000 0000 "$question" c01f c01d 0001 0001 0000003c 0004 08080808
seed dns/hand-stream                 001d 1234 0100 0001 0000 0000 0000 "$question"
# steps: 00 query (name, type), 01 the same over TCP, 02 answer (flags, counts, length, records), 14 time
seed answerer/hand-good              00 04 02 00 01 10 c00c 0001 0001 0000003c 0004 08080808 00 00 01 02 00 01 10 c00c 0001 0001 0000003c 0004 08080808
seed answerer/hand-rebinding         00 00 00 01 02 00 01 10 c00c 0001 0001 0000003c 0004 7f000001 00 00 01 02 00 01 10 c00c 0001 0001 0000003c 0004 0a000005
seed answerer/hand-cut-then-tcp      01 01 00 01 02 02 00 00 02 00 01 10 c00c 0001 0001 0000003c 0004 08080808
seed answerer/hand-time              01 00 00 01 f4 f4 f4 f4 f4 f4 07 00 f4
seed answerer/hand-refused           00 00 02 01 00 03 01 00 04 01

# text FILE TEXT: escapes as for printf %b.
text() {
    printf '%b' "$2" >"$1"
}
text toml/hand-strings      'a = "\\u00e9\\U0001F600\\t" # c\nb = """\nx\\\\\n  y""""\n\047c d\047 = \047\047\047z\047\047\047\n'
text toml/hand-numbers      'a = [0xdead_beef, 0o7, 0b1, -1_000, 1.5e-3, +inf, nan, true]\n'
text toml/hand-datetimes    'a = [1979-05-27T07:32:00.5Z, 1979-05-27 07:32:00-07:00, 1979-05-27, 07:32:00]\r\n'
text toml/hand-tables       '[a.b]\nc.d = {e.f = [{}, [1]]}\n[[g]]\n[g.h]\n[[g]]\n[a]\n'
text toml/hand-redefinition '[a.b.c]\nz = 9\n[a]\nb.c.t = 9\n'
text toml/hand-deep         "a = $(repeat 40 '[')"
text toml/hand-surrogate    'a = "\0355\0240\0200"'
# minisign/hand-*: a public key, secret keys without and with a password, signatures of both kinds, by Debian's minisign.

text rule/hand-name '*.example.org:443/tcp'
text rule/hand-range '[fd00::/8]:443/udp'
text rule/hand-host 'host:8080'
text rule/hand-wrapped '::ffff:10.0.0.1'
text text/hand-escapes      '\033[31mred\033[0m \033]0;title\007 \0302\0233 \0342\0200\0256 \r\nb\rc\td\177'
text text/hand-broken       '\0355\0240\0200\0364\0220\0200\0200\0300\0200\0342\0202'

# a piece's size, then the lines
text qmp/hand-saved '\377{"QMP": {"version": {}}}\r\n{"return": {}}\r\n{"timestamp": {}, "event": "STOP"}\r\n{"event": "MIGRATION", "data": {"status": "completed"}}\r\n'
text qmp/hand-failed '\007{"id": "task", "error": {"class": "GenericError", "desc": "no\\u001b[31m"}}\n{"error": {}, "id": "cont"}\n{"event": "MIGRATION", "data": {"status": "failed"}}\n{"return": {}, "id": "stop"}\n{"return": {}, "id": "cont"}\n'

# whether it is to continue, a piece's size, then the answers
none='HTTP/1.1 204 \r\nServer: Firecracker API\r\n\r\n'
text http/hand-boots "\000\377$none$none$none$none$none$none$none$none$none"
text http/hand-refused '\000\003HTTP/1.1 400 \r\nContent-Length: 29\r\n\r\n{"fault_message":"no\\u001b[31m"}'
text http/hand-wordless '\001\377HTTP/1.1 400 \r\nContent-Length: 20\r\n\r\n{"fault_message":""}HTTP/1.1 500 x\r\ncontent-length:0\r\n\r\n'
text http/hand-too-many "\001\377$none$none$none$none$none$none"
text http/hand-lengths '\001\377HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx'
text http/hand-chunks '\001\377HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
text http/hand-endless '\001\377HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n'

log_start='@nix {"action":"start","id":1,"type":105,"fields":["/nix/store/00000000000000000000000000000000-hello.drv","",1,1]}'
text nixlog/hand-build "$log_start"'\n@nix {"action":"result","id":1,"type":101,"fields":["trying http://x/\\u001b[31my"]}\n@nix {"action":"result","id":1,"type":101,"fields":["curl: (6) no"]}\n@nix {"action":"msg","level":0,"msg":"builder for '"'/nix/store/00000000000000000000000000000000-hello.drv' failed with exit code 9; last 1 log lines:\\\\n > x;\\\\n"'"}\n@nix {"action":"stop","id":1}\n'
text nixlog/hand-counts '@nix {"action":"start","id":2,"type":104}\n@nix {"action":"result","id":2,"type":105,"fields":[3,2,1,0]}\n@nix {"action":"start","id":3,"type":101,"fields":["https://x/y.nar"]}\n@nix {"action":"result","id":3,"type":105,"fields":[-1,9223372036854775807]}\n@nix {"action":"result","id":3,"type":106,"fields":[101,5]}\n\nplain\n'
text nixlog/hand-hash '@nix {"action":"msg","level":0,"msg":"error: hash mismatch in fixed-output derivation '"'/nix/store/00000000000000000000000000000000-x.drv'"':\\n specified: sha256-a\\n got: sha256-b"}\n@nix {"action":"msg","level":0,"msg":"NAR hash mismatch in input '"'path:/x', expected 'a' but got 'b'"'"}\n'

# how many there may be, less one, then the text
text port/hand-full      '\0000127.0.0.1:8080:80/tcp'
text port/hand-ipv6      '\0000[::ffff:1.2.3.4]:0:53/udp'
text port/hand-range     '\000765528-65535:9000-9007'
text port/hand-too-many  '\00771-65535:1-65535'
text port/hand-path      '\0000unix:/run/a:b/c:80/tcp'
text port/hand-longest   "\0000unix:/$(repeat 106 a):65535"
text port/hand-overflow  '\00004294967376:18446744073709551696'

# an offer: op, addresses, card, cookie, options
seed dhcp/hand-offer "02010600 216d766d 00000000 00000000 0a00020f $(repeat 8 00) 026d766d0001 $(repeat 202 00) 63825363 350102 0104ffffff00 03040a000202 06040a000203 36040a000202 330400015180 ff"
seed dhcp/hand-length-beyond "02010600 216d766d 00000000 00000000 0a00020f $(repeat 8 00) 026d766d0001 $(repeat 202 00) 63825363 350102 0304"

text guestconf/hand-services '# comment\nhostname web\nnetwork dhcp\nenv A=%%00b%%41\nservice x\narg /bin/sh\narg -c%%20y\nenv B=\nuser 1000\ncwd /\nrestart on-failure\nservice y\n'
text guestconf/hand-users 'me\nroot:x:0:0::/root:/bin/sh\nme:x:1000:100::/home/me:/bin/sh\n4294967295:x:-1:0:::\n\014wheel:x:10:me,other\nme:x:100:\n'

text flakenix/hand-inputs '{ # "path:/no"\n /* "path:/no" */ inputs.a.url = "path:/a%%20b///?x=1#y"; inputs.b = { type = "path"; path = "/b"; }; inputs.c.url = "/c"; d = "git+file:///d\\"e'
text flakenix/hand-strings '{ description = '"''"'5" $${ '"''"'${ '"''"'\\" ${"}"} '"''"'; "inputs".${"a"} = rec { url = ( path:/a ); }; inputs = { b = { "type" = '"''"'\n path'"''"'; path = "/b"; x = "${"${"\\"${x}"}"} $${"; }; }; outputs = { self, ... }: let x = a/b; in [ ./c/${d} ]; }'
text flakenix/hand-url 'git+file:///a%%2fb%%00%%zz/'

text lockfile/hand-provided '{"nodes":{"root":{"inputs":{"mvm":"mvm","x":["mvm","tools"],"p":"p"}},"mvm":{"inputs":{"tools":"t"},"original":{"type":"indirect","id":"mvm"}},"t":{"original":{"type":"indirect","id":"mvm-tools"}},"p":{"original":{"type":"path","path":"/p"},"locked":{}}},"root":"root","version":7}'
text lockfile/hand-damaged '{"nodes":{"root":[],"a":{"inputs":{"b":7},"original":{"type":"path","path":"x"}}},"root":"a","version":7}'

zeros=$(repeat 64 30)
digest=$(printf '%s' "$zeros" | sed 's/30/0/g')
text manifest/hand-manifest '\0{"schema_version":1,"artifacts":{"vmlinux":{"size":1,"sha256":"'"$digest"'"},"rootfs.ext4":{"size":0,"sha256":"'"$digest"'"}}}'
text manifest/hand-image '\001{"name":"hello","system":"x86_64-linux","agent_protocol":1,"memory_mib":256,"vcpus":null,"kernel_kind":"slim","devices":"cmdline","boot_budget_minstr":5}'
text manifest/hand-offers '\001{"name":"hello","system":"x86_64-linux","kernel_offers":["mmio-acpi","pci","console","other"]}'
text manifest/hand-run '\002{"schema_version":1,"name":"a","role":"runtime","image":"","backend":"qemu","hostname":"a","image_path":"/i","store_disk":"","snapshots":"","accel":"tcg","accel_reason":"","tsc_khz":1,"memory_mib":256,"vcpus":1,"timeout_ms":1,"idle_ms":0,"started_at":1,"start_mono":1,"transient":true,"counting":-1}'
text manifest/hand-meta '\003{"backend":"backend","machine":"machine","cpu":"cpu","tsc_khz":0,"store_size":0,"hello":{"protocol":1,"role":"runtime","kernel":"6.1","boot_ns":1,"ready_ns":-2}}'

# steps: kind, a path's length and bytes, what belongs to it
seed nar/hand-tree 00 03 642f65 04 01 61 61626364 0c 03 642f66 0102030405060708090a0b0c 01 01 6c 01 61 02 02 642a
text spec/hand-all '# all of them\ndir 0700 /d\nfile 0644 /f @s@/d/f\ntext 0600 /t x%%00y\nlink /l /t\ntree /r @s@/d\nstore graph\nbin /bin /nix/store/00000000000000000000000000000000-hello\nlabel fuzz\nspare 65536\nuuid-from me\ntime 5\nchar 0600 /dev/null 1 3\nconcat 0644 /c @s@/d\ntext 0644 /a/b q\nsubst 0644 /s @s@/t\ndrop /r/*\n'
text spec/hand-below-link 'link /a /etc\ntext 644 /a/b c\n'
text spec/hand-dots 'text 644 /a/../b c\n'
# how much of the image; then how and how many bytes, where, the bytes
seed ext4/hand-whole 00
seed ext4/hand-cut 80
seed ext4/hand-block-size 00 0d 1800 ffffffff
seed ext4/hand-huge-file 00 1f 0400 ffffffffffffffff 0f 0500 ffffffff 1f 040b ffffffffffffffff
# which file, its content
text gitrepo/hand-gitdir    '\0gitdir: /etc\n'
text gitrepo/hand-common    '\001../../..\n'
text gitrepo/hand-alternate '\002# x\n/etc\n../objects\n'
text gitrepo/hand-config    '\003[extensions]\n objectFormat = "sha256"\n'
index_head='44495243 00000002'
seed gitrepo/hand-index-empty 06 "$index_head" 00000000
seed gitrepo/hand-index-one 06 "$index_head" 00000001 "$(repeat 24 00)" 000081a4 "$(repeat 12 00)" "$(repeat 20 11)" 0007 2e2e2f2e2e2f78 000000
seed gitrepo/hand-index-unsigned 05 "$index_head" 00000000
seed gitrepo/hand-index-split 06 "$index_head" 00000000 6c696e6b 00000014 "$(repeat 20 00)"

# object TYPE TEXT: the step that makes it (0 a blob, 1 a tree, 2 a commit); escapes as for printf %b. Bytes 1 and 2 stand for
# the name of the object whose number follows.
object() {
    hex=$(printf '%b' "$2" | od -An -v -tx1 | tr -d ' \n')
    printf '%02x%02x%s' "$1" $((${#hex} / 2)) "$hex"
}
by='committer a <b> 1700000000 +0000\n\nm\n'
# an entry of the index: 3 + 4 * the path's length, its object, the path
seed githead/hand-clean "$(object 0 a)" 07 00 66 "$(object 1 '100644 f\0\001\0')" "$(object 2 "tree \\0002\\0001\\n$by")"
seed githead/hand-history "$(object 1 '')" "$(object 2 "tree \\0002\\0000\\n$by")" \
    "$(object 2 "tree \\0002\\0000\\nparent \\0002\\0001\\n$by")" \
    "$(object 2 "tree \\0002\\0000\\nparent \\0002\\0001\\nparent \\0002\\0002\\n$by")"
bomb=$(object 1 '')
for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29; do
    below=$(printf '\\0001\\0%03o' "$i")
    bomb=$bomb$(object 1 "40000 a\\0$below""40000 b\\0$below")
done
seed githead/hand-bomb "$bomb" "$(object 2 "tree \\0002\\0036\\n$by")"

path=/nix/store/00000000000000000000000000000000
text closure/hand-two "$path-a\n\n1\n$path-b\n$path-b\n$path-b.drv\n0\n"
text closure/hand-not-listed "$path-a\n\n1\n$path-c\n"
text closure/hand-early "$path-a\n\n3\n$path-a\n"

# an ELF file for x86-64 with one program header, a bzImage with one that is compressed, one whose payload lies outside
elf="7f454c4602010100 $(repeat 8 00) 0200 3e00 01000000 $(repeat 8 00) 4000000000000000 $(repeat 8 00) 00000000 4000 3800 0100 000000000000"
seed kernel/hand-elf "$elf" 0100000005000000 "$(repeat 48 00)"
seed kernel/hand-gzip 1f8b080000000000000313abf77163620400d4a5c8e305000000
seed kernel/hand-outside "$(repeat 513 00)" 00 48647253 0802 "$(repeat 6 00)" 0001 "$(repeat 56 00)" ffffffff ffffffff
seed kernel/hand-inside "$(repeat 497 00)" 01 "$(repeat 16 00)" 48647253 0802 "$(repeat 6 00)" 9001 "$(repeat 56 00)" 00000000 40000000 "$(repeat 320 00)" 362e3100 "$(repeat 108 00)" "$elf"
text kernel/hand-banner 'Linux version %%s\0Linux version 6.1.0-x (a)'
