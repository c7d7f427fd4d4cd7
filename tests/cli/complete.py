#!/usr/bin/env python3
"""Types a line and Tab into a real shell and prints what the line became: complete.py SHELL SCRIPT LINE..."""

import sys

import pexpect

shell, script, *lines = sys.argv[1:]
start = {
    "bash": ["bash", ["--norc", "--noprofile"], "source '%s'; bind 'set bell-style none'"],
    "zsh": ["zsh", ["-f"], "bindkey -e; unsetopt beep auto_remove_slash; autoload -U compinit; compinit -D -u; source '%s'"],
}[shell]
p = pexpect.spawn(start[0], start[1], encoding="utf-8", timeout=20, dimensions=(50, 400), echo=False)
p.sendline("PS1='$ '; stty -echo; " + start[2] % script + "; echo re''ady")
p.expect("ready")
for line in lines:
    # The line that completion leaves becomes the words of printf: what it prints is between the marks.
    p.send(line + "\t\x01printf '<%s>' mar''k \x05 mar''kend\r")
    p.expect(r"<mark>(.*)<markend>")
    print(p.match.group(1)[1:-1].replace("><", " "))
p.close(force=True)
