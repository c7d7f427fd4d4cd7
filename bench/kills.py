"""Rounds of SIGKILL: one process of mvm dies at a random moment of a command. Nothing is lost: what the command was for is right
when it is done again. Nothing is left: no process, mount, folder of a VM, or file that a command had begun."""
import json, os, pathlib, random, re, signal, subprocess, sys, time

BEGUN = re.compile(r"\.tmp$|^\.stage|\.part$|^\.mvm-part-|^\.new|\.new$|^\.nix-store-copy-|^\.verify|^\.fetch")
SIZE = 40_000_000
GONE_SECONDS = 15


def environment(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def name(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def descendants(pid):
    found = [pid]
    try:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += descendants(int(child))
    except OSError:
        pass
    return found


class Kills:
    def __init__(self, b, start_build):
        self.b = b
        self.start_build = start_build
        self.flake = b.flake()
        self.problems = []
        self.victims = {}
        self.tag = 0
        b.mvm("up", "--flake", self.flake, "--name", "base")
        b.mvm("exec", "base", "--", "sh", "-c", "echo kept >/etc/kept")
        if "base:kept" not in b.mvm("snapshot", "ls", "--names"):
            b.mvm("snapshot", "create", "base", "kept")
        self.file = b.home / "file"
        self.file.write_bytes(os.urandom(SIZE))
        b.mvm("cp", str(self.file), "base:/tmp/file")
        self.out = b.home / "out"
        self.out.mkdir(exist_ok=True)

    def start(self, *words):
        return subprocess.Popen([self.b.mvmctl, *words], env=self.b.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def must(self, what, *words):
        p = subprocess.run([self.b.mvmctl, *words], env=self.b.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
        if p.returncode:
            self.problem(f"{what}: {' '.join(words)}: {p.stderr.strip()}")
        return p.stdout

    def problem(self, text):
        self.problems.append(text)
        print(f"kills: {text}", file=sys.stderr, flush=True)

    # What is killed, and what is done again afterwards.

    def build(self):
        return self.start_build(self.b)

    def build_again(self):
        if self.start_build(self.b).wait():
            self.problem("the next build fails")

    def up(self):
        return self.start("up", "--flake", self.flake, "--name", "fresh", *random.choice([[], ["--cold"]]))

    def up_again(self):
        self.b.mvm("down", "fresh", check=False)
        self.must("the next up", "up", "--flake", self.flake, "--name", "fresh")
        self.must("and its guest", "exec", "fresh", "--", "/bin/true")

    def cp(self):
        self.inward = random.choice([True, False])
        return self.start("cp", *([self.file, "base:/tmp/file"] if self.inward else ["base:/tmp/file", self.out]))

    def cp_again(self):
        self.must("the next cp in", "cp", self.file, "base:/tmp/file")
        self.must("the next cp out", "cp", "base:/tmp/file", self.out)
        if (self.out / "file").read_bytes() != self.file.read_bytes():
            self.problem("a copy is wrong")
        if os.listdir(self.out) != ["file"]:
            self.problem(f"cp leaves {os.listdir(self.out)}")

    def fork(self):
        return self.start("fork", "base", "copy")

    def fork_again(self):
        self.b.mvm("down", "copy", check=False)
        self.must("the next fork", "fork", "base", "copy")
        if self.must("and its guest", "exec", "copy", "--", "cat", "/etc/kept") != "kept\n":
            self.problem("a fork lacks a file")

    def snapshot(self):
        self.tag += 1
        return self.start("snapshot", "create", "base", f"t{self.tag}")

    def snapshot_again(self):
        tags = self.b.mvm("snapshot", "ls", "--names").split()
        if f"base:t{self.tag}" not in tags:
            self.must("the next snapshot", "snapshot", "create", "base", f"t{self.tag}")
        self.must("what is listed", "up", "--from", f"base:t{self.tag}", "--name", "fresh")
        if self.must("and its guest", "exec", "fresh", "--", "cat", "/etc/kept") != "kept\n":
            self.problem("a snapshot lacks a file")
        self.must("removing it", "snapshot", "rm", "base", f"t{self.tag}")

    # A round.

    def supervisors(self):
        mark = f"MVM_HOME={self.b.env['MVM_HOME']}".encode()
        return [int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*") if mark in environment(p.name)]

    def kill_one(self, p, command):
        others = [x for s in self.supervisors() for x in descendants(s) if x != p.pid]
        pid = p.pid if not others or random.random() < 0.3 else random.choice(others)
        self.victims.setdefault(command, []).append(name(pid))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def keep_base(self):
        """base may be what died; then it goes on from what was saved first."""
        if subprocess.run([self.b.mvmctl, "exec", "base", "--", "/bin/true"], env=self.b.env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return
        self.b.mvm("down", "base", check=False)
        self.must("the first snapshot", "up", "--from", "base:kept", "--name", "base")
        self.must("filling it", "cp", self.file, "base:/tmp/file")

    def left(self):
        """What there is beyond base and the builder."""
        roots = [self.b.env["MVM_HOME"], self.b.env["MVM_CACHE_DIR"]]
        found = [str(f) for root in roots for f in pathlib.Path(root).rglob("*") if BEGUN.search(f.name)]
        found += [f"mount {line.split()[1]}" for line in open("/proc/self/mounts") if str(self.b.home) in line]
        found += [str(f) for f in (pathlib.Path(roots[0]) / "vms").iterdir() if f.name not in ("base", "builder")]
        running = [s for s in self.supervisors() if name(s) == "mvm-supervisor"]
        roots = [s for s in running if not any(s in descendants(o)[1:] for o in running)]
        if len(roots) > 2 or any(name(s) == "mvmctl" for s in self.supervisors()):
            found += [f"process {s} {name(s)}" for s in self.supervisors()]
        return found

    def check_left(self):
        deadline = time.monotonic() + GONE_SECONDS
        while (found := self.left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        if found:
            self.problem(f"left: {', '.join(found)}")

    def round(self, command, seconds):
        p = getattr(self, command)()
        if seconds:
            time.sleep(random.uniform(0, seconds))
            self.kill_one(p, command)
        p.wait()
        self.keep_base()
        start = time.monotonic_ns()
        getattr(self, command + "_again")()
        ms = (time.monotonic_ns() - start) / 1e6
        for vm in ("fresh", "copy"):
            self.b.mvm("down", vm, check=False)
        self.check_left()
        return ms


def run(b, start_build):
    k = Kills(b, start_build)
    commands = ("build", "up", "cp", "fork", "snapshot")
    random.seed(5)
    lasts = {}
    for c in commands:
        start = time.monotonic()
        p = getattr(k, c)()
        assert p.wait() == 0, f"{c} fails before anything is killed"
        lasts[c] = time.monotonic() - start
        getattr(k, c + "_again")()
        k.b.mvm("down", "fresh", "copy", check=False)
    took = {c: [] for c in commands}
    for i in range(b.n):
        c = commands[i % len(commands)]
        before = len(k.problems)
        took[c].append(round(k.round(c, lasts[c] * 1.1), 3))
        print(f"kills: round {i + 1}, {c}: {k.victims[c][-1]} died, {len(k.problems) - before} problems", file=sys.stderr, flush=True)
    b.mvm("down", "--all")
    b.mvm("dev", "down")
    disk = next((pathlib.Path(b.env["MVM_CACHE_DIR"]) / "builder-vm").glob("nix-store-*.img"))
    if subprocess.run(["e2fsck", "-fn", disk], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        k.problem("e2fsck finds the builder's store damaged")
    assert not k.problems, f"{len(k.problems)} problems in {b.n} rounds"
    return {f"{c}, done again": s for c, s in took.items() if s}
